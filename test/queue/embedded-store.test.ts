import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import t, { type Test } from 'tap';
import { createEmbeddedStore } from '../../src/services/queue/embedded/index.js';
import { createClock, runStoreSuite } from './store-suite.js';
import { completed, start, submit, tryReserve, type SomeJob } from './suite/builders.js';

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
    store, clock, folder,
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
  await t.rejects(createEmbeddedStore({ folder }), { message: /in use by another process.*DATA_DIR.*REDIS_URL/s });
});

await t.test('finished jobs are forgotten after the retention, others never', async (t) => {
  const { store, clock } = await open(t, { retentionMs: 3_600_000 });
  const done = await submit(store);
  await store.finish((await start(store, done)).lease, completed(clock, done.id));
  const waiting = await submit(store);
  clock.advance(3_600_000);
  await store.reclaimExpired();
  t.equal(await store.get(done.id), null);
  t.match(await store.get(waiting.id), { status: 'queued' });
  t.same((await store.list({}, 10)).jobs.map(({ id }) => id), [waiting.id]);
  t.equal(await store.outbox.pending(), 1, 'a callback still to be delivered is kept');
});

await t.test('a killed process leaves everything it promised', async (t) => {
  const folder = await tempFolder(t);
  const script = fileURLToPath(new URL('processes/embedded-victim.js', import.meta.url));
  const child = spawn(process.execPath, [script, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  const [line] = await once(createInterface(child.stdout), 'line') as [string];
  const jobs = JSON.parse(line) as Record<'finished' | 'running' | 'retried' | 'reserved' | 'waiting', SomeJob>;
  child.kill('SIGKILL');
  await once(child, 'exit');

  const store = await createEmbeddedStore({ folder });
  t.teardown(() => store.close());
  t.match(await store.get(jobs.finished.id), { status: 'completed', assets: ['a.png'], metadata: { seed: 3 } });
  t.match(await store.outbox.claimDue('relay', 10, 1000), [{ id: `${jobs.finished.id}:completed` }]);
  t.match(await store.depth('sdxl_queue'), { waiting: 3, delayed: 1, running: 0 });
  const taken = [await tryReserve(store), await tryReserve(store), await tryReserve(store), await tryReserve(store)];
  t.match(taken, [
    { attempt: 2, lease: { jobId: jobs.running.id } },
    { attempt: 2, lease: { jobId: jobs.reserved.id } },
    { attempt: 1, lease: { jobId: jobs.waiting.id } },
    null,
  ], 'what ran comes first, and its attempt has counted');
  t.match(await store.get(jobs.retried.id), { status: 'queued', attempts: 1, lastError: 'later' });
});
