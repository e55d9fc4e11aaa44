import type { Test } from 'tap';
import { largestPayloadBytes } from '../../../src/services/queue/read-payload.js';
import type { OpenHarness } from '../store-suite.js';
import {
  cancelled,
  claimed,
  completed,
  failed,
  leaseMs,
  payloadOf,
  reserve,
  someJob,
  start,
  submit,
} from './builders.js';

export async function testIdentity(t: Test, open: OpenHarness): Promise<void> {
  const take = (store: Awaited<ReturnType<OpenHarness>>['store'], queue: 'sdxl_queue' | 'wan_queue') =>
    store.reserve({ queue, workerId: 'worker-1', leaseMs, begin: true });

  await t.test('the id of another job is a conflict, however the same job is written', async (t) => {
    const { store } = await open(t);
    const job = await submit(store);
    const again = (payload: string, queue: 'sdxl_queue' | 'wan_queue' = 'sdxl_queue') =>
      store.submit({ queue, payload, job });
    const { id, ...rest } = JSON.parse(payloadOf(job)) as Record<string, unknown> & { id: string };
    const same = { ...rest, traceparent: '00-1-2-03', id: id.toUpperCase() };
    t.match(await again(JSON.stringify(same, null, 2)), { outcome: 'exists', record: { id: job.id } });
    t.same(await again(payloadOf(job).replace('red', 'blue')), { outcome: 'conflict' });
    t.same(await again(payloadOf(job).replace('"seed":1', '"seed":2')), { outcome: 'conflict' });
    t.same(await again(payloadOf(job), 'wan_queue'), { outcome: 'conflict' });
    t.same(await again(payloadOf({ ...job, userId: someJob().id })), { outcome: 'conflict' });
    t.match(await store.get(job.id), { status: 'queued', userId: job.userId });
    t.equal((await store.depth('sdxl_queue')).waiting, 1);
  });

  await t.test(
    'a payload with the id of a waiting, running or finished job touches nothing of it',
    async (t) => {
      const { store, clock } = await open(t);
      const job = await submit(store);
      const foreign = payloadOf(job).replace('sdxl_image_fast', 'video_fast');
      const tryForeign = async (state: string) => {
        const before = await store.get(job.id);
        for (const payload of [foreign, foreign.replace('video_fast', 'nonsense'), payloadOf(job)]) {
          await store.push('wan_queue', payload);
          const reservation = await take(store, 'wan_queue');
          t.match(reservation, { begun: false, attempt: 1 }, state);
          if (reservation === null) return;
          t.equal(await store.deadLetter(reservation.lease, 'bad', { ...failed(clock, job.id), job }), true);
        }
        t.same(await store.get(job.id), before, state);
      };
      await tryForeign('waiting');
      t.equal(await store.position(job.id), 0);
      const { lease } = await start(store, job);
      await tryForeign('running');
      t.equal(await store.finish(lease, completed(clock, job.id)), true);
      await tryForeign('finished');
      t.same(await claimed(store), [`${job.id}:completed`]);
      t.equal((await store.deadLetters('wan_queue', 20)).length, 9);
      t.match(await store.depth('wan_queue'), { waiting: 0, running: 0 });
    },
  );

  await t.test('cancelling a job leaves the payload of another with its id where it is', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store, someJob('video_fast'));
    await store.push('sdxl_queue', payloadOf({ ...job, type: 'sdxl_image_fast' }));
    await store.push('sdxl_queue', payloadOf({ ...job, type: 'sdxl_image_high' }));
    t.match(await take(store, 'sdxl_queue'), { isForeign: true });
    t.match(await store.cancel(job.id, cancelled(clock)), { outcome: 'cancelled' });
    t.match(await store.depth('wan_queue'), { waiting: 0, running: 0 });
    t.match(await store.depth('sdxl_queue'), { waiting: 1, running: 1 });
    t.match(await take(store, 'sdxl_queue'), { isForeign: true });
  });

  await t.test('a job is begun by its own payload only', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    await store.push('wan_queue', payloadOf({ ...job, type: 'video_fast' }));
    const foreign = await take(store, 'wan_queue');
    t.match(foreign, { isForeign: true, begun: false });
    if (foreign === null) return;
    t.equal(await store.begin(foreign.lease, { ...job, type: 'video_fast' }), 'foreign');
    t.equal(await store.deadLetter(foreign.lease, 'the id belongs to another job'), true);
    const own = await take(store, 'sdxl_queue');
    t.match(own, { isForeign: false, begun: true });
    if (own !== null) t.equal(await store.finish(own.lease, completed(clock, job.id)), true);
    t.match(await store.get(job.id), { type: job.type, status: 'completed' });
  });

  await t.test(
    'what is refused fails no other job with its id that still waits without a record',
    async (t) => {
      const { store, clock } = await open(t);
      const job = someJob();
      const bad = payloadOf(job).replace(job.type, 'nonsense');
      await store.push('wan_queue', bad);
      await store.push('sdxl_queue', payloadOf(job));
      const refuse = async () => {
        const reservation = await take(store, 'wan_queue');
        if (reservation !== null)
          await store.deadLetter(reservation.lease, 'bad', { ...failed(clock, job.id), job });
      };
      await refuse();
      t.match(await store.get(job.id), { status: 'queued', type: job.type, queue: 'sdxl_queue' });
      t.same(await claimed(store), []);
      const { lease } = await start(store, job);
      t.equal(await store.finish(lease, completed(clock, job.id)), true);
      t.same(await claimed(store), [`${job.id}:completed`]);
    },
  );

  await t.test('ids are compared in lower case and kept as they were written', async (t) => {
    const { store, clock } = await open(t);
    const job = someJob();
    const written = job.id.toUpperCase();
    const payload = payloadOf({ ...job, id: written });
    await store.push('sdxl_queue', payload);
    await store.push('sdxl_queue', payloadOf(job));
    t.match(await store.get(job.id), { id: job.id, writtenId: written, status: 'queued' });
    const reservation = await take(store, 'sdxl_queue');
    t.match(reservation, { begun: true, payload, lease: { jobId: job.id, writtenId: written } });
    t.match(await store.get(job.id), { id: job.id, writtenId: written, status: 'processing' });
    t.equal(await take(store, 'sdxl_queue'), null, 'the same job in lower case is the same job');
    if (reservation !== null) await store.finish(reservation.lease, completed(clock, job.id));
    t.match(await store.get(job.id), { writtenId: written, status: 'completed' });
  });

  await t.test('what is too large is never handed out, and only its beginning kept', async (t) => {
    const { store, clock } = await open(t);
    const large = `{"id":"${someJob().id}","prompt":"${'x'.repeat(largestPayloadBytes)}"}`;
    const job = someJob();
    await store.push('sdxl_queue', large);
    await store.push('sdxl_queue', payloadOf(job));
    t.match(await reserve(store), { lease: { jobId: job.id } });
    const [letter] = await store.deadLetters(undefined, 10);
    t.match(letter, { queue: 'sdxl_queue', payloadBytes: large.length, reason: /bytes/, atMs: clock.now() });
    t.equal(letter?.payload, large.slice(0, 4096));
    t.equal(await store.requeueDeadLetter(letter?.id ?? ''), 'incomplete');
    t.equal(await store.dropDeadLetter(letter?.id ?? ''), true);
    const whole = `"${'é'.repeat(largestPayloadBytes / 2 - 1)}"`;
    await store.push('sdxl_queue', whole);
    await store.deadLetter((await reserve(store)).lease, 'no object');
    const [shown] = await store.deadLetters(undefined, 10);
    t.match(shown, { payloadBytes: largestPayloadBytes, encoding: undefined });
    t.ok(shown !== undefined && whole.startsWith(shown.payload) && shown.payload.length > 8000);
    t.equal(await store.requeueDeadLetter(shown?.id ?? ''), 'requeued');
    t.equal((await reserve(store)).payload, whole, 'one byte less would still be read');
  });
}
