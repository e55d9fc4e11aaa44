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

export async function testDeadLetters(t: Test, open: OpenHarness): Promise<void> {
  await t.test('dead letters keep the payload as it came', async (t) => {
    const { store, clock } = await open(t);
    const raw = 'no json \u0000 "é\\';
    await store.push('sdxl_queue', raw);
    const { lease } = await reserve(store);
    t.equal(await store.deadLetter(lease, 'not JSON'), true);
    const [letter] = await store.deadLetters(undefined, 10);
    t.match(letter, {
      payload: raw,
      reason: 'not JSON',
      queue: 'sdxl_queue',
      attempts: 1,
      atMs: clock.now(),
    });
    t.equal(letter?.jobId, undefined);
    t.equal(await store.outbox.pending(), 0);
    t.match(await store.depth('sdxl_queue'), { waiting: 0, running: 0 });
    t.same(await store.deadLetters('wan_queue', 10), []);
    t.equal(await store.requeueDeadLetter(letter?.id ?? ''), 'requeued');
    t.equal(await store.requeueDeadLetter(letter?.id ?? ''), 'unknown');
    t.match(await reserve(store), { payload: raw, attempt: 1 });
  });

  await t.test('a job that used up its attempts is handed out once more, but not begun', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const take = () => tryReserve(store, { begin: true, maxAttempts: 1 });
    t.match(await take(), { begun: true, attempt: 1 });
    clock.advance(leaseMs + 1);
    await store.reclaimExpired();
    const last = await take();
    t.match(last, { begun: false, isForeign: false, attempt: 2, lease: { jobId: job.id } });
    t.match(await store.get(job.id), { status: 'queued', attempts: 1 });
    if (last === null) return;
    const result = { ...failed(clock, job.id), job, attempts: 1 };
    t.equal(await store.deadLetter(last.lease, 'the worker was lost', result), true);
    t.match(await store.get(job.id), { status: 'failed', attempts: 1 });
    t.match(await store.deadLetters(undefined, 10), [{ jobId: job.id, attempts: 1 }]);
    t.same(await claimed(store), [`${job.id}:failed`]);
    t.match(await store.depth('sdxl_queue'), { waiting: 0, running: 0 });
  });

  await t.test('a dead-lettered job fails with its callback, and can be put back', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job, callbackOf(clock, job.id, 'processing'));
    t.equal(await store.deadLetter(lease, 'too many attempts', { ...failed(clock, job.id), job }), true);
    t.match(await store.get(job.id), {
      status: 'failed',
      errorMessage: 'Generation failed: test',
      attempts: 1,
      finishedAtMs: clock.now(),
    });
    t.same(await claimed(store), [`${job.id}:failed`]);
    const [letter] = await store.deadLetters('sdxl_queue', 10);
    t.match(letter, { jobId: job.id, payload: payloadOf(job), attempts: 1 });
    t.equal(await store.requeueDeadLetter(letter?.id ?? ''), 'requeued');
    t.equal(await store.outbox.pending(), 0, 'the old failure is not announced any more');
    const queued = await store.get(job.id);
    t.match(queued, { status: 'queued', attempts: 0, assets: [] });
    t.equal(queued?.errorMessage, undefined);
    const again = await start(store, job);
    t.equal(again.attempt, 1);
    t.equal(await store.finish(again.lease, completed(clock, job.id)), true);
    t.same(await claimed(store), [`${job.id}:completed`]);
  });

  await t.test('a pushed job that fails validation gets a record and a callback, once', async (t) => {
    const { store, clock } = await open(t);
    const job = someJob();
    await store.push('sdxl_queue', payloadOf(job));
    await store.push('sdxl_queue', payloadOf(job));
    await store.deadLetter((await reserve(store)).lease, 'bad', {
      ...failed(clock, job.id),
      job: { id: job.id },
    });
    t.match(await store.get(job.id), { status: 'failed', type: job.type, userId: job.userId });
    const first = await store.get(job.id);
    clock.advance(1000);
    await store.deadLetter((await reserve(store)).lease, 'bad', {
      ...failed(clock, job.id),
      errorMessage: 'another',
      job: { id: job.id },
    });
    t.same(await store.get(job.id), first, 'a terminal state is final');
    t.equal((await store.deadLetters(undefined, 10)).length, 2);
    t.equal(await store.outbox.pending(), 1);
  });

  await t.test('a broken duplicate does not fail the job that runs', async (t) => {
    const { store, clock } = await open(t);
    const job = someJob();
    await store.push('sdxl_queue', payloadOf(job));
    await store.push('sdxl_queue', payloadOf(job).replace('red', 'blue'));
    const { lease } = await start(store, job);
    await store.deadLetter((await reserve(store)).lease, 'bad', { ...failed(clock, job.id), job });
    t.match(await store.get(job.id), { status: 'processing' });
    t.equal(await store.outbox.pending(), 0);
    t.equal(await store.finish(lease, completed(clock, job.id)), true);
  });

  await t.test('dead letters are dropped one by one', async (t) => {
    const { store, clock } = await open(t);
    for (const payload of ['a', 'b', 'c']) {
      await store.push('sdxl_queue', payload);
      await store.deadLetter((await reserve(store)).lease, 'bad');
      clock.advance(1);
    }
    const letters = await store.deadLetters(undefined, 10);
    t.same(
      letters.map(({ payload }) => payload),
      ['c', 'b', 'a'],
      'newest first',
    );
    t.same((await store.deadLetters(undefined, 2)).length, 2);
    t.equal(await store.dropDeadLetter(letters[1]?.id ?? ''), true);
    t.equal(await store.dropDeadLetter(letters[1]?.id ?? ''), false);
    t.same(
      (await store.deadLetters(undefined, 10)).map(({ payload }) => payload),
      ['c', 'a'],
    );
  });

  await t.test('what was given up of an ending that was taken back is not said any more', async (t) => {
    const { store, clock } = await open(t);
    const [job, other] = [await submit(store), await submit(store)];
    for (const { id } of [job, other])
      await store.deadLetter((await reserve(store)).lease, 'too many attempts', {
        ...failed(clock, id),
        job: { id },
      });
    for (const id of await claimed(store)) await store.outbox.deadLetter(id, '401 wrong key');
    const letter = (await store.deadLetters(undefined, 10)).find(({ jobId }) => jobId === job.id);
    await store.requeueDeadLetter(letter?.id ?? '');
    t.same(
      (await store.outbox.listDead(10)).map(({ id }) => id),
      [`${other.id}:failed`],
    );
    await store.finish((await start(store, job)).lease, completed(clock, job.id));
    for (const id of await claimed(store)) await store.outbox.delivered(id);
    t.equal(await store.outbox.retryDead(), 1);
    t.same(await claimed(store), [`${other.id}:failed`]);
  });

  await t.test('putting a letter back touches no job that ended with another payload', async (t) => {
    const { store, clock, reopen } = await open(t);
    const job = await submit(store);
    await store.finish((await start(store, job)).lease, completed(clock, job.id));
    const done = await store.get(job.id);
    const push = () => store.push('sdxl_queue', payloadOf(job).replace(job.type, 'sdxl_image_ultra'));
    await push();
    await store.deadLetter((await reserve(store)).lease, 'unknown type', {
      ...failed(clock, job.id),
      job: { id: job.id },
    });
    const [letter] = await store.deadLetters(undefined, 10);
    const later = await reopen();
    t.equal(await later.requeueDeadLetter(letter?.id ?? ''), 'requeued');
    t.same(await later.get(job.id), done);
    t.match(await reserve(later), { payload: /sdxl_image_ultra/, attempt: 1 });
    t.same(await claimed(later), [`${job.id}:completed`], 'its callback is still to be delivered');
    t.equal(await tryReserve(later), null);
  });

  await t.test('dead letters are forgotten after the retention', async (t) => {
    const { store, clock, reopen } = await open(t, { retentionMs: 3_600_000 });
    await store.push('sdxl_queue', 'old');
    await store.deadLetter((await reserve(store)).lease, 'not JSON');
    clock.advance(3_000_000);
    await store.push('sdxl_queue', 'new');
    await store.deadLetter((await reserve(store)).lease, 'not JSON');
    clock.advance(700_000);
    const later = await reopen();
    await later.reclaimExpired();
    t.match(await later.deadLetters(undefined, 10), [{ payload: 'new' }]);
    t.equal((await later.deadLetters(undefined, 10)).length, 1);
  });
}
