import t from 'tap';
import { NotPossibleHere } from '../../src/services/jobs/failure.js';
import type { GenerateContext, GenerateOutcome } from '../../src/services/jobs/plan.js';
import { createPossibleElsewhere } from '../../src/services/jobs/possible-here.js';
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
      parts: {
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

const obstacle = (type: string) => (type === 'sdxl_image_high' ? 'no such thing here' : null);
const other = {
  workerId: 'other',
  host: 'h',
  pid: 1,
  startedAtMs: 0,
  seenAtMs: 0,
  status: { job_types: ['sdxl_image_fast', 'sdxl_image_high'] },
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
    const possibleElsewhere = createPossibleElsewhere({
      workerId: 'here',
      obstacle,
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
    t.same(await possibleElsewhere(['sdxl_image_fast']), []);
    t.equal(looks, 0, 'everything asked for is possible here');
    const ask = () => possibleElsewhere(['sdxl_image_fast', 'sdxl_image_high']);
    t.same(await ask(), [], 'nobody else can');
    instances = [other];
    t.same(await ask(), [], 'not looked yet');
    clock.ms = 10;
    t.same(await ask(), ['sdxl_image_high']);
    instances = [];
    clock.ms = 110;
    t.same(await ask(), ['sdxl_image_high']);
    clock.ms = 111;
    t.same(await ask(), []);
  },
);

t.test(
  'a job that another instance can run waits for it without costing an attempt; without one it fails with the reason',
  async (t) => {
    let seen = [other];
    const h = await harness(t, {
      parts: {
        possibleElsewhere: createPossibleElsewhere({
          workerId: 'test',
          obstacle,
          refreshMs: 0,
          patienceMs: 0,
          store: { instances: () => Promise.resolve(seen) },
        }),
      },
    });
    const { plan } = h.parts;
    h.parts.plan = (job) => {
      const why = obstacle(job.type);
      if (why !== null) throw new NotPossibleHere(why);
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
    seen = [];
    t.match(await h.ended(id), {
      status: 'failed',
      attempts: 1,
      errorMessage: 'Generation failed: no such thing here',
    });
  },
);
