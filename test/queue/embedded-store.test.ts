import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { createEmbeddedStore } from '../../src/services/queue/embedded/index.js';
import { createClock, runStoreSuite } from './store-suite.js';
import { completed, start, submit } from './suite/builders.js';

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
