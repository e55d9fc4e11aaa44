import t from 'tap';
import { NotPossibleHere } from '../../src/services/jobs/failure.js';
import type { GenerateContext, GenerateOutcome } from '../../src/services/jobs/plan.js';
import { createCapabilities } from '../../src/services/jobs/capabilities.js';
import { createProgressEstimator } from '../../src/services/jobs/progress-estimator.js';
import { until } from '../engines/support.js';
import { harness } from './support.js';

t.test(
  'the next job is taken by what the computing one still needs, not by what is encoded beside it',
  async (t) => {
    const drawing = new Map<string, { onEvent: GenerateContext['onEvent']; finish: () => void }>();
    const done: GenerateOutcome = { files: [], timings: {}, metadata: {} };
    const h = await harness(t, {
      runner: { prepareAheadSeconds: 60 },
      context: {
        // One second a step.
        estimator: {
          ...createProgressEstimator(),
          track: () => ({
            at: (stage, step = 0, steps = 0) => ({
              stage,
              step,
              steps,
              fraction: 0.5,
              etaSeconds: steps - step,
            }),
            succeeded: () => {},
            timings: () => ({}),
          }),
        },
        plan: (job) => ({
          estimateKey: 'key',
          stages: new Set(),
          references: [],
          metadata: {},
          generate: ({ onEvent }) =>
            new Promise((resolve) => {
              drawing.set(job.prompt, { onEvent, finish: () => resolve(done) });
            }),
        }),
      },
    });
    const progress = (prompt: string, stage: 'denoise' | 'encode', step: number) =>
      drawing.get(prompt)?.onEvent({ kind: 'progress', stage, step, steps: 300 });
    const ids = [await h.submit('A'), await h.submit('B'), await h.submit('C')];
    const isTaken = (index: number) => h.runner.inFlight().some(({ id }) => id === ids[index]);
    h.runner.start();
    await until('A computes', () => drawing.has('A'));
    progress('A', 'denoise', 299);
    await until('B is prepared', () => isTaken(1));
    drawing.get('A')?.onEvent({ kind: 'computeDone' });
    await until('B computes', () => drawing.has('B'));
    progress('B', 'denoise', 1);
    progress('A', 'encode', 299);
    await new Promise((resolve) => setTimeout(resolve, 100));
    t.notOk(isTaken(2), 'B has 299 s to go: C is for whoever is free');
    progress('B', 'denoise', 299);
    await until('C is prepared', () => isTaken(2));
    for (const prompt of ['A', 'B']) drawing.get(prompt)?.finish();
    await until('C computes', () => drawing.has('C'));
    drawing.get('C')?.finish();
    for (const id of ids) t.match(await h.ended(id), { status: 'completed' });
  },
);

const other = {
  workerId: 'other',
  host: 'h',
  pid: 1,
  startedAtMs: 0,
  seenAtMs: 0,
  status: { job_types: ['image_fast', 'video_fast'] },
};

t.test(
  'what is not possible here is left to an instance that can, and waited for a while when that has gone',
  async (t) => {
    const clock = { ms: 0 };
    let instances = [
      { ...other, workerId: 'here' },
      { ...other, status: {} },
    ];
    let looks = 0;
    let encodes = true;
    const { leftToOthers, possible } = createCapabilities({
      workerId: 'here',
      engines: { has: (kind) => kind === 'wan', status: () => ({ reason: null }) as never },
      videoEncoder: { available: () => encodes },
      now: () => clock.ms,
      refreshMs: 10,
      patienceMs: 100,
      store: {
        instances: () => {
          looks += 1;
          return Promise.resolve(instances);
        },
      },
    });
    const ask = () => leftToOthers('wan_queue');
    t.same(await ask(), []);
    t.equal(looks, 0, 'everything on that queue is possible here');
    encodes = false;
    t.ok(possible('wan_queue').every((type) => type.startsWith('image')));
    t.same(possible('sdxl_queue'), [], 'there is no such engine');
    t.same(await ask(), [], 'nobody else can');
    instances = [other];
    t.same(await ask(), ['video_fast'], 'one that came a moment ago');
    clock.ms = 10;
    t.same(await ask(), ['video_fast']);
    instances = [];
    clock.ms = 110;
    t.same(await ask(), ['video_fast']);
    clock.ms = 111;
    t.same(await ask(), []);
  },
);

t.test(
  'a job that another instance can run waits for it without costing an attempt; without one it fails with the reason',
  async (t) => {
    const here = { isAway: false };
    const why = 'no such thing here';
    const h = await harness(t, {
      context: {
        capabilities: { leftToOthers: () => Promise.resolve(here.isAway ? [] : ['sdxl_image_high']) },
      },
    });
    const { plan } = h.context;
    h.context.plan = (job) => {
      if (job.type === 'sdxl_image_high') throw new NotPossibleHere(why);
      return plan(job);
    };
    let reserves = 0;
    const reserve = h.store.reserve.bind(h.store);
    h.store.reserve = (request) => {
      reserves += 1;
      return reserve(request);
    };
    const id = await h.submit('not here', { type: 'sdxl_image_high' });
    const behind = await h.submit('here');
    h.runner.start();
    t.match(await h.ended(behind), { status: 'completed' });
    const before = reserves;
    await new Promise((resolve) => setTimeout(resolve, 400));
    t.ok(reserves - before < 10, `${reserves - before} reservations while it waits`);
    t.match(await h.store.get(id), { status: 'queued', attempts: 0 });
    here.isAway = true;
    t.match(await h.ended(id), { status: 'failed', attempts: 1, errorMessage: `Generation failed: ${why}` });
  },
);
