import path from 'node:path';
import t from 'tap';
import { until } from '../engines/support.js';
import { createEventLog } from '../../src/services/jobs/event-log.js';
import { createRecordWatch, followJob } from '../../src/services/jobs/job-events.js';
import type { JobEvent } from '../../src/services/jobs/event-log.js';
import { createProgressEstimator, type TimedStage } from '../../src/services/jobs/progress-estimator.js';
import type { JobRecord } from '../../src/services/queue/job-store.js';

const stages = new Set<TimedStage>(['text', 'denoise', 'decode', 'encode', 'upload']);

/**
 * One job of 10 steps at a second each, one second for text, two for the rest; returns what it said at each
 * step.
 */
function runJob(estimator: ReturnType<typeof createProgressEstimator>, clock: { ms: number }) {
  const tracker = estimator.track('sdxl 64 64', stages);
  const said = [tracker.at('waiting'), tracker.at('text')];
  clock.ms += 1000;
  for (let step = 0; step <= 10; step += 1) {
    said.push(tracker.at('denoise', step, 10));
    if (step < 10) clock.ms += 1000;
  }
  said.push(tracker.at('decode'));
  clock.ms += 1000;
  said.push(tracker.at('upload'));
  clock.ms += 1000;
  tracker.succeeded();
  return said;
}

t.test('the time left is unknown, then guessed from the steps, then known from past jobs', async (t) => {
  const clock = { ms: 0 };
  const estimator = createProgressEstimator({ now: () => clock.ms });
  t.equal(estimator.stageSeconds('sdxl 64 64'), undefined);
  const first = runJob(estimator, clock);
  t.equal(first[1]?.etaSeconds, null);
  const atFive = first[2 + 5];
  t.ok(Math.abs((atFive?.etaSeconds ?? 0) - 7) <= 1, `${atFive?.etaSeconds} s left at step 5, really 7`);
  for (const [index, each] of first.entries())
    t.ok(each.fraction >= (first[index - 1]?.fraction ?? 0) && each.fraction < 1);

  t.same(estimator.stageSeconds('sdxl 64 64'), { text: 1, denoise: 10, decode: 1, upload: 1 });
  const second = runJob(estimator, clock);
  t.same(
    [second[1], second[2 + 5], second[2 + 10]].map((each) => each?.etaSeconds),
    [13, 7, 2],
  );
  t.ok(Math.abs((second[2 + 5]?.fraction ?? 0) - 6 / 13) < 0.001);
});

t.test(
  'pictures drawn one after another: denoising and decoding take turns, and neither counts before it is done',
  async (t) => {
    const clock = { ms: 0 };
    const estimator = createProgressEstimator({ now: () => clock.ms });
    const runBatch = () => {
      const tracker = estimator.track('three pictures', stages);
      const said = [tracker.at('text')];
      for (let picture = 0; picture < 3; picture += 1) {
        for (let step = picture * 10 + 1; step <= picture * 10 + 10; step += 1) {
          clock.ms += 1000;
          said.push(tracker.at('denoise', step, 30));
        }
        said.push(tracker.at('decode', picture, 3));
        clock.ms += 1000;
      }
      said.push(tracker.at('encode', 0, 3));
      tracker.succeeded();
      return said;
    };
    const first = runBatch();
    const atPicture = (said: typeof first, picture: number) => said[picture * 11 + 6];
    t.equal(atPicture(first, 2)?.step, 26);
    t.ok(
      Math.abs((atPicture(first, 1)?.etaSeconds ?? 0) - 17) <= 4,
      `${atPicture(first, 1)?.etaSeconds} s left in the middle, really 17`,
    );
    const second = runBatch();
    for (const said of [first, second]) {
      for (const picture of [0, 1, 2]) {
        const fraction = atPicture(said, picture)?.fraction ?? 0;
        t.ok(
          Math.abs(fraction - (picture + 0.55) / 3) < 0.15,
          `${fraction} in the middle of picture ${picture}`,
        );
      }
    }
    t.ok(
      Math.abs((atPicture(second, 2)?.etaSeconds ?? 0) - 5) <= 2,
      `${atPicture(second, 2)?.etaSeconds} s left near the end, really 5`,
    );
  },
);

