import { execFileSync, spawnSync } from 'node:child_process';
import { mkdtemp, readdir, rm, stat } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { createEmbeddedStore } from '../../src/services/queue/embedded/store.js';
import type { JobStore } from '../../src/services/queue/job-store.js';
import {
  callbackOf,
  claimed,
  completed,
  leaseMs,
  reserve,
  start,
  submit,
  tryReserve,
} from './suite/builders.js';

/**
 * No file of this process may grow beyond `bytes`: the next write of the database fails as on a full disk.
 */
function limitFiles(bytes: number | 'unlimited') {
  execFileSync('prlimit', ['--pid', String(process.pid), `--fsize=${bytes}:unlimited`]);
}

async function open(t: Test) {
  const folder = await mkdtemp(path.join(os.tmpdir(), 'store-'));
  let store = await createEmbeddedStore({ folder });
  t.teardown(async () => {
    limitFiles('unlimited');
    await store.close();
    await rm(folder, { recursive: true, force: true });
  });
  return {
    store,
    async reopen(): Promise<JobStore> {
      await store.close();
      store = await createEmbeddedStore({ folder });
      return store;
    },
    /** Runs a call, which must fail, while there is no room; or for fewer bytes more than it writes. */
    async withoutRoom(call: () => Promise<unknown>, bytes?: number) {
      const [log = ''] = (await readdir(folder)).filter((name) => name.endsWith('.log'));
      limitFiles(bytes === undefined ? 0 : (await stat(path.join(folder, log))).size + bytes);
      await t.rejects(call());
      limitFiles('unlimited');
    },
  };
}

// A process that does not listen is ended by the signal that comes with the failed write.
process.on('SIGXFSZ', () => {});
const clock = { now: Date.now, advance: () => {} };

async function testFullDisk() {
  for (const begin of [false, true]) {
    await t.test(
      `a job whose reservation cannot be written stays where it was (begin: ${begin})`,
      async (t) => {
        const { store, withoutRoom } = await open(t);
        const first = await submit(store);
        const second = await submit(store);
        for (let i = 0; i < 3; i += 1)
          await withoutRoom(() =>
            store.reserve({ queue: 'sdxl_queue', workerId: 'worker-1', leaseMs, begin }),
          );
        t.match(await store.depth('sdxl_queue'), { waiting: 2, running: 0 });
        t.match(await store.get(first.id), { status: 'queued', attempts: 0 });
        t.match(await reserve(store), { attempt: 1, lease: { jobId: first.id } });
        t.match(await reserve(store), { attempt: 1, lease: { jobId: second.id } });
      },
    );
  }

  await t.test('what is accepted after a write that failed half-way is there after a restart', async (t) => {
    const { store, withoutRoom, reopen } = await open(t);
    await submit(store);
    await withoutRoom(() => submit(store), 100);
    const later = await submit(store);
    const again = await reopen();
    t.match(await again.get(later.id), { status: 'queued' });
    t.match(await again.depth('sdxl_queue'), { waiting: 2 });
  });

  await t.test('no callback leaves before the state it tells of is written', async (t) => {
    const { store, withoutRoom } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job, callbackOf(clock, job.id, 'processing'));
    await withoutRoom(() => store.finish(lease, completed(clock, job.id)));
    t.match(await store.get(job.id), { status: 'processing' });
    t.same(
      await claimed(store),
      [`${job.id}:processing`],
      'the earlier one is still there, the later one is not',
    );
    t.equal(await store.finish(lease, completed(clock, job.id)), true);
    await store.outbox.delivered(`${job.id}:processing`);
    t.same(await claimed(store), [`${job.id}:completed`]);
  });

  await t.test('a callback whose outcome cannot be written is neither lost nor changed', async (t) => {
    const { store, withoutRoom } = await open(t);
    const entry = callbackOf(clock, 'job', 'completed');
    await withoutRoom(() => store.outbox.add(entry));
    t.equal(await store.outbox.pending(), 0);
    await store.outbox.add(entry);
    t.same(await claimed(store), [entry.id]);
    await withoutRoom(() => store.outbox.delivered(entry.id));
    await withoutRoom(() => store.outbox.deadLetter(entry.id, 'HTTP 404'));
    t.equal(await store.outbox.pending(), 1);
    await store.outbox.deadLetter(entry.id, 'HTTP 404');
    await withoutRoom(() => store.outbox.retryDead());
    t.equal(await store.outbox.pending(), 0);
    t.match(await store.outbox.listDead(10), [{ id: entry.id, attempts: 1 }]);
  });

  await t.test('a job that cannot be put back keeps its lease', async (t) => {
    const { store, withoutRoom } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job);
    await withoutRoom(() => store.release(lease));
    await withoutRoom(() => store.retryLater(lease, 0, 'again'));
    await withoutRoom(() => store.deadLetter(lease, 'bad'));
    t.match(await store.renew(lease, leaseMs), { held: true });
    t.equal(await tryReserve(store), null);
    t.equal(await store.release(lease), true);
    t.match(await reserve(store), { attempt: 1, lease: { jobId: job.id } });
  });
}

if (spawnSync('prlimit', ['--version']).status !== 0)
  t.pass('a disk without room', {
    skip: 'prlimit (util-linux) is not installed: nothing of a full disk is tested',
  });
else await testFullDisk();

t.test('a closed queue says so, and is not opened again by whoever comes late', async (t) => {
  const { store } = await open(t);
  const job = await submit(store);
  const listing = store.list({}, 10).then(
    ({ jobs }) => jobs.length,
    (error: { code: string }) => error.code,
  );
  await store.close();
  t.match(String(await listing), /^(1|UNAVAILABLE)$/, 'what was begun ends one way or the other');
  const closed = { code: 'UNAVAILABLE', message: /the service is stopping/ };
  for (let round = 0; round < 3; round += 1) {
    await t.rejects(store.get(job.id), closed);
    await t.rejects(submit(store), closed);
    await t.rejects(store.list({}, 10), closed);
    await t.rejects(store.outbox.listDead(10), closed);
    await t.rejects(store.ping(), closed);
  }
  await t.rejects(reserve(store), closed);
});
