import { randomUUID } from 'node:crypto';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import { createFitness } from '../../src/services/jobs/index.js';
import { QueueUnavailable } from '../../src/services/queue/index.js';
import type { JobRecord } from '../../src/services/queue/job-store.js';
import { type Storage, StorageError } from '../../src/services/storage/storage.js';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { silentLog, testEngineEntry } from '../engines/support.js';
import { build } from '../helpers/build.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { keyOf, startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';
import { waitFor } from '../helpers/wait-for.js';
import { createTestStorage, harness } from './support.js';

/** The whole service over an HTTP double of Supabase Storage, a real receiver of callbacks and a real engine process. */
async function open(t: Test, { expired = false } = {}) {
  const key = keyOf({ role: 'service_role' });
  const double = await startSupabaseStorageDouble({ serviceKey: key });
  const receiver = await startCallbackReceiver();
  t.teardown(() => Promise.all([double.close(), receiver.close()]));
  if (expired) double.expireKey(key);
  const lines: Array<{ event?: string; msg: string; reasons?: string[] }> = [];
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line) as never) });
  const app = await build(t, {
    env: {
      MODELS_DIR: t.testdir({ sdxl: {} }),
      SUPABASE_URL: double.url,
      SUPABASE_SERVICE_KEY: key,
      CALLBACK_URL: receiver.url,
      WAN_WORKER_API_KEY: 'a-key-of-its-own',
      MAX_ATTEMPTS: '1',
    },
    options: { engineEntry: testEngineEntry },
    log,
    start: true,
  });
  const submit = async (prompt = 'a red circle') => {
    const id = randomUUID();
    const answer = await app.call('POST', '/jobs', { ...goodPayloads.sdxl, id, prompt });
    t.equal(answer.statusCode, 202);
    return id;
  };
  const job = async (id: string) => (await app.services.store.get(id)) as JobRecord;
  const becomes = (id: string, status: JobRecord['status']) =>
    waitFor(async () => ((await job(id)).status === status ? job(id) : undefined), {
      what: () =>
        `${id} to be ${status}; ${lines
          .slice(-8)
          .map(({ msg }) => msg)
          .join(' | ')}`,
    });
  const readiness = async () => {
    const answer = await app.inject({ url: '/ready' });
    return { status: answer.statusCode, ...answer.json<{ reasons: string[] }>() };
  };
  const health = async () => (await app.inject({ url: '/health' })).json<Record<string, unknown>>();
  return { ...app, key, double, receiver, lines, submit, job, becomes, readiness, health };
}

t.test('a worker whose key has expired takes no job, says so, and resumes by itself', async (t) => {
  const s = await open(t, { expired: true });
  const id = await s.submit();
  await waitFor(() => s.lines.some(({ event }) => event === 'unfit'), { what: 'the line that says so' });
  t.match(await s.job(id), { status: 'queued', attempts: 0 });
  t.match(await s.health(), { status: 'degraded', worker_ready: false });
  const { status, reasons } = await s.readiness();
  t.equal(status, 503);
  t.match(reasons, [/SUPABASE_SERVICE_KEY/]);
  t.equal(new Set(reasons).size, reasons.length, 'nothing is said twice');
  t.notMatch(JSON.stringify(s.lines), s.key);

  s.double.renewKey(s.key);
  t.match(await s.becomes(id, 'completed'), { attempts: 1 });
  t.equal(s.lines.filter(({ event }) => event === 'unfit').length, 1);
  t.equal(s.lines.filter(({ event }) => event === 'fit').length, 1);
  await waitFor(async () => (await s.readiness()).status === 200, { what: 'readiness' });
  t.match(await s.health(), { status: 'healthy', worker_ready: true });
});

t.test(
  'a key that expires under a job charges it nothing: it goes back, and is drawn when that is cured',
  async (t) => {
    const s = await open(t);
    const id = await s.submit('a red circle is slow');
    await s.becomes(id, 'processing');
    s.double.expireKey(s.key);
    t.match(await s.becomes(id, 'queued'), { attempts: 0 });
    await waitFor(() => s.lines.some(({ event }) => event === 'unfit'), { what: 'the line that says so' });
    s.double.renewKey(s.key);
    t.match(await s.becomes(id, 'completed'), { attempts: 1 });
    await s.receiver.waitForTerminal(id);
    t.same(
      s.receiver.accepted(id).filter(({ body }) => body.status === 'failed'),
      [],
    );
    t.same(await s.services.store.deadLetters(undefined, 10), []);
  },
);

t.test(
  'a receiver of callbacks that refuses the worker: no job is taken until it accepts again',
  async (t) => {
    const s = await open(t);
    s.receiver.setRespond(() => 401);
    const first = await s.submit();
    await s.becomes(first, 'completed');
    await waitFor(() => s.lines.some(({ event }) => event === 'unfit'), { what: 'the line that says so' });
    const second = await s.submit();
    t.match(await s.readiness(), {
      status: 503,
      reasons: [/receiver of callbacks refuses this worker: it answers 401/],
    });
    t.match(await s.health(), { status: 'degraded' });
    await new Promise((resolve) => setTimeout(resolve, 1500));
    t.match(await s.job(second), { status: 'queued', attempts: 0 });
    s.receiver.setRespond(() => 200);
    await s.becomes(second, 'completed');
    for (const id of [first, second])
      t.equal((await s.receiver.waitForTerminal(id)).body.status, 'completed');
  },
);

const originOf = (storage: Storage) =>
  storage.read('b', 'p', 1, new AbortController().signal).then(
    () => null,
    (error: StorageError) => error.origin,
  );
const closed = () => new StorageError('403 the key has expired', 'forbidden', false);

t.test(
  'a storage that is well when asked and refuses each job is rested from, longer each time',
  async (t) => {
    const h = await harness(t, { limits: { maxAttempts: 1 } });
    const refusals: number[] = [];
    for (let times = 0; times < 4; times += 1)
      h.faults.push(() => {
        refusals.push(performance.now());
        throw closed();
      });
    h.runner.start();
    const id = await h.submit('a red circle');
    t.match(await h.ended(id), { status: 'completed', attempts: 1 }, 'four refusals cost no attempt');
    const [, second = 0, third = 0, fourth = 0] = refusals;
    t.ok(third - second >= 100 && fourth - third >= 200, `${third - second}, ${fourth - third} ms`);
    t.same(
      h.finished.map(({ outcome }) => outcome),
      ['completed'],
    );
  },
);

t.test('a bucket that is closed to the key is the fault of the job that names it', async (t) => {
  const fitness = createFitness({ refusal: () => null, log: silentLog });
  const parts = createTestStorage(t.testdir()).storage;
  const refuse = () => Promise.reject(closed());
  t.equal(await originOf(fitness.watch({ ...parts, read: refuse })), 'job');
  t.ok(fitness.isFit());
  t.equal(await originOf(fitness.watch({ ...parts, read: refuse, ping: refuse })), 'worker');
  t.notOk(fitness.isFit());
});

t.test('a queue that takes no write when a job begins costs it no attempt', async (t) => {
  const h = await harness(t, { limits: { maxAttempts: 1, leaseMs: 30_000 } });
  const add = h.store.outbox.add.bind(h.store.outbox);
  let refusals = 3;
  h.store.outbox.add = async (callback) => {
    if (refusals > 0) {
      refusals -= 1;
      throw new QueueUnavailable(new Error("READONLY You can't write against a read only replica."));
    }
    return add(callback);
  };
  h.runner.start();
  t.match(await h.ended(await h.submit('a red circle')), { status: 'completed', attempts: 1 });
  t.equal(refusals, 0);
});
