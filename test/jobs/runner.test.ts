import { randomUUID } from 'node:crypto';
import { readdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { orAborted } from '../../src/lib/wait.js';
import { EngineError } from '../../src/services/engines/engine-error.js';
import { defaultLimits } from '../../src/services/jobs/runner-context.js';
import { StorageError } from '../../src/services/storage/storage.js';
import { until } from '../engines/support.js';
import { createHarness, emptyWork, harness } from './support.js';

t.test('a job from submission to its callback', async (t) => {
  const h = await harness(t);
  h.runner.start();
  const id = await h.submit('a red circle', { config: { num_images: 3, seed: 7 } });
  const record = await h.ended(id);
  t.match(record, { status: 'completed', attempts: 1, progress: { fraction: 1 } });
  t.same(
    record.assets,
    [0, 1, 2].map((index) => `sdxl_image_fast/${h.userId}/${id}/${index}.png`),
  );
  t.same([...h.stored.values()], [1, 1, 1]);
  const callbacks = await h.callbacks();
  t.same(
    callbacks.map((each) => each.status),
    ['completed'],
    'a pending processing callback is dropped by the terminal one',
  );
  t.match(callbacks[0], {
    status: 'completed',
    job_id: id,
    metadata: {
      seed: 7,
      seeds: [7, 8, 9],
      num_images: 3,
      compel_enabled: false,
      compel_success: false,
      enhancement_strategy: 'none',
      final_prompt_type: 'string',
      original_prompt: 'a red circle',
      enhanced_prompt: 'a red circle',
      expected_time: 24,
      reference_mode: 'none',
      worker_version: '0.0.0',
      scene: 'single',
    },
  });
  await emptyWork(h.workDir);
  t.match(h.finished, [{ outcome: 'completed', assets: 3 }]);
});

t.test('events: queued, processing, progress that grows, the end', async (t) => {
  const h = await harness(t);
  const id = await h.submit('a red circle is slow');
  const seen: Array<{ id: number; event: string; data: { status?: string; fraction?: number } }> = [];
  h.runner.start();
  for await (const event of h.jobs.events(id, 0, new AbortController().signal)) seen.push(event as never);
  t.equal(seen[0]?.data.status, 'queued');
  t.equal(seen.at(-1)?.data.status, 'completed');
  const fractions = seen.filter((each) => each.event === 'progress').map((each) => each.data.fraction ?? -1);
  t.ok(fractions.length >= 15, 'every step is told');
  t.same(
    fractions,
    [...fractions].sort((a, b) => a - b),
  );
  t.ok(
    seen.every((each, index) => index === 0 || each.id > (seen[index - 1]?.id ?? 0)),
    'ids grow',
  );
  const half = seen[Math.floor(seen.length / 2)]?.id ?? 0;
  const again: number[] = [];
  for await (const event of h.jobs.events(id, half, new AbortController().signal)) again.push(event.id);
  t.same(
    again,
    seen.map((each) => each.id).filter((each) => each > half),
    'a reader that comes back misses nothing',
  );
});

t.test(
  'events of a job that was put back in line after it failed: its new run, from either side of it',
  async (t) => {
    const h = await harness(t);
    const statesOf = async (id: string) => {
      const states: string[] = [];
      for await (const event of h.jobs.events(id, 0, new AbortController().signal))
        if (event.event === 'state') states.push(event.data.status);
      return states;
    };
    h.faults.push(() => {
      throw new StorageError('no such place', 'rejected', false);
    });
    h.runner.start();
    const id = await h.submit('a circle');
    await h.ended(id);
    t.same(await statesOf(id), ['queued', 'processing', 'failed']);
    const [letter] = await h.store.deadLetters('sdxl_queue', 1);
    t.equal(await h.store.requeueDeadLetter(letter?.id ?? ''), 'requeued');
    const during = await statesOf(id);
    t.equal(during.at(-1), 'completed');
    t.notOk(during.includes('failed'));
    t.same(await statesOf(id), ['processing', 'completed']);
  },
);

t.test('progress callbacks, when asked for, under ids of their own and never after the end', async (t) => {
  const h = await harness(t, { limits: { progressCallbackMs: 50, progressIntervalMs: 20 } });
  const ids: string[] = [];
  const add = h.store.outbox.add.bind(h.store.outbox);
  h.store.outbox.add = (entry) => {
    ids.push(entry.id);
    return add(entry);
  };
  h.runner.start();
  const id = await h.submit('is slow');
  await h.ended(id);
  t.ok(ids.length >= 2 && ids.length <= 15, `${ids.length} callbacks`);
  t.equal(new Set(ids).size, ids.length);
  t.same(ids.slice(0, 2), [`${id}:processing`, `${id}:progress:1.1`]);
  const callbacks = (await h.callbacks()).filter((each) => each.job_id === id);
  t.equal(callbacks.filter((each) => each.status === 'completed').length, 1);
});

t.test('the engine dies mid-job: the job is tried again and completes', async (t) => {
  const h = await harness(t);
  h.runner.start();
  const flag = path.join(h.dir, 'crashed');
  const id = await h.submit(`a picture that crashes once ${flag}`);
  t.match(await h.ended(id), { status: 'completed', attempts: 2 });
});

t.test('a poison job is dead-lettered after its attempts, others go on', async (t) => {
  const h = await harness(t);
  h.runner.start();
  const poison = await h.submit('crashes always');
  const others = await Promise.all([1, 2, 3, 4].map((index) => h.submit(`picture ${index}`)));
  t.match(await h.ended(poison), {
    status: 'failed',
    attempts: 3,
    errorMessage: /^Generation failed: The sdxl engine died from SIGKILL during denoise/,
  });
  for (const id of others) t.match(await h.ended(id), { status: 'completed' });
  const [letter] = await h.store.deadLetters('sdxl_queue', 10);
  t.match(letter, { jobId: poison, attempts: 3 });
  const callback = (await h.callbacks()).find((each) => each.job_id === poison);
  t.match(callback, {
    status: 'failed',
    metadata: { error_type: 'GenerationFailed', worker_version: '0.0.0' },
  });
});

t.test('a job in another stage when the engine dies loses no attempt', async (t) => {
  const h = await harness(t, { limits: { maxAttempts: 1 } });
  h.runner.start();
  const innocent = await h.submit('encodes slowly');
  await until('the encoding', () => h.runner.inFlight().some((each) => each.phase === 'finishing'));
  const poison = await h.submit('crashes always');
  t.match(await h.ended(poison), { status: 'failed' });
  t.match(await h.ended(innocent), { status: 'completed', attempts: 1 });
});

t.test(
  'once such a job was hit nobody computes beside it: a series of crashes costs it nothing more',
  async (t) => {
    const h = await harness(t);
    const innocent = await h.submit('encodes slowly');
    const guilty: string[] = [];
    for (let index = 0; index < 12; index += 1)
      guilty.push(await h.submit(`crashes once ${path.join(h.dir, `crash-${index}`)}`));
    h.runner.start();
    t.match(await h.ended(innocent), { status: 'completed', attempts: 1 });
    for (const id of guilty) t.match(await h.ended(id), { status: 'completed', attempts: 2 });
  },
);

t.test(
  'out of memory is tried again, then failed with its own message; invalid parameters are not',
  async (t) => {
    const h = await harness(t);
    h.runner.start();
    const [oom, invalid] = [await h.submit('runs out of memory'), await h.submit('is invalid')];
    t.match(await h.ended(oom), {
      status: 'failed',
      attempts: 3,
      errorMessage: 'Insufficient VRAM for generation',
      metadata: { error_type: 'OutOfMemory' },
    });
    t.match(await h.ended(invalid), {
      status: 'failed',
      attempts: 1,
      errorMessage: 'Invalid parameters: config.width must be a multiple of 8',
      metadata: { error_type: 'InvalidParameters' },
    });
  },
);

t.test('payloads that are no jobs go to the dead letters and the next good job runs', async (t) => {
  const h = await harness(t);
  const id = randomUUID();
  await h.store.push('sdxl_queue', '{not json');
  await h.store.push(
    'sdxl_queue',
    JSON.stringify({ id, type: 'sdxl_image_fast', prompt: '', user_id: h.userId }),
  );
  const good = await h.submit('a circle');
  h.runner.start();
  t.match(await h.ended(good), { status: 'completed' });
  t.match(await h.ended(id), { status: 'failed', errorMessage: /^Invalid parameters: prompt/ });
  t.same((await h.store.deadLetters(undefined, 10)).map((letter) => letter.payload).sort()[1], '{not json');
});

t.test(
  'storage that fails for now is tried again without drawing again; one that refuses fails the job',
  async (t) => {
    const h = await harness(t);
    h.faults.push(
      () => {
        throw new StorageError('brown-out', 'unavailable', true);
      },
      () => {
        throw new StorageError('brown-out', 'unavailable', true);
      },
    );
    h.runner.start();
    const id = await h.submit('a circle');
    t.match(await h.ended(id), { status: 'completed', attempts: 1 });
    h.faults.push(() => {
      throw new StorageError('no such place', 'rejected', false);
    });
    t.match(await h.ended(await h.submit('a circle')), {
      status: 'failed',
      attempts: 1,
      metadata: { error_type: 'StorageFailed' },
    });
  },
);

t.test('a pipeline: the engine computes the next job while one is uploaded', async (t) => {
  const h = await harness(t);
  let uploads = 0;
  let computedDuringUpload = false;
  const slow = async () => {
    uploads += 1;
    await until(
      'the next job computes meanwhile',
      () => h.runner.inFlight().some((each) => each.phase === 'computing') || uploads > 1,
      5000,
    );
    computedDuringUpload = true;
  };
  h.faults.push(slow);
  h.runner.start();
  const ids = await Promise.all(['is slow one', 'is slow two'].map((prompt) => h.submit(prompt)));
  for (const id of ids) t.match(await h.ended(id), { status: 'completed' });
  t.ok(computedDuringUpload);
});

t.test('a lost lease: the job is left to its new owner, nothing is written', async (t) => {
  const h = await harness(t, { limits: { leaseMs: 90 } });
  const renew = h.store.renew.bind(h.store);
  let lost = 0;
  h.context.metrics.leaseLost = () => {
    lost += 1;
  };
  let take = true;
  h.store.renew = (lease, leaseMs) =>
    take ? Promise.resolve({ held: false, cancelRequested: false }) : renew(lease, leaseMs);
  h.runner.start();
  const id = await h.submit('is slow');
  await until('the loss', () => lost === 1);
  t.match(await h.store.get(id), { status: 'processing' });
  take = false;
  await until('the reclaim', async () => (await h.store.reclaimExpired()).includes(id));
  t.match(await h.ended(id), { status: 'completed', attempts: 2 });
  t.equal((await h.callbacks()).filter((each) => each.status === 'completed').length, 1);
});

t.test('a worker that dies in every attempt: the job is dead-lettered by the next one', async (t) => {
  const h = await harness(t);
  const id = await h.submit('a circle');
  for (let attempt = 1; attempt <= 3; attempt += 1) {
    const reservation = await h.store.reserve({ queue: 'sdxl_queue', workerId: 'dead', leaseMs: 1 });
    t.equal(reservation?.attempt, attempt);
    await new Promise((resolve) => setTimeout(resolve, 5));
    await h.store.reclaimExpired();
  }
  h.runner.start();
  t.match(await h.ended(id), {
    status: 'failed',
    attempts: 3,
    metadata: { error_type: 'WorkerLost', attempts: 3 },
  });
  t.match(await h.store.deadLetters(undefined, 10), [{ jobId: id, attempts: 3 }]);
});

t.test('waiting does not spin', async (t) => {
  const h = await harness(t);
  let reserves = 0;
  const reserve = h.store.reserve.bind(h.store);
  h.store.reserve = (request) => {
    reserves += 1;
    return reserve(request);
  };
  h.runner.start();
  const ids = [await h.submit('is slow'), await h.submit('fast two')];
  for (const id of ids) t.match(await h.ended(id), { status: 'completed' });
  t.ok(reserves < 60, `${reserves} reservations`);
  const before = reserves;
  await new Promise((resolve) => setTimeout(resolve, 1200));
  t.ok(reserves - before <= 4, `${reserves - before} reservations while idle`);
});

t.test('left-overs of a killed process are removed at the start', async (t) => {
  const dir = t.testdir({
    work: {
      'elsewhere~1~x': {},
      [`${(await import('node:os')).hostname()}~999999~x`]: { 'job-1': { '0.png': 'x' } },
    },
  });
  const h = await createHarness({ dir });
  t.teardown(() => h.stop());
  const left = readdirSync(path.join(dir, 'work'));
  t.equal(left.length, 2, 'a fresh folder of another host stays, ours is new');
  t.ok(left.includes('elsewhere~1~x'));
});

t.test('the same job gets the same seed on every attempt', async (t) => {
  const h = await harness(t);
  h.runner.start();
  const flag = path.join(h.dir, 'flag');
  writeFileSync(flag, '');
  const id = await h.submit(`crashes once ${flag}`);
  const { metadata } = await h.ended(id);
  t.type(metadata['seed'], 'number');
  t.same(metadata['seeds'], [metadata['seed']]);
});

t.test(
  'the last attempt waits until nothing else runs in its process, where waiting does not count',
  async (t) => {
    const h = await harness(t, { limits: { maxAttempts: 2 } });
    const release = h.store.release.bind(h.store);
    let putBack = 0;
    h.store.release = async (lease) => {
      const isBack = await release(lease);
      putBack += 1;
      return isBack;
    };
    const neighbour = await h.context.running.share(new AbortController().signal);
    const id = await h.submit(`crashes once ${path.join(h.dir, 'crashed')}`);
    h.runner.start();
    await until('the wait for its last attempt', () => putBack === 1 && h.runner.inFlight().length === 0);
    t.match(await h.store.get(id), { status: 'queued', attempts: 1 });
    neighbour();
    t.match(await h.ended(id), { status: 'completed', attempts: 2 });
    t.equal(putBack, 1);
    const next = await h.context.running.alone(AbortSignal.timeout(5000));
    next();
  },
);

t.test('jobs that wait for a slow reference let others pass, and are drawn when it has come', async (t) => {
  let arrive = () => {};
  const arrived = new Promise<void>((resolve) => {
    arrive = resolve;
  });
  let asked = 0;
  const h = await harness(t, {
    runner: { patienceMs: 50, maxInFlight: 2 },
    context: {
      fetchReference: async ({ role }, folder, signal, onWaiting) => {
        asked += 1;
        if (asked > 2) onWaiting();
        await orAborted(arrived, signal);
        return path.join(folder, `${role}.png`);
      },
    },
  });
  h.runner.start();
  const metadata = { reference_image_url: 'https://example.com/slow.png' };
  const slow = [];
  for (let count = 0; count < 5; count += 1) slow.push(await h.submit('a red circle', { metadata }));
  t.match(await h.ended(await h.submit('plain')), { status: 'completed', attempts: 1 });
  t.equal(asked, 5, 'more jobs wait for pictures than the pipeline holds');
  t.same(
    h.runner.inFlight().map(({ phase }) => phase),
    slow.map(() => 'preparing'),
  );
  const next = await h.context.running.alone(AbortSignal.timeout(1000));
  next();
  await h.jobs.cancel(slow[4] ?? '');
  t.match(await h.ended(slow[4] ?? ''), { status: 'cancelled' }, 'one can be cancelled meanwhile');
  arrive();
  for (const id of slow.slice(0, 4)) t.match(await h.ended(id), { status: 'completed', attempts: 1 });
  const last = await h.context.running.alone(AbortSignal.timeout(1000));
  last();
});

t.test('hit by the crashes of others for ever, it counts in the end', async (t) => {
  let tries = 0;
  const h = await harness(t, { limits: { maxAttempts: 2, maxUncountedHandBacks: 3 } });
  const { plan } = h.context;
  const generate = () => {
    tries += 1;
    return Promise.reject(new EngineError('engine_died', 'ended', { bystander: true }));
  };
  h.context.plan = (job) => ({ ...plan(job), generate });
  h.runner.start();
  const id = await h.submit('a circle');
  t.match(await h.ended(id), { status: 'failed', attempts: 2 });
  t.equal(tries, 3 + 2, 'three hand-backs that do not count, then its attempts');
});

t.test('an end that cannot be written is given up in time, and the job is run again', async (t) => {
  const h = await harness(t, { limits: { leaseMs: 300, storePatienceMs: 30 } });
  const { finish, retryLater } = h.store;
  let refusals = 0;
  h.store.finish = h.store.retryLater = () => {
    refusals += 1;
    return Promise.reject(new Error('no answer'));
  };
  h.runner.start();
  const id = await h.submit('a circle');
  await until('the end of trying', () => refusals > 1 && h.runner.inFlight().length === 0);
  t.match(await h.store.get(id), { status: /processing|queued/ });
  Object.assign(h.store, { finish, retryLater });
  await until('the reclaim', async () => (await h.store.reclaimExpired()).includes(id));
  t.match(await h.ended(id), { status: 'completed' });
});

t.equal(defaultLimits.storePatienceMs, 600_000, 'the store is waited for through an outage of ten minutes');
