import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { ClassicLevel } from 'classic-level';
import t, { type Test } from 'tap';
import { createEmbeddedStore } from '../../src/services/queue/embedded/store.js';
import { testEngineEntry } from '../engines/support.js';
import { build } from '../helpers/build.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { createClock } from './store-suite.js';
import { claimed, completed, failed, payloadOf, reserve, someJob, start, submit } from './suite/builders.js';

/** What older versions, other programs or half a restore may have left, written straight into the database. */
const clock = createClock();

async function open(t: Test) {
  const folder = t.testdir();
  const named: string[] = [];
  const log = { warn: (fields: object) => void named.push(String((fields as { key?: unknown }).key)) };
  const options = { folder, log, now: clock.now };
  let store = await createEmbeddedStore(options);
  t.teardown(() => store.close());
  return {
    store,
    named,
    /** Changes what is stored while nobody has it open; undefined removes. */
    async reopen(change: Record<string, string | undefined>) {
      await store.close();
      await alter(folder, change);
      store = await createEmbeddedStore(options);
      return store;
    },
  };
}

async function alter(folder: string, change: Record<string, string | undefined>): Promise<void> {
  const level = new ClassicLevel(folder);
  for (const [key, value] of Object.entries(change)) {
    if (value === undefined) await level.del(key);
    else await level.put(key, value);
  }
  await level.close();
}

const entryKey = (index: number, table = 'entry') => `${table}!${String(index).padStart(16, '0')}`;

t.test('a record that cannot be read is passed over and named, the others are shown', async (t) => {
  const { store, named, reopen } = await open(t);
  const jobs = [];
  for (let index = 0; index < 4; index += 1) jobs.push(await submit(store));
  const [sound, half, text, odd] = jobs.map(({ id }) => id);
  const again = await reopen({
    [`job!${half}`]: '{"record": {"id"',
    [`job!${text}`]: '"no record"',
    [`job!${odd}`]: JSON.stringify({ record: { ...(await store.get(odd ?? '')), progress: 'none' } }),
  });
  t.same(
    (await again.list({}, 10)).jobs.map(({ id }) => id),
    [sound],
  );
  await again.list({}, 10);
  t.same(named.sort(), [`job!${half}`, `job!${odd}`, `job!${text}`].sort(), 'each once');
  t.match(await again.get(half ?? ''), { status: 'queued' }, 'by its payload');
  for (const job of jobs)
    t.match(await reserve(again, { begin: true }), { begun: true, lease: { jobId: job.id } });
  t.match(await again.get(half ?? ''), { status: 'processing' }, 'it is written anew');
});

t.test('of an entry whatever is left is gone on with, and the line goes on', async (t) => {
  const { store, reopen } = await open(t);
  const jobs = [];
  for (let index = 0; index < 4; index += 1) jobs.push(await submit(store));
  const pushed = someJob();
  for (let index = 0; index < 2; index += 1) await store.push('sdxl_queue', payloadOf(pushed));
  const begun = await start(store, jobs[0] ?? pushed);
  await store.retryLater(begun.lease, 0, 'again');
  const again = await reopen({
    [entryKey(1)]: '{half',
    [entryKey(2, 'payload')]: undefined,
    [entryKey(3)]: '7',
    [entryKey(3, 'payload')]: undefined,
    [entryKey(5)]: '{}',
    [entryKey(6)]: '{}',
    [entryKey(6, 'payload')]: '{half',
  });
  const found = new Map<string, Awaited<ReturnType<typeof reserve>>>();
  for (let index = 0; index < 5; index += 1) {
    const taken = await reserve(again, { begin: true });
    found.set(taken.lease.jobId, taken);
  }
  const [first, second, third, fourth] = jobs.map(({ id }) => found.get(id));
  t.match(first, { begun: true, attempt: 2 }, 'its record and its payload are there');
  for (const taken of [second, third])
    t.match(taken, { begun: false, read: { isGone: true, type: jobs[1]?.type } });
  t.match(fourth, { begun: true, attempt: 1 });
  t.match(found.get(pushed.id), { begun: true }, 'its payload says whose it is');
  t.match(await again.deadLetters(undefined, 10), [{ reason: 'its entry 6 cannot be read' }]);
});

t.test('callbacks and dead letters that cannot be read are passed over', async (t) => {
  const { store, named, reopen } = await open(t);
  const jobs = [];
  for (let index = 0; index < 3; index += 1) {
    const job = await submit(store);
    await store.finish((await start(store, job)).lease, completed(clock, job.id));
    jobs.push(job);
  }
  const bad = await submit(store);
  await store.deadLetter((await start(store, bad)).lease, 'bad', { ...failed(clock, bad.id), job: bad });
  await store.outbox.deadLetter(`${bad.id}:failed`, 'HTTP 410');
  const again = await reopen({
    [entryKey(1, 'callback')]: '{half',
    [entryKey(2, 'callback')]: '{"seq":2,"entry":{"url":7}}',
    'dead!odd': 'x',
    'deadcallback!odd': '{}',
    'idempotency!odd': '[]',
  });
  t.same(await claimed(again), [`${jobs[2]?.id}:completed`]);
  t.match(await again.deadLetters(undefined, 10), [{ jobId: bad.id }]);
  t.equal(await again.requeueDeadLetter('odd'), 'unknown');
  t.equal(await again.dropDeadLetter('odd'), true);
  t.match(await again.outbox.listDead(10), [{ jobId: bad.id }]);
  t.equal(await again.outbox.retryDead(), 1);
  clock.advance(61_000);
  await again.reclaimExpired();
  t.same(
    named.sort(),
    [
      entryKey(1, 'callback'),
      entryKey(2, 'callback'),
      'dead!odd',
      'deadcallback!odd',
      'idempotency!odd',
    ].sort(),
  );
});

t.test('a service with such a database starts, shows the rest, and ends what cannot go on', async (t) => {
  const receiver = await startCallbackReceiver();
  t.teardown(() => receiver.close());
  const folder = t.testdir({ data: { queue: {} }, models: { sdxl: {} } });
  const dataDir = path.join(folder, 'data');
  const store = await createEmbeddedStore({ folder: path.join(dataDir, 'queue') });
  const lost = await submit(store, { ...someJob(), id: randomUUID() });
  const sound = await submit(store);
  await store.close();
  await alter(path.join(dataDir, 'queue'), {
    [entryKey(1)]: '{half',
    [entryKey(1, 'payload')]: undefined,
    'callback!x': '{half',
    'job!x': '{half',
    'dead!x': '{half',
  });
  const { call } = await build(t, {
    env: { DATA_DIR: dataDir, CALLBACK_URL: receiver.url, MODELS_DIR: path.join(folder, 'models') },
    options: { engineEntry: testEngineEntry },
    start: true,
  });
  t.match((await receiver.waitForTerminal(lost.id)).body, {
    status: 'failed',
    error_message: 'Generation failed: its payload is gone from the queue',
  });
  t.match((await receiver.waitForTerminal(sound.id)).body, { status: 'completed' });
  const list = (await call('GET', '/jobs')).json<{ jobs: Array<{ id: string }> }>().jobs;
  t.same(list.map(({ id }) => id).sort(), [lost.id, sound.id].sort());
  t.match((await call('GET', '/dead-letters')).json(), { dead_letters: [{ job_id: lost.id }] });
});
