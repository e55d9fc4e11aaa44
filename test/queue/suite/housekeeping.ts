import type { Test } from 'tap';
import type { OpenHarness } from '../store-suite.js';
import { cancelled, completed, payloadOf, someJob, start, submit, userId } from './builders.js';

export async function testHousekeeping(t: Test, open: OpenHarness): Promise<void> {
  await t.test('jobs are listed newest first, page by page', async (t) => {
    const { store, clock } = await open(t);
    const ids = [];
    for (let i = 0; i < 25; i += 1) {
      ids.unshift((await submit(store)).id);
      clock.advance(1);
    }
    const seen = [];
    let cursor: string | undefined;
    const sizes = [];
    do {
      const page = await store.list({}, 10, cursor);
      seen.push(...page.jobs.map(({ id }) => id));
      sizes.push(page.jobs.length);
      cursor = page.nextCursor;
      if (seen.length === 10) await submit(store);
    } while (cursor !== undefined);
    t.same(sizes, [10, 10, 5]);
    t.same(seen, ids, 'a job that arrives meanwhile moves nothing');
    t.same((await store.list({}, 26)).nextCursor, undefined);
  });

  await t.test('jobs made in the same millisecond are all listed', async (t) => {
    const { store } = await open(t);
    const ids = [];
    for (let i = 0; i < 7; i += 1) ids.push((await submit(store)).id);
    const first = await store.list({}, 3);
    const second = await store.list({}, 3, first.nextCursor);
    const third = await store.list({}, 3, second.nextCursor);
    t.same([...first.jobs, ...second.jobs, ...third.jobs].map(({ id }) => id).sort(), ids.sort());
    t.equal(third.nextCursor, undefined);
  });

  await t.test('jobs are filtered by status, type and user', async (t) => {
    const { store, clock } = await open(t);
    const done = await submit(store);
    await store.finish((await start(store, done)).lease, completed(clock, done.id));
    const running = await submit(store);
    await start(store, running);
    const gone = await submit(store);
    await store.cancel(gone.id, cancelled(clock));
    const high = await submit(store, someJob('sdxl_image_high'));
    const foreign = await submit(store, { ...someJob(), userId: 'another' });
    const ids = async (filter: Parameters<typeof store.list>[0]) =>
      (await store.list(filter, 10)).jobs.map(({ id }) => id).sort();
    t.same(await ids({ status: 'completed' }), [done.id]);
    t.same(await ids({ status: 'processing' }), [running.id]);
    t.same(await ids({ status: 'cancelled' }), [gone.id]);
    t.same(await ids({ status: 'failed' }), []);
    t.same(await ids({ status: 'queued' }), [high.id, foreign.id].sort());
    t.same(await ids({ type: 'sdxl_image_high' }), [high.id]);
    t.same(await ids({ userId: 'another' }), [foreign.id]);
    t.same(await ids({ userId, status: 'queued', type: 'sdxl_image_high' }), [high.id]);
  });

  await t.test('instances are known while they say so', async (t) => {
    const { store, clock } = await open(t);
    const instance = {
      workerId: 'w1',
      host: 'h',
      pid: 1,
      startedAtMs: clock.now(),
      seenAtMs: clock.now(),
      status: { engines: [], text: 'é' },
    };
    await store.announce(instance, 1000);
    clock.advance(600);
    await store.announce({ ...instance, workerId: 'w2' }, 1000);
    t.same((await store.instances()).map(({ workerId }) => workerId).sort(), ['w1', 'w2']);
    t.same(
      (await store.instances()).find(({ workerId }) => workerId === 'w1'),
      instance,
    );
    clock.advance(500);
    t.same(
      (await store.instances()).map(({ workerId }) => workerId),
      ['w2'],
    );
    clock.advance(500);
    t.same(await store.instances(), []);
  });

  await t.test('the store answers', async (t) => {
    const { store } = await open(t);
    await t.resolves(store.ping());
  });

  await t.test('a fresh job under an old id is not created while the record is kept', async (t) => {
    const { store, clock } = await open(t, { retentionMs: 3_600_000 });
    const job = await submit(store);
    await store.finish((await start(store, job)).lease, completed(clock, job.id));
    clock.advance(3_500_000);
    await store.reclaimExpired();
    t.match(await store.submit({ queue: 'sdxl_queue', payload: payloadOf(job), job }), { outcome: 'exists' });
  });
}
