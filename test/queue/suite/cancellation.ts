import type { Test } from 'tap';
import type { OpenHarness } from '../store-suite.js';
import {
  callbackOf,
  cancelled,
  claimed,
  completed,
  leaseMs,
  payloadOf,
  reserve,
  someJob,
  start,
  submit,
  tryReserve,
} from './builders.js';

export async function testCancellation(t: Test, open: OpenHarness): Promise<void> {
  await t.test('an unknown job cannot be cancelled', async (t) => {
    const { store, clock } = await open(t);
    t.same(await store.cancel(someJob().id, cancelled(clock)), { outcome: 'unknown' });
    t.equal(await store.get(someJob().id), null);
    t.equal(await store.position(someJob().id), null);
  });

  await t.test('a waiting job ends at once', async (t) => {
    const { store, clock } = await open(t);
    const before = await submit(store);
    const job = await submit(store);
    const after = await submit(store);
    const result = await store.cancel(job.id, cancelled(clock));
    t.match(result, {
      outcome: 'cancelled',
      record: {
        id: job.id,
        status: 'cancelled',
        errorMessage: 'Cancelled',
        metadata: { error_type: 'Cancelled' },
        finishedAtMs: clock.now(),
      },
    });
    t.match(await store.get(job.id), { status: 'cancelled' });
    t.same(await claimed(store), [`${job.id}:failed`]);
    t.match(await store.depth('sdxl_queue'), { waiting: 2 });
    t.equal(await store.position(job.id), null);
    t.match(await store.cancel(job.id, cancelled(clock)), {
      outcome: 'already_finished',
      record: { status: 'cancelled' },
    });
    t.equal((await reserve(store)).lease.jobId, before.id);
    t.equal((await reserve(store)).lease.jobId, after.id);
    t.equal(await tryReserve(store), null);
  });

  await t.test('whoever cancels a waiting job is told what it asked for, wherever it waits', async (t) => {
    const { store, clock } = await open(t);
    const submitted = await submit(store);
    const retried = await submit(store);
    const pushed = someJob();
    await store.push('sdxl_queue', payloadOf(pushed));
    const first = await start(store, submitted);
    const second = await start(store, retried);
    await store.retryLater(second.lease, 60_000, 'again');
    await store.release(first.lease);
    for (const job of [submitted, retried, pushed, await submit(store)]) {
      const seen: unknown[] = [];
      await store.cancel(job.id, (record, read) => {
        seen.push(read?.value);
        return cancelled(clock)(record);
      });
      t.same(seen.at(-1), JSON.parse(payloadOf(job)));
    }
  });

  await t.test('a pushed job that nobody has looked at ends at once', async (t) => {
    const { store, clock } = await open(t);
    const job = someJob();
    const other = someJob();
    await store.push('sdxl_queue', payloadOf(other));
    await store.push('sdxl_queue', payloadOf(job));
    t.match(await store.cancel(job.id, cancelled(clock)), {
      outcome: 'cancelled',
      record: { type: job.type, userId: job.userId },
    });
    t.same(await claimed(store), [`${job.id}:failed`]);
    t.equal((await reserve(store)).lease.jobId, other.id);
    t.equal(await tryReserve(store), null);
    await store.push('sdxl_queue', payloadOf(job));
    t.equal(
      await store.begin((await reserve(store)).lease, job),
      'duplicate',
      'pushed again it stays cancelled',
    );
  });

  await t.test('a job reserved but not begun ends before it begins', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const { lease } = await reserve(store);
    t.match(await store.cancel(job.id, cancelled(clock)), { outcome: 'cancelled' });
    t.equal(await store.begin(lease, job, callbackOf(clock, job.id, 'processing')), 'duplicate');
    t.same(await claimed(store), [`${job.id}:failed`]);
    t.equal(await tryReserve(store), null);
  });

  await t.test('a pushed job reserved but not begun is told when it begins', async (t) => {
    const { store, clock } = await open(t);
    const job = someJob();
    await store.push('sdxl_queue', payloadOf(job));
    const { lease } = await reserve(store);
    t.match(await store.cancel(job.id, cancelled(clock)), { outcome: 'requested' });
    t.equal(await store.begin(lease, job), 'begun');
    t.match(await store.get(job.id), { cancelRequested: true });
    t.same(await store.renew(lease, leaseMs), { held: true, cancelRequested: true });
  });

  await t.test('a request made before the job began outlives its worker', async (t) => {
    const { store, clock } = await open(t);
    const job = someJob();
    await store.push('sdxl_queue', payloadOf(job));
    await reserve(store);
    t.match(await store.cancel(job.id, cancelled(clock)), { outcome: 'requested' });
    clock.advance(leaseMs);
    t.same(await store.reclaimExpired(), [job.id]);
    const again = await store.reserve({ queue: 'sdxl_queue', workerId: 'worker-2', leaseMs, begin: true });
    t.match(again, { begun: true, cancelRequested: true });
    t.match(await store.get(job.id), { status: 'processing', cancelRequested: true });
  });

  await t.test('a running job is told, through the record, the renewal and the listener', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const other = await submit(store);
    const { lease } = await start(store, job);
    const otherLease = (await start(store, other)).lease;
    const told: string[] = [];
    let heard: () => void = () => undefined;
    const hearing = new Promise<void>((resolve) => {
      heard = resolve;
    });
    const unsubscribe = store.onCancel((jobId) => {
      told.push(jobId);
      heard();
    });
    t.match(await store.cancel(job.id, cancelled(clock)), {
      outcome: 'requested',
      record: { status: 'processing', cancelRequested: true },
    });
    t.match(await store.cancel(job.id, cancelled(clock)), { outcome: 'requested' }, 'again');
    await hearing;
    t.equal(told[0], job.id);
    unsubscribe();
    t.match(await store.get(job.id), { status: 'processing', cancelRequested: true });
    t.same(await store.renew(lease, leaseMs), { held: true, cancelRequested: true });
    t.same(
      await store.renew(otherLease, leaseMs),
      { held: true, cancelRequested: false },
      'never another job',
    );
    t.equal(await store.outbox.pending(), 0);
    t.equal(
      await store.finish(lease, {
        ...completed(clock, job.id),
        status: 'cancelled',
        callback: callbackOf(clock, job.id, 'failed'),
      }),
      true,
    );
    t.match(await store.get(job.id), { status: 'cancelled' });
    t.same(await claimed(store), [`${job.id}:failed`]);
  });

  await t.test('a cancelled job that lost its worker says so to the next', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    await start(store, job);
    t.match(await store.cancel(job.id, cancelled(clock)), { outcome: 'requested' });
    clock.advance(leaseMs);
    await store.reclaimExpired();
    t.match(await reserve(store), { attempt: 2, cancelRequested: true });
  });

  await t.test('a job waiting for its retry ends at once', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job);
    await store.retryLater(lease, 10_000, 'again');
    t.match(await store.cancel(job.id, cancelled(clock)), { outcome: 'cancelled' });
    clock.advance(10_000);
    t.equal(await tryReserve(store), null);
    t.match(await store.depth('sdxl_queue'), { waiting: 0, delayed: 0, running: 0 });
  });

  await t.test('a finished job stays as it is', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job);
    await store.finish(lease, completed(clock, job.id));
    t.match(await store.cancel(job.id, cancelled(clock)), {
      outcome: 'already_finished',
      record: { status: 'completed' },
    });
    t.same(await claimed(store), [`${job.id}:completed`]);
  });

  await t.test('cancel and begin at the same moment agree', async (t) => {
    const { store, clock } = await open(t);
    for (let i = 0; i < 20; i += 1) {
      const job = await submit(store);
      const { lease } = await reserve(store);
      const [begun, result] =
        i % 2 === 0
          ? await Promise.all([store.begin(lease, job), store.cancel(job.id, cancelled(clock))])
          : await Promise.all([store.cancel(job.id, cancelled(clock)), store.begin(lease, job)]).then(
              ([a, b]) => [b, a] as const,
            );
      if (begun === 'begun') {
        t.equal(result.outcome, 'requested');
        t.match(await store.renew(lease, leaseMs), { cancelRequested: true });
      } else {
        t.equal(begun, 'duplicate');
        t.equal(result.outcome, 'cancelled');
      }
    }
  });
}