t.test('a video is encoded while it is decoded: neither counts before it is done', async (t) => {
  const clock = { ms: 0 };
  const estimator = createProgressEstimator({ now: () => clock.ms });
  const runVideo = (pace = 1) => {
    const tracker = estimator.track('video', stages, ['decode', 'encode']);
    const said: Array<ReturnType<typeof tracker.at> & { done: number }> = [];
    const say = (...at: Parameters<typeof tracker.at>) => said.push({ ...tracker.at(...at), done: clock.ms });
    say('text');
    for (let step = 0; step <= 10; step += 1) {
      say('denoise', step, 10);
      if (step < 10) clock.ms += 400 * pace;
    }
    for (let frame = 1; frame <= 17; frame += 4) {
      say('decode', frame, 17);
      clock.ms += 900;
      say('encode', frame, 17);
      clock.ms += 100;
    }
    say('upload');
    tracker.succeeded();
    return said;
  };
  const start = clock.ms;
  runVideo();
  const whole = clock.ms - start;
  const begin = clock.ms;
  const second = runVideo();
  for (const { stage, step, fraction, done, etaSeconds } of second) {
    t.ok(
      Math.abs(fraction - (done - begin) / whole) < 0.13,
      `${fraction} at ${stage} ${step}, really ${(done - begin) / whole}`,
    );
    t.ok(
      Math.abs((etaSeconds ?? 0) - (whole - (done - begin)) / 1000) < 1.2,
      `${etaSeconds} s left at ${stage} ${step}`,
    );
  }
  const slow = runVideo(5).filter(({ stage }) => stage === 'denoise');
  t.ok(
    Math.abs((slow[5]?.etaSeconds ?? 0) - 15) < 1,
    `${slow[5]?.etaSeconds} s left half way at a fifth of the usual pace, really 15`,
  );
});

t.test('what was learnt survives a restart; a damaged file is learnt anew', async (t) => {
  const file = path.join(t.testdir({ damaged: '{"a":' }), 'estimates.json');
  const clock = { ms: 0 };
  const before = createProgressEstimator({ file, now: () => clock.ms });
  await before.load();
  runJob(before, clock);
  await before.saved();
  const after = createProgressEstimator({ file });
  await after.load();
  t.same(after.stageSeconds('sdxl 64 64'), before.stageSeconds('sdxl 64 64'));
  const damaged = createProgressEstimator({ file: path.join(path.dirname(file), 'damaged') });
  await damaged.load();
  t.equal(damaged.stageSeconds('sdxl 64 64'), undefined);
});

t.test('the event log keeps a bounded past with growing ids', async (t) => {
  const log = createEventLog({ perJob: 5, jobs: 2, now: () => 1000 });
  const progress = (fraction: number) => ({
    event: 'progress' as const,
    data: { stage: 'denoise', step: 1, steps: 2, fraction, etaSeconds: null },
  });
  for (let index = 0; index < 9; index += 1) log.publish('a', progress(index / 10));
  t.same(
    log.since('a', 0).map((event) => event.id),
    [1004, 1005, 1006, 1007, 1008],
  );
  t.same(
    log.since('a', 1006).map((event) => event.id),
    [1007, 1008],
  );
  const preview = (image: number, step: number) =>
    ({ event: 'preview', data: { image, images: 2, step, content_type: 'image/png', base64: '' } }) as const;
  for (const [image, step] of [
    [0, 1],
    [1, 1],
    [0, 2],
  ] as const)
    log.publish('b', preview(image, step));
  t.same(
    log.since('b', 0).map((event) => event.data),
    [preview(1, 1).data, preview(0, 2).data],
    'a preview replaces the one before of its picture',
  );
  log.publish('c', progress(0));
  t.notOk(log.lastId('a') !== undefined, 'the longest untouched job is forgotten');
});

const record = (change: Partial<JobRecord>): JobRecord => ({
  id: 'j',
  type: 'sdxl_image_fast',
  userId: 'u',
  queue: 'sdxl_queue',
  status: 'queued',
  attempts: 0,
  assets: [],
  metadata: {},
  cancelRequested: false,
  createdAtMs: 1,
  progress: { stage: 'queued', step: 0, steps: 0, fraction: 0, etaSeconds: null },
  ...change,
});

