import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import t, { type Test } from 'tap';
import { ownProgram } from '../../src/lib/processes.js';
import { createEmbeddedStore } from '../../src/services/queue/embedded/store.js';
import { createClock, runStoreSuite } from './store-suite.js';
import {
  callbackOf,
  claimed,
  completed,
  leaseMs,
  reserve,
  start,
  submit,
  tryReserve,
  type SomeJob,
} from './suite/builders.js';

async function tempFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'store-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

async function open(t: Test, options: { retentionMs?: number } = {}) {
  const folder = await tempFolder(t);
  const clock = createClock();
  let store = await createEmbeddedStore({ folder, now: clock.now, ...options });
  t.teardown(() => store.close());
  return {
    store,
    clock,
    folder,
    reopen: async () => {
      await store.close();
      store = await createEmbeddedStore({ folder, now: clock.now, ...options });
      return store;
    },
  };
}

await t.test('embedded store', (t) => runStoreSuite(t, open));

await t.test('a second owner of the folder is refused with a reason', async (t) => {
  const { folder } = await open(t);
  await t.rejects(createEmbeddedStore({ folder }), {
    message: /in use by another process.*DATA_DIR.*REDIS_URL/s,
  });
});

await t.test(
  'finished jobs and dead callbacks are forgotten after the retention, others never',
  async (t) => {
    const { store, clock } = await open(t, { retentionMs: 3_600_000 });
    const done = await submit(store);
    await store.finish((await start(store, done)).lease, completed(clock, done.id));
    const refused = callbackOf(clock, 'another', 'completed');
    await store.outbox.add(refused);
    await store.outbox.claimDue('relay', 10, 0);
    clock.advance(1000);
    await store.outbox.deadLetter(refused.id, 'HTTP 404');
    const waiting = await submit(store);
    clock.advance(3_599_000);
    await store.reclaimExpired();
    t.equal((await store.outbox.listDead(10)).length, 1, 'not before its own hour is over');
    t.equal(await store.get(done.id), null);
    t.match(await store.get(waiting.id), { status: 'queued' });
    t.same(
      (await store.list({}, 10)).jobs.map(({ id }) => id),
      [waiting.id],
    );
    clock.advance(61_000);
    await store.reclaimExpired();
    t.same(await store.outbox.listDead(10), []);
    t.equal(await store.outbox.pending(), 1, 'a callback still to be delivered is kept');
  },
);

await t.test('setting the clock, or a night asleep, takes no job from its runner', async (t) => {
  const clock = createClock();
  const monotonic = createClock();
  const store = await createEmbeddedStore({
    folder: await tempFolder(t),
    now: clock.now,
    monotonicNow: monotonic.now,
  });
  t.teardown(() => store.close());
  const job = await submit(store);
  const { lease } = await start(store, job, callbackOf(clock, job.id, 'processing'));
  t.same(await claimed(store), [`${job.id}:processing`]);
  clock.advance(8 * 3_600_000);
  t.same(await store.reclaimExpired(), []);
  t.same(await claimed(store), [], 'nor a callback from its relay');
  monotonic.advance(leaseMs - 1);
  t.match(await store.renew(lease, leaseMs), { held: true });
  clock.advance(-24 * 3_600_000);
  monotonic.advance(leaseMs);
  t.same(await store.reclaimExpired(), [job.id], 'a runner that says nothing loses it all the same');
  t.match(await reserve(store), { attempt: 2, lease: { jobId: job.id } });
});

await t.test('a killed process leaves everything it promised', async (t) => {
  const folder = await tempFolder(t);
  const script = ownProgram('test/queue/processes/embedded-victim');
  const child = spawn(process.execPath, [...script, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = (await once(createInterface(child.stdout), 'line')) as [string];
  const jobs = JSON.parse(line) as Record<
    'finished' | 'running' | 'retried' | 'reserved' | 'waiting',
    SomeJob
  >;
  child.kill('SIGKILL');
  await once(child, 'exit');

  const store = await createEmbeddedStore({ folder });
  t.teardown(() => store.close());
  t.match(await store.get(jobs.finished.id), {
    status: 'completed',
    assets: ['a.png'],
    metadata: { seed: 3 },
  });
  t.match(await store.outbox.claimDue('relay', 10, 1000), [{ id: `${jobs.finished.id}:completed` }]);
  t.match(await store.depth('sdxl_queue'), { waiting: 3, delayed: 1, running: 0 });
  t.match(await store.get(jobs.running.id), {
    status: 'queued',
    attempts: 1,
    progress: { stage: 'queued' },
    lastError: 'worker-1 ended while it ran',
  });
  t.equal(await store.position(jobs.running.id), 0, 'nobody runs it, and it says so');
  const taken = [
    await tryReserve(store),
    await tryReserve(store),
    await tryReserve(store),
    await tryReserve(store),
  ];
  t.match(
    taken,
    [
      { attempt: 2, lease: { jobId: jobs.running.id } },
      { attempt: 2, lease: { jobId: jobs.reserved.id } },
      { attempt: 1, lease: { jobId: jobs.waiting.id } },
      null,
    ],
    'what ran comes first, and its attempt has counted',
  );
  t.match(await store.get(jobs.retried.id), { status: 'queued', attempts: 1, lastError: 'later' });
});
