import type { Test } from 'tap';
import type { OpenHarness } from '../store-suite.js';
import {
  callbackOf,
  claimed,
  completed,
  failed,
  leaseMs,
  payloadOf,
  reserve,
  someJob,
  start,
  submit,
  tryReserve,
} from './builders.js';

export async function testLeases(t: Test, open: OpenHarness): Promise<void> {
  await t.test('the way of a job: reserved, begun, finished', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    clock.advance(1000);
    const reservation = await reserve(store);
    t.match(reservation, {
      payload: payloadOf(job),
      attempt: 1,
      queuedAtMs: clock.now() - 1000,
      cancelRequested: false,
      lease: { queue: 'sdxl_queue', jobId: job.id, workerId: 'worker-1', expiresAtMs: clock.now() + leaseMs },
    });
    t.equal(await tryReserve(store), null, 'taken once');
    t.equal(await store.begin(reservation.lease, job, callbackOf(clock, job.id, 'processing')), 'begun');
    t.match(await store.get(job.id), {
      status: 'processing',
      attempts: 1,
      workerId: 'worker-1',
      startedAtMs: clock.now(),
      createdAtMs: clock.now() - 1000,
    });
    t.equal(await store.position(job.id), null);
    t.match(await store.depth('sdxl_queue'), { waiting: 0, running: 1 });
    t.same(await claimed(store), [`${job.id}:processing`]);
    await store.outbox.delivered(`${job.id}:processing`);

    clock.advance(2000);
    await store.updateProgress(reservation.lease, {
      stage: 'denoise',
      step: 3,
      steps: 15,
      fraction: 0.2,
      etaSeconds: 4.5,
    });
    t.match(await store.get(job.id), {
      progress: { stage: 'denoise', step: 3, steps: 15, fraction: 0.2, etaSeconds: 4.5 },
    });
    t.equal(await store.finish(reservation.lease, completed(clock, job.id)), true);
    const done = await store.get(job.id);
    t.match(done, {
      status: 'completed',
      assets: completed(clock, job.id).assets,
      finishedAtMs: clock.now(),
      progress: { stage: 'done', fraction: 1 },
    });
    t.same(done?.metadata, { seed: 1, nothing: [] });
    t.match(await store.depth('sdxl_queue'), { waiting: 0, running: 0 });
    const [entry] = await store.outbox.claimDue('relay', 10, 1000);
    t.same(entry, completed(clock, job.id).callback);
    t.equal(
      await store.finish(reservation.lease, completed(clock, job.id)),
      true,
      'the same call again, as after a lost answer, says the same',
    );
    await store.updateProgress(reservation.lease, {
      stage: 'late',
      step: 1,
      steps: 1,
      fraction: 0.5,
      etaSeconds: null,
    });
    t.same(await store.get(job.id), done, 'late progress changes nothing');
  });

  await t.test('reserving can begin the job in the same step', async (t) => {
    const { store, clock } = await open(t);
    const submitted = await submit(store);
    const pushed = someJob();
    await store.push('sdxl_queue', payloadOf(submitted));
    await store.push('sdxl_queue', payloadOf(pushed));
    await store.push('sdxl_queue', payloadOf(someJob()).replace('sdxl_image_fast', 'unknown_type'));
    await store.push('sdxl_queue', 'not json');
    const take = () => store.reserve({ queue: 'sdxl_queue', workerId: 'worker-1', leaseMs, begin: true });
    const first = await take();
    t.match(first, { begun: true, attempt: 1, lease: { jobId: submitted.id } });
    t.match(await store.get(submitted.id), {
      status: 'processing',
      attempts: 1,
      workerId: 'worker-1',
      startedAtMs: clock.now(),
    });
    const second = await take();
    t.match(second, { begun: true, lease: { jobId: pushed.id } }, 'the duplicate is passed over');
    t.match(await store.get(pushed.id), {
      status: 'processing',
      type: pushed.type,
      userId: pushed.userId,
      queue: 'sdxl_queue',
    });
    t.match(await take(), { begun: false, payload: /unknown_type/ });
    t.match(await take(), { begun: false, payload: 'not json' });
    t.equal(await take(), null);
    t.match(await store.depth('sdxl_queue'), { waiting: 0, running: 4 });
    if (first === null || second === null) return;
    await store.retryLater(first.lease, 0, 'again');
    const again = await take();
    t.match(again, { begun: true, attempt: 2, lease: { jobId: submitted.id } });
    t.match(await store.get(submitted.id), { status: 'processing', attempts: 2 });
    if (again === null) return;
    t.equal(await store.finish(again.lease, completed(clock, submitted.id)), true);
    await store.push('sdxl_queue', payloadOf(submitted));
    t.equal(await take(), null, 'a finished job is passed over as well');
    t.match(await store.depth('sdxl_queue'), { waiting: 0, running: 3 });
  });

  await t.test('a renewed lease holds, an expired one is taken back', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const behind = await submit(store);
    const { lease } = await start(store, job);
    clock.advance(leaseMs - 1);
    t.same(await store.reclaimExpired(), []);
    t.same(await store.renew(lease, leaseMs), { held: true, cancelRequested: false });
    clock.advance(leaseMs - 1);
    t.same(await store.reclaimExpired(), []);
    clock.advance(1);
    t.same(await store.reclaimExpired(), [job.id]);
    t.match(await store.get(job.id), { status: 'queued', attempts: 1 });
    t.equal(await store.position(job.id), 0, 'in front');
    t.equal(await store.position(behind.id), 1);
    t.same(await store.renew(lease, leaseMs), { held: false, cancelRequested: false });
    const second = await reserve(store, { workerId: 'worker-2' });
    t.match(second, { attempt: 2, payload: payloadOf(job), lease: { jobId: job.id, workerId: 'worker-2' } });
    t.not(second.lease.token, lease.token);
  });

  await t.test('a reservation that was never begun is taken back as well', async (t) => {
    const { store, clock } = await open(t);
    await store.push('sdxl_queue', 'not json');
    await reserve(store);
    clock.advance(leaseMs);
    t.same(await store.reclaimExpired(), ['']);
    t.match(await reserve(store), { payload: 'not json', attempt: 2 });
  });

  await t.test('whoever lost the lease can write nothing', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const zombie = (await start(store, job, callbackOf(clock, job.id, 'processing'))).lease;
    clock.advance(leaseMs);
    await store.reclaimExpired();
    const refuse = async (state: string) => {
      const before = await store.get(job.id);
      t.equal(await store.begin(zombie, job), 'lost', `begin ${state}`);
      t.equal(await store.finish(zombie, completed(clock, job.id)), false, `finish ${state}`);
      t.equal(await store.retryLater(zombie, 0, 'late'), false, `retryLater ${state}`);
      t.equal(await store.release(zombie), false, `release ${state}`);
      t.equal(
        await store.deadLetter(zombie, 'late', { ...failed(clock, job.id), job }),
        false,
        `deadLetter ${state}`,
      );
      await store.updateProgress(zombie, { stage: 'late', step: 1, steps: 1, fraction: 1, etaSeconds: null });
      t.same(await store.get(job.id), before, `record ${state}`);
    };
    await refuse('while the job waits');
    const { lease } = await start(store, job);
    await refuse('while another runs it');
    t.equal(await store.finish(lease, failed(clock, job.id)), true);
    await refuse('when another finished it');
    t.same(await store.deadLetters(undefined, 10), []);
    t.equal(await store.outbox.pending(), 1);
    t.same(await claimed(store), [`${job.id}:failed`]);
  });

  await t.test('an expired lease that nobody took back still counts', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job);
    clock.advance(leaseMs * 3);
    t.match(await store.renew(lease, leaseMs), { held: true });
    t.same(await store.reclaimExpired(), []);
    clock.advance(leaseMs * 3);
    t.equal(await store.finish(lease, completed(clock, job.id)), true);
    t.same(await store.reclaimExpired(), []);
  });

  await t.test('a retry waits for its delay, counts, and goes before new jobs', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job);
    t.equal(await store.retryLater(lease, 10_000, 'the engine died'), true);
    t.match(await store.get(job.id), {
      status: 'queued',
      attempts: 1,
      lastError: 'the engine died',
      progress: { stage: 'queued', fraction: 0 },
    });
    const fresh = await submit(store);
    t.match(await store.depth('sdxl_queue'), { waiting: 1, delayed: 1 });
    clock.advance(9999);
    t.equal((await reserve(store)).lease.jobId, fresh.id);
    t.equal(await tryReserve(store), null);
    await submit(store);
    clock.advance(1);
    t.match(await store.depth('sdxl_queue'), { waiting: 2, delayed: 0 });
    t.match(await reserve(store), { attempt: 2, lease: { jobId: job.id } });
  });

  await t.test('a due retry ends the wait', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job);
    await store.retryLater(lease, 30, 'again');
    t.equal(await tryReserve(store), null);
    await store.waitForWork(['sdxl_queue'], 10_000, new AbortController().signal);
    clock.advance(30);
    t.match(await reserve(store), { attempt: 2 });
  });

  await t.test('a hand-back does not count and goes to the front', async (t) => {
    const { store } = await open(t);
    const job = await submit(store);
    await submit(store);
    const { lease } = await start(store, job);
    t.equal(await store.release(lease), true);
    t.match(await store.get(job.id), { status: 'queued', attempts: 0 });
    t.match(await reserve(store), { attempt: 1, lease: { jobId: job.id } });
  });

  await t.test('a clock that was put back makes no job wait that was handed back', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    await submit(store);
    clock.advance(-7_200_000);
    await store.release((await start(store, job)).lease);
    await start(store, job);
    clock.advance(leaseMs);
    t.same(await store.reclaimExpired(), [job.id]);
    t.match(await reserve(store), { attempt: 2, lease: { jobId: job.id } });
  });

  await t.test('excluded types also hold for retries', async (t) => {
    const { store } = await open(t);
    const job = await submit(store, someJob('sdxl_image_high'));
    await store.release((await start(store, job)).lease);
    t.equal(await tryReserve(store, { excludeTypes: ['sdxl_image_high'] }), null);
    const other = await submit(store);
    t.equal((await reserve(store, { excludeTypes: ['sdxl_image_high'] })).lease.jobId, other.id);
    t.equal((await reserve(store)).lease.jobId, job.id);
  });

  await t.test('one payload pushed again and again is one job', async (t) => {
    const { store, clock } = await open(t);
    const job = someJob();
    for (let i = 0; i < 4; i += 1) await store.push('sdxl_queue', payloadOf(job));
    const first = await start(store, job);
    const second = await reserve(store, { workerId: 'worker-2' });
    t.equal(
      await store.begin(second.lease, job, callbackOf(clock, job.id, 'processing')),
      'duplicate',
      'while it runs',
    );
    t.equal(await store.outbox.pending(), 0);
    t.match(await store.depth('sdxl_queue'), { waiting: 2, running: 1 });
    t.equal(await store.begin(second.lease, job), 'lost', 'the duplicate is gone');
    await store.retryLater(first.lease, 10_000, 'again');
    const third = await reserve(store);
    t.equal(await store.begin(third.lease, job), 'duplicate', 'while it waits for its retry');
    clock.advance(10_000);
    const again = await start(store, job);
    t.equal(again.attempt, 2);
    t.equal(await store.finish(again.lease, completed(clock, job.id)), true);
    const fourth = await reserve(store);
    t.equal(await store.begin(fourth.lease, job), 'duplicate', 'after it has finished');
    t.match(await store.get(job.id), { status: 'completed', attempts: 2, workerId: 'worker-1' });
    t.same(await claimed(store), [`${job.id}:completed`]);
  });

  await t.test('fifty reservations at once take fifty different jobs', async (t) => {
    const { store } = await open(t);
    for (let i = 0; i < 40; i += 1) await store.push('sdxl_queue', payloadOf(someJob()));
    const taken = await Promise.all(Array.from({ length: 50 }, () => tryReserve(store)));
    const ids = taken.filter((reservation) => reservation !== null).map(({ lease }) => lease.jobId);
    t.equal(ids.length, 40);
    t.equal(new Set(ids).size, 40);
  });

  await t.test('another process sees the same', async (t) => {
    const { store, clock, reopen } = await open(t);
    const running = await submit(store);
    const waiting = await submit(store);
    await store.push('sdxl_queue', 'not json');
    const { lease } = await start(store, running, callbackOf(clock, running.id, 'processing'));
    await store.updateProgress(lease, { stage: 'denoise', step: 1, steps: 2, fraction: 0.5, etaSeconds: 1 });
    clock.advance(leaseMs);
    const later = await reopen();
    await later.reclaimExpired();
    t.match(await later.get(waiting.id), { status: 'queued' });
    t.same(await claimed(later), [`${running.id}:processing`]);
    t.match(await reserve(later), { attempt: 2, lease: { jobId: running.id } });
    t.match(await reserve(later), { attempt: 1, lease: { jobId: waiting.id } });
    t.match(await reserve(later), { payload: 'not json' });
    t.equal(await tryReserve(later), null);
  });

  await t.test('a type that only looks like known ones in a row begins no job', async (t) => {
    const { store } = await open(t);
    const job = someJob();
    await store.push(
      'sdxl_queue',
      JSON.stringify({ id: job.id, type: 'sdxl_image_fast,sdxl_image_high', user_id: job.userId }),
    );
    const reservation = await store.reserve({ queue: 'sdxl_queue', workerId: 'w', leaseMs, begin: true });
    t.match(reservation, { begun: false });
  });
}
