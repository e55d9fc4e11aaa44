import type { Test } from 'tap';
import type { OpenHarness } from '../store-suite.js';
import { completed, payloadOf, reserve, someJob, start, submit, tryReserve } from './builders.js';

export async function testSubmission(t: Test, open: OpenHarness): Promise<void> {
  await t.test('a submitted job waits with a record', async (t) => {
    const { store, clock } = await open(t);
    const job = someJob();
    const result = await store.submit({ queue: 'sdxl_queue', payload: payloadOf(job), job });
    t.match(result, {
      outcome: 'created',
      queuePosition: 0,
      record: {
        id: job.id,
        type: job.type,
        userId: job.userId,
        queue: 'sdxl_queue',
        status: 'queued',
        attempts: 0,
        assets: [],
        metadata: {},
        cancelRequested: false,
      },
    });
    const second = await submit(store);
    t.same(await store.get(job.id), result.outcome === 'created' && result.record);
    t.equal(await store.position(job.id), 0);
    t.equal(await store.position(second.id), 1);
    clock.advance(5000);
    t.same(await store.depth('sdxl_queue'), { waiting: 2, delayed: 0, running: 0, oldestAgeSeconds: 5 });
    t.same(await store.depth('wan_queue'), { waiting: 0, delayed: 0, running: 0, oldestAgeSeconds: null });
  });

  await t.test('the same id twice is one job', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    t.match(await store.submit({ queue: 'sdxl_queue', payload: payloadOf(job), job }), {
      outcome: 'exists',
      record: { id: job.id },
      queuePosition: 0,
    });
    t.equal((await store.depth('sdxl_queue')).waiting, 1);
    const { lease } = await start(store, job);
    t.match(await store.submit({ queue: 'sdxl_queue', payload: payloadOf(job), job }), {
      outcome: 'exists',
      record: { status: 'processing' },
    });
    await store.finish(lease, completed(clock, job.id));
    t.match(await store.submit({ queue: 'sdxl_queue', payload: payloadOf(job), job }), {
      outcome: 'exists',
      record: { status: 'completed' },
    });
    t.equal(await tryReserve(store), null);
  });

  await t.test('an idempotency key stands for one payload', async (t) => {
    const { store } = await open(t);
    const job = someJob();
    const request = { queue: 'sdxl_queue', payload: payloadOf(job), job, idempotencyKey: 'key 1' } as const;
    t.match(await store.submit(request), { outcome: 'created' });
    t.match(await store.submit(request), { outcome: 'exists', record: { id: job.id } });
    const other = someJob();
    t.same(await store.submit({ ...request, payload: payloadOf(other), job: other }), {
      outcome: 'key_reused',
    });
    t.equal(await store.get(other.id), null);
    t.match(
      await store.submit({ ...request, payload: payloadOf(other), job: other, idempotencyKey: 'key 2' }),
      { outcome: 'created' },
    );

    const generated = someJob();
    const again = someJob();
    t.match(
      await store.submit({
        queue: 'sdxl_queue',
        payload: payloadOf(generated),
        job: generated,
        idempotencyKey: 'key 3',
        fingerprint: 'same',
      }),
      { outcome: 'created' },
    );
    t.match(
      await store.submit({
        queue: 'sdxl_queue',
        payload: payloadOf(again),
        job: again,
        idempotencyKey: 'key 3',
        fingerprint: 'same',
      }),
      { outcome: 'exists', record: { id: generated.id } },
    );
  });

  await t.test('twenty submissions of one job at once make one job', async (t) => {
    const { store } = await open(t);
    const job = someJob();
    const results = await Promise.all(
      Array.from({ length: 20 }, () =>
        store.submit({ queue: 'sdxl_queue', payload: payloadOf(job), job, idempotencyKey: 'k' }),
      ),
    );
    t.equal(results.filter(({ outcome }) => outcome === 'created').length, 1);
    t.equal((await store.depth('sdxl_queue')).waiting, 1);
  });

  await t.test('a full queue refuses, but still knows its jobs', async (t) => {
    const { store } = await open(t);
    const [first, second, third] = [someJob(), someJob(), someJob()];
    const request = (job: typeof first) =>
      ({ queue: 'sdxl_queue', payload: payloadOf(job), job, maxWaiting: 2 }) as const;
    t.match(await store.submit(request(first)), { outcome: 'created' });
    t.match(await store.submit(request(second)), { outcome: 'created' });
    t.same(await store.submit(request(third)), { outcome: 'full' });
    t.equal(await store.get(third.id), null);
    t.match(await store.submit(request(first)), { outcome: 'exists' });
    await reserve(store);
    t.match(await store.submit(request(third)), { outcome: 'created' });
  });

  await t.test('jobs come out in the order they went in, each queue by itself', async (t) => {
    const { store } = await open(t);
    const jobs = [];
    for (let i = 0; i < 30; i += 1) jobs.push(await submit(store));
    const wan = await submit(store, someJob('image_fast'));
    const taken = [];
    for (let i = 0; i < 30; i += 1) taken.push((await reserve(store)).lease.jobId);
    t.same(
      taken,
      jobs.map(({ id }) => id),
    );
    t.equal(await tryReserve(store), null);
    t.equal((await store.reserve({ queue: 'wan_queue', workerId: 'w', leaseMs: 1000 }))?.lease.jobId, wan.id);
  });

  await t.test('excluded types are passed over and keep their place', async (t) => {
    const { store } = await open(t);
    const slow = [
      await submit(store, someJob('sdxl_image_high')),
      await submit(store, someJob('sdxl_image_high')),
    ];
    const quick = await submit(store);
    const last = await submit(store, someJob('sdxl_image_high'));
    const excludeTypes = ['sdxl_image_high' as const];
    t.equal((await reserve(store, { excludeTypes })).lease.jobId, quick.id);
    t.equal(await tryReserve(store, { excludeTypes }), null);
    t.equal((await store.depth('sdxl_queue')).waiting, 3);
    for (const { id } of [...slow, last]) t.equal((await reserve(store)).lease.jobId, id);
  });

  await t.test('a pushed payload is handed out unchanged, whatever it is', async (t) => {
    const { store, clock } = await open(t);
    const job = someJob();
    const payloads = [
      payloadOf(job),
      ' {"id": "7",\n "type":"sdxl_image_fast"}',
      'not json',
      '',
      '\u0000\u0001{"a":"\u0000"}',
      '[]',
      'null',
      '{"id":{"a":1}}',
      'é漢🎈"\\',
      '{"id":"../x y"}',
      '[['.repeat(2000),
    ];
    for (const payload of payloads) await store.push('sdxl_queue', payload);
    t.match(await store.get(job.id), { id: job.id, status: 'queued', type: job.type, userId: job.userId });
    t.equal(await store.position(job.id), 0);
    clock.advance(1000);
    for (const payload of payloads) {
      const reservation = await reserve(store);
      t.equal(reservation.payload, payload);
      t.equal(reservation.attempt, 1);
    }
    t.equal(await tryReserve(store), null);
  });

  await t.test(
    'waiting ends with work, with the timeout and with the signal, and takes nothing',
    async (t) => {
      const { store } = await open(t);
      t.equal(await tryReserve(store), null);
      const quiet = new AbortController();
      const wait = store.waitForWork(['sdxl_queue', 'wan_queue'], 5000, quiet.signal);
      const job = await submit(store);
      await wait;
      t.equal((await reserve(store)).lease.jobId, job.id);
      t.equal(await tryReserve(store), null);
      await store.waitForWork(['sdxl_queue'], 20, quiet.signal);
      const aborted = store.waitForWork(['sdxl_queue'], 60_000, quiet.signal);
      quiet.abort();
      await aborted;
      await store.waitForWork(['sdxl_queue'], 60_000, quiet.signal);
    },
  );

  await t.test('work that arrives between an empty look and the wait is not slept through', async (t) => {
    const { store } = await open(t);
    t.equal(await tryReserve(store), null);
    await submit(store);
    await store.waitForWork(['sdxl_queue'], 60_000, new AbortController().signal);
    t.ok(await tryReserve(store));
  });
}
