import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import type { JobChange } from '../../../src/services/queue/store-parts.js';
import { waitFor } from '../../helpers/wait-for.js';
import type { OpenHarness } from '../store-suite.js';
import {
  cancelled,
  completed,
  failed,
  payloadOf,
  reserve,
  someJob,
  start,
  submit,
  tryReserve,
  userId,
} from './builders.js';

/** What operators see of jobs and queues, and what they hold. */
export async function testOperating(t: Test, open: OpenHarness): Promise<void> {
  await t.test(
    'a record says what was asked for, since when it is as it is, and how attempts ended',
    async (t) => {
      const { store, clock } = await open(t);
      const job = await submit(store);
      const created = clock.now();
      t.match(await store.get(job.id), { sinceMs: created, request: /"prompt":"a red circle"/ });
      clock.advance(1000);
      await store.retryLater((await start(store, job)).lease, 5000, 'no\tmemory\nleft');
      const waiting = await store.get(job.id);
      t.match(waiting, { status: 'queued', sinceMs: clock.now(), retryAtMs: clock.now() + 5000 });
      clock.advance(5000);
      const second = await start(store, job);
      t.equal((await store.get(job.id))?.retryAtMs, undefined);
      clock.advance(10);
      await store.release(second.lease, 'shutdown');
      const third = await start(store, job);
      clock.advance(40_000);
      await store.reclaimExpired();
      t.equal(await store.finish(third.lease, completed(clock, job.id)), false);
      const last = await start(store, job);
      clock.advance(7);
      await store.finish(last.lease, completed(clock, job.id));
      const record = await store.get(job.id);
      t.match(record?.history, [
        {
          attempt: 1,
          outcome: 'retried',
          workerId: 'worker-1',
          startedAtMs: created + 1000,
          error: /^no.memory.left$/s,
        },
        { attempt: 2, outcome: 'handed_back', error: 'shutdown', endedAtMs: created + 6010 },
        { attempt: 2, outcome: 'lost', error: /the lease of worker-1 ran out/ },
        { attempt: 3, outcome: 'completed', startedAtMs: clock.now() - 7, endedAtMs: clock.now() },
      ]);
      t.match(record, { sinceMs: clock.now(), request: /a red circle/ });
    },
  );

  await t.test('only the last attempts are kept, and a bounded part of what is said of them', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    for (let count = 1; count <= 12; count += 1) {
      await store.retryLater((await start(store, job)).lease, 0, `${count} ${'ä'.repeat(2000)}`);
      clock.advance(1);
    }
    const { history = [] } = (await store.get(job.id)) ?? {};
    t.same(
      history.map(({ attempt }) => attempt),
      [3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
    );
    t.ok(history.every(({ error = '' }) => error.length <= 500 && /^\d+ ä+$/.test(error)));
  });

  await t.test(
    'what was pushed keeps what it asks for when it is begun; pictures in it are left out',
    async (t) => {
      const { store } = await open(t);
      const job = someJob();
      const picture = `data:image/png;base64,${'A'.repeat(5000)}`;
      const payload = {
        ...(JSON.parse(payloadOf(job)) as object),
        metadata: { reference_image_url: picture, note: 'x' },
      };
      await store.push('sdxl_queue', JSON.stringify(payload));
      t.match((await store.get(job.id))?.request, /a red circle/, 'while it waits');
      await start(store, job);
      const request = JSON.parse((await store.get(job.id))?.request ?? '') as object;
      t.same(request, { prompt: 'a red circle', config: { seed: 1 }, metadata: { note: 'x' } });
    },
  );

  await t.test(
    'jobs are found by queue, by the beginning of their id, and by words of their prompt',
    async (t) => {
      const { store } = await open(t);
      const red = await submit(store);
      const blue = someJob();
      const payload = payloadOf(blue).replace('a red circle', 'Ein BLAUER Kreis');
      await store.submit({ queue: 'sdxl_queue', payload, job: blue });
      const video = await submit(store, someJob('video_fast'));
      const ids = async (filter: Parameters<typeof store.list>[0]) =>
        (await store.list(filter, 10)).jobs.map(({ id }) => id).sort();
      t.same(await ids({ text: 'blauer kreis' }), [blue.id]);
      t.same(await ids({ text: 'nothing like it' }), []);
      t.same(await ids({ queue: 'wan_queue' }), [video.id]);
      t.same(await ids({ idPrefix: red.id.slice(0, 13).toUpperCase() }), [red.id]);
      t.same(await ids({ idPrefix: red.id }), [red.id]);
    },
  );

  await t.test('a search that finds nothing goes on page by page', async (t) => {
    const { store, clock } = await open(t);
    const first = someJob();
    const payload = payloadOf(first).replace('a red circle', 'a needle');
    await store.submit({ queue: 'sdxl_queue', payload, job: first });
    clock.advance(1);
    await Promise.all(Array.from({ length: 510 }, () => submit(store)));
    const page = await store.list({ text: 'needle' }, 10);
    t.same(page.jobs, []);
    const rest = await store.list({ text: 'needle' }, 10, page.nextCursor);
    t.same(
      rest.jobs.map(({ id }) => id),
      [first.id],
    );
    t.equal(rest.nextCursor, undefined);
  });

  await t.test('positions of many jobs at once', async (t) => {
    const { store } = await open(t);
    const jobs = [await submit(store), await submit(store), await submit(store)];
    const pushed = someJob();
    await store.push('sdxl_queue', payloadOf(pushed));
    const video = await submit(store, someJob('video_fast'));
    const positions = await store.positions([...jobs.map(({ id }) => id), pushed.id, video.id, randomUUID()]);
    t.same([...positions.values()].sort(), [0, 0, 1, 2, 3]);
    t.equal(positions.get(pushed.id), 3);
    t.equal(positions.get(jobs[2]?.id ?? ''), 2);
  });

  await t.test('nothing is taken from a queue that is held, by nobody, until it is released', async (t) => {
    const { store, clock, reopen } = await open(t);
    const job = await submit(store);
    const running = await start(store, job);
    await submit(store);
    await store.holds.hold({ queue: 'sdxl_queue' }, { by: 'ops', reason: 'new weights' });
    clock.advance(10);
    await store.holds.hold({ queue: 'sdxl_queue' }, { by: 'somebody else' });
    t.equal(await tryReserve(store), null);
    t.equal(await tryReserve(store, { workerId: 'worker-2' }), null);
    t.equal(await store.finish(running.lease, completed(clock, job.id)), true, 'what runs goes on');
    await submit(store, someJob('video_fast'));
    t.ok(await tryReserve(store, { queue: 'wan_queue' }), 'the other queue goes on');
    const retried = await submit(store);
    t.match(await store.depth('sdxl_queue'), { waiting: 2 }, 'jobs are still accepted');
    t.equal(await store.position(retried.id), 1);

    const later = await reopen();
    t.match(await later.holds.list(), {
      queues: { sdxl_queue: { by: 'ops', reason: 'new weights', sinceMs: clock.now() - 10 } },
      workers: new Map(),
    });
    t.equal(await tryReserve(later), null, 'over a restart, too');
    const woken = later.waitForWork(['sdxl_queue'], 60_000, new AbortController().signal);
    await sleep(50);
    await later.holds.release({ queue: 'sdxl_queue' });
    await woken;
    await later.holds.release({ queue: 'sdxl_queue' });
    t.same(await later.holds.list(), { queues: {}, workers: new Map() });
    t.ok(await tryReserve(later));
  });

  await t.test('an instance that is held takes nothing; others do', async (t) => {
    const { store } = await open(t);
    await submit(store);
    await store.holds.hold({ workerId: 'worker-1' }, { by: 'ops' });
    t.equal(await tryReserve(store), null);
    t.match((await store.holds.list()).workers.get('worker-1'), { by: 'ops' });
    const other = await reserve(store, { workerId: 'worker-2' });
    await store.release(other.lease);
    await store.holds.release({ workerId: 'worker-1' });
    t.ok(await tryReserve(store));
  });

  await t.test(
    'whoever follows all jobs is told each change once, in order, and can come back',
    async (t) => {
      const { store, clock } = await open(t);
      const told: JobChange[] = [];
      await submit(store);
      const listener = { onChange: (change: JobChange) => void told.push(change), onProgress: () => {} };
      const { lastId, stop } = await store.changes.follow(listener);
      const job = await submit(store);
      const first = await reserve(store);
      await store.begin(first.lease, { ...someJob(), id: first.lease.jobId });
      const { lease } = await start(store, job);
      await store.updateProgress(lease, {
        stage: 'denoise',
        step: 1,
        steps: 2,
        fraction: 0.5,
        etaSeconds: 1,
      });
      await store.retryLater(lease, 0, 'once more');
      await store.deadLetter((await start(store, job)).lease, 'broken', { ...failed(clock, job.id), job });
      const [letter] = await store.deadLetters(undefined, 1);
      await store.requeueDeadLetter(letter?.id ?? '');
      await store.cancel(job.id, cancelled(clock));
      const states = (changes: JobChange[]) =>
        changes.filter((change) => change.job.id === job.id).map((change) => change.job.status);
      const expected = ['queued', 'processing', 'queued', 'processing', 'failed', 'queued', 'cancelled'];
      await waitFor(() => states(told).length >= expected.length, { what: 'all changes' });
      t.same(states(told), expected);
      t.match(told[0]?.job, {
        type: 'sdxl_image_fast',
        userId,
        queue: 'sdxl_queue',
        attempts: 0,
        assets: [],
      });
      t.equal(
        told.find((change) => change.job.status === 'failed')?.job.errorMessage,
        'Generation failed: test',
      );
      stop();
      const kept = await store.changes.since(told[1]?.id ?? '');
      t.same(kept, told.slice(2), 'what came after one of them');
      t.same(await store.changes.since(told.at(-1)?.id ?? ''), []);
      t.equal(await store.changes.since('1-0'), null, 'too long ago to tell');
      t.ok(lastId < (told[0]?.id ?? ''));
    },
  );

  await t.test('the reasons of all dead letters, without their payloads', async (t) => {
    const { store, clock } = await open(t);
    for (const reason of ['one', 'two', 'one']) {
      const job = await submit(store);
      await store.deadLetter((await start(store, job)).lease, reason, { ...failed(clock, job.id), job });
      clock.advance(5);
    }
    const index = await store.deadLetterIndex();
    t.same(
      index.map(({ reason }) => reason),
      ['one', 'two', 'one'],
    );
    t.match(index[0], { queue: 'sdxl_queue', atMs: clock.now() - 5 });
    await store.dropDeadLetter(index[1]?.id ?? '');
    t.equal((await store.deadLetterIndex()).length, 2);
  });

  await t.test('the files of a job that is over are forgotten, and only of such a one', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    t.equal(await store.forgetAssets(job.id), null);
    const { lease } = await start(store, job);
    await store.finish(lease, { ...completed(clock, job.id), metadata: { seed: 1, asset_paths: ['a/b'] } });
    t.match(await store.forgetAssets(job.id), { assets: [], metadata: { asset_paths: [] } });
    const record = await store.get(job.id);
    t.match(record, { status: 'completed', assets: [], metadata: { seed: 1, assets_deleted_at: /^20/ } });
    t.same(record?.metadata['asset_paths'], []);
    t.equal(await store.forgetAssets(randomUUID()), null);
  });
}