t.test('a job that runs elsewhere is followed through its record', async (t) => {
  let current = record({});
  const seen: JobEvent[] = [];
  const options = { store: { get: () => Promise.resolve(current) }, log: createEventLog(), pollMs: 10 };
  const reading = (async () => {
    for await (const event of followJob('j', 0, new AbortController().signal, options)) seen.push(event);
  })();
  await until('the first state', () => seen.length === 1);
  current = record({
    status: 'processing',
    attempts: 1,
    progress: { stage: 'denoise', step: 3, steps: 15, fraction: 0.2, etaSeconds: 4 },
  });
  await until('progress', () => seen.length === 3);
  current = record({ status: 'completed', attempts: 1, assets: ['x'], finishedAtMs: Date.now() });
  await reading;
  t.match(seen, [
    { event: 'state', data: { status: 'queued' } },
    { event: 'state', data: { status: 'processing', attempts: 1 } },
    { event: 'progress', data: { step: 3 } },
    { event: 'state', data: { status: 'completed', assets: ['x'] } },
  ]);
  t.ok(seen.every((event, index) => index === 0 || event.id > (seen[index - 1]?.id ?? 0)));

  const again: JobEvent[] = [];
  for await (const event of followJob('j', seen[2]?.id ?? 0, new AbortController().signal, options))
    again.push(event);
  t.match(again, [{ event: 'state', data: { status: 'completed' } }]);
  for await (const event of followJob('j', again[0]?.id ?? 0, new AbortController().signal, options))
    t.fail(`told twice: ${JSON.stringify(event)}`);
});

t.test('a log that ended early is completed from the record; unknown jobs and aborts end', async (t) => {
  const log = createEventLog();
  log.publish('j', { event: 'state', data: { status: 'processing', attempts: 1, assets: [] } });
  const seen: string[] = [];
  const finished = record({
    status: 'failed',
    errorMessage: 'Generation failed: x',
    finishedAtMs: Date.now() + 5,
  });
  for await (const event of followJob('j', 0, new AbortController().signal, {
    store: { get: () => Promise.resolve(finished) },
    log,
  }))
    if (event.event === 'state') seen.push(event.data.status);
  t.same(seen, ['processing', 'failed']);
  await t.rejects(
    followJob('x', 0, new AbortController().signal, {
      store: { get: () => Promise.resolve(null) },
      log,
    }).next(),
    { code: 'NOT_FOUND' },
  );
  const stop = new AbortController();
  const waiting = followJob('k', 0, stop.signal, {
    store: { get: () => Promise.resolve(record({})) },
    log,
    pollMs: 60_000,
  });
  await waiting.next();
  const next = waiting.next();
  stop.abort();
  t.same(await next, { done: true, value: undefined });
});

t.test(
  'a job that ended here, and was put back in line and ran elsewhere, is followed through its record',
  async (t) => {
    const log = createEventLog();
    for (const status of ['queued', 'processing', 'failed'] as const)
      log.publish('j', { event: 'state', data: { status, attempts: 1, assets: [] } });
    let current = record({});
    const options = { store: { get: () => Promise.resolve(current) }, log, pollMs: 10 };
    const states = async () => {
      const seen: string[] = [];
      for await (const event of followJob('j', 0, new AbortController().signal, options)) {
        if (event.event === 'state') seen.push(event.data.status);
        current = record({ status: 'completed', attempts: 1, assets: ['x'], finishedAtMs: Date.now() });
      }
      return seen;
    };
    t.same(await states(), ['queued', 'completed']);
    t.same(await states(), ['completed']);
  },
);

t.test('hundreds of followers are told everything, in order, by one reader of the record', async (t) => {
  const log = createEventLog();
  let reads = 0;
  let current: JobRecord | null = record({});
  const store = {
    get: () => {
      reads += 1;
      return Promise.resolve(current);
    },
  };
  const records = createRecordWatch(store, 10);
  const stop = new AbortController();
  const seen = Array.from({ length: 500 }, (): JobEvent[] => []);
  const reading = seen.map(async (events, index) => {
    // Every other one is gone soon.
    const signal = index % 2 === 0 ? new AbortController().signal : stop.signal;
    for await (const event of followJob('j', 0, signal, { store, records, log, pollMs: 10_000 }))
      events.push(event);
  });
  await until('the first state', () => seen.every(({ length }) => length === 1));
  const reads0 = reads;
  const progressOf = (step: number) => ({ stage: 'denoise', step, steps: 40, fraction: 0, etaSeconds: null });
  for (let step = 0; step < 40; step += 1) {
    log.publish('j', { event: 'progress', data: progressOf(step) });
    if (step === 20) stop.abort();
    if (step % 10 === 9) await new Promise((resolve) => setTimeout(resolve, 5));
  }
  await until('progress', () => seen.every(({ length }, index) => index % 2 === 1 || length === 41));
  for (const [index, events] of seen.entries())
    if (index % 2 === 0)
      t.same(
        events.slice(1).map(({ data }) => ('step' in data ? data.step : -1)),
        Array.from({ length: 40 }, (_, step) => step),
      );
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.ok(reads - reads0 < 50, `${reads - reads0} reads for 250 followers`);
  current = null;
  await Promise.all(reading);
  const readsAtEnd = reads;
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(reads, readsAtEnd, 'and nobody reads when nobody follows');
});
