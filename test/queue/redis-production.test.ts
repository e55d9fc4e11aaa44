import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import t, { type Test } from 'tap';
import { readConfig } from '../../src/config.js';
import { QueueUnavailable } from '../../src/services/queue/index.js';
import { createRedisStore, type RedisStoreOptions } from '../../src/services/queue/redis/store.js';
import {
  failOver,
  openRedis,
  redisOrSkip,
  type RedisServer,
  startAddress,
  startRedis,
  startReplica,
  startSentinel,
  startTlsRedis,
} from '../helpers/redis.js';
import { waitFor } from '../helpers/wait-for.js';
import { createClock } from './store-suite.js';
import {
  callbackOf,
  completed,
  failed,
  payloadOf,
  reserve,
  someJob,
  start,
  submit,
  tryReserve,
} from './suite/builders.js';

const never = () => new AbortController().signal;

function openStore(t: Test, options: Partial<RedisStoreOptions> & { url: string }) {
  const store = createRedisStore(options);
  t.teardown(() => store.close());
  return store;
}

/** Another server than Debian's may have been built without what a test needs. */
async function startOrSkip<Server>(t: Test, start: () => Promise<Server>): Promise<Server | null> {
  try {
    return await start();
  } catch (error) {
    if (process.env['OURVIDZ_TEST_REDIS'] === undefined) throw error;
    t.pass('not with this server', { skip: String(error) });
    return null;
  }
}

const isWaitingOn = async (server: RedisServer) => {
  const admin = new Redis(server.url);
  const clients = String(await admin.client('LIST'));
  admin.disconnect();
  return /flags=\w*b\w* .*cmd=blmove/.test(clients);
};

if (redisOrSkip(t)) {
  await t.test('a failover behind one address: idle or at work, everything goes on by itself', async (t) => {
    const master = await startRedis();
    const replica = await startReplica(master);
    const address = await startAddress(master);
    const lines: string[] = [];
    const store = openStore(t, {
      url: address.url,
      log: { warn: (_fields, message) => lines.push(message) },
    });
    t.teardown(async () => {
      await address.close();
      await Promise.all([master.stop(), replica.stop()]);
    });
    const clock = createClock();
    const running = await submit(store);
    const { lease } = await start(store, running);
    t.equal(await tryReserve(store), null);
    const work = store.waitForWork(['sdxl_queue'], 60_000, never());
    await waitFor(() => isWaitingOn(master), { what: 'the blocking wait' });
    await store.ping();

    await failOver(master, replica, address);
    const producer = new Redis(replica.url);
    t.teardown(() => producer.disconnect());
    const pushed = someJob();
    await producer.lpush('sdxl_queue', payloadOf(pushed));
    await work;
    await waitFor(
      () =>
        isWaitingOn(replica).then(() =>
          store.ping().then(
            () => true,
            () => false,
          ),
        ),
      { what: 'a write to the new master' },
    );
    const taken = await waitFor(() => tryReserve(store).catch(() => null), { what: 'the job' });
    t.equal(taken.lease.jobId, pushed.id);
    t.match(await store.renew(lease, 30_000), { held: true });
    t.equal(await store.finish(lease, completed(clock, running.id)), true);
    t.ok(await producer.exists(`ourvidz:job:${running.id}`), 'on the new master');
    let told = '';
    store.onCancel((id) => {
      told = id;
    });
    await waitFor(
      async () => (await producer.publish('ourvidz:cancel', pushed.id)) > 0 && told === pushed.id,
      { what: 'a message of the new master' },
    );
    t.ok(lines.length <= 2, `one line a kind: ${lines.join(' | ')}`);
  });

  await t.test('a replica under the address: calls are refused soon, and it is not stormed', async (t) => {
    const master = await startRedis();
    const replica = await startReplica(master);
    const admin = new Redis(replica.url);
    t.teardown(async () => {
      admin.disconnect();
      await Promise.all([master.stop(), replica.stop()]);
    });
    const store = openStore(t, { url: replica.url, pollMs: 50 });
    const received = async () =>
      Number(/total_connections_received:(\d+)/.exec(await admin.info('stats'))?.[1]);
    await store.get(someJob().id);
    const before = await received();
    void store.waitForWork(['sdxl_queue', 'wan_queue'], 60_000, never());
    const endAt = performance.now() + 4000;
    let refused = 0;
    while (performance.now() < endAt) {
      await t.rejects(submit(store), QueueUnavailable);
      await t.rejects(store.ping(), QueueUnavailable);
      refused += 2;
      await sleep(50);
    }
    t.ok(refused > 20, `${refused} calls refused`);
    t.ok((await received()) - before <= 40, `${(await received()) - before} connections`);
    await admin.call('REPLICAOF', 'NO', 'ONE');
    await waitFor(
      () =>
        submit(store).then(
          () => true,
          () => false,
        ),
      { what: 'a job on the new master' },
    );
  });

  await t.test('a full server is worked off: only new jobs are refused', async (t) => {
    const { server, redis: admin } = await openRedis(t);
    const clock = createClock();
    const store = openStore(t, { url: server.url, pollMs: 50, blockSeconds: 1 });
    const [first, second, third, fourth, fifth, waiting] = [
      await submit(store),
      await submit(store),
      await submit(store),
      await submit(store),
      await submit(store),
      await submit(store),
    ];
    const running = await start(store, first);
    const lettered = await start(store, second);
    await store.deadLetter(lettered.lease, 'bad', { ...failed(clock, second.id), job: second });
    const [told] = await store.outbox.claimDue('r', 1, 1000);
    await store.outbox.deadLetter(told?.id ?? '', 'HTTP 410');

    await admin.config('SET', 'maxmemory', '100kb');
    await t.rejects(submit(store), { name: 'QueueUnavailable', sentence: 'The memory of the queue is full' });
    await t.rejects(store.push('sdxl_queue', payloadOf(someJob())), QueueUnavailable);
    await t.rejects(store.ping(), QueueUnavailable, 'not ready for new jobs');

    await store.updateProgress(running.lease, {
      stage: 'denoise',
      step: 1,
      steps: 2,
      fraction: 0.5,
      etaSeconds: 1,
    });
    t.match(await store.renew(running.lease, 30_000), { held: true });
    t.match(await store.get(first.id), { progress: { fraction: 0.5 } });
    t.equal(await store.finish(running.lease, completed(clock, first.id)), true);
    const plain = await reserve(store, { begin: true });
    t.match(plain, { begun: true, lease: { jobId: third.id } }, 'the next job is taken and begun');
    t.equal(await store.retryLater(plain.lease, 0, 'once more'), true);
    const again = await reserve(store, { begin: true });
    t.equal(await store.release(again.lease), true);
    const once = await reserve(store, { begin: true, leaseMs: 1 });
    t.match(once.lease, { jobId: third.id });
    await store.outbox.add(callbackOf(clock, third.id, 'processing'));
    await sleep(20);
    t.same(await store.reclaimExpired(), [third.id]);
    const last = await reserve(store);
    t.equal(await store.begin(last.lease, third), 'begun');
    t.equal(await store.deadLetter(last.lease, 'bad', { ...failed(clock, third.id), job: third }), true);
    t.match(await store.cancel(fourth.id, () => failed(clock, fourth.id)), { outcome: 'cancelled' });

    t.equal(await store.outbox.retryDead(told?.id), 1);
    const due = await store.outbox.claimDue('r', 10, 1000);
    t.same(due.map(({ jobId }) => jobId).sort(), [first.id, second.id, third.id, fourth.id].sort());
    for (const { id } of due.slice(0, 2)) await store.outbox.delivered(id);
    await store.outbox.reschedule(due[2]?.id ?? '', 1000, 'HTTP 500');
    await store.outbox.deadLetter(due[3]?.id ?? '', 'HTTP 410');

    const letters = await store.deadLetters(undefined, 10);
    t.equal(letters.length, 2);
    t.equal(await store.dropDeadLetter(letters[0]?.id ?? ''), true);
    t.equal(await store.requeueDeadLetter(letters[1]?.id ?? ''), 'requeued');
    const instance = { workerId: 'w', host: 'h', pid: 1, startedAtMs: 0, seenAtMs: 0, status: {} };
    await store.announce(instance, 60_000);
    t.same(await store.instances(), [instance]);
    t.match(await store.depth('sdxl_queue'), { waiting: 3 });
    t.match((await store.list({}, 10)).jobs.length, 6);

    for (const id of [fifth.id, waiting.id]) {
      const each = await reserve(store, { begin: true });
      t.equal(each.lease.jobId, id);
      t.ok(await store.finish(each.lease, completed(clock, id)));
    }
    const requeued = await reserve(store, { begin: true });
    t.ok(await store.finish(requeued.lease, completed(clock, requeued.lease.jobId)));

    // Blocking pops are refused meanwhile, and come back with the room.
    t.equal(await tryReserve(store), null);
    const wait = store.waitForWork(['sdxl_queue'], 60_000, never());
    await sleep(200);
    t.notOk(await isWaitingOn(server));
    await admin.config('SET', 'maxmemory', '0');
    await wait;
    t.equal(await tryReserve(store), null);
    void store.waitForWork(['sdxl_queue'], 60_000, never());
    await waitFor(() => isWaitingOn(server), { what: 'a blocking wait', timeoutMs: 10_000 });
    await store.ping();
    await submit(store);
  });

  await t.test('a server that runs a long script is not waited for', async (t) => {
    const { server, redis: admin } = await openRedis(t);
    const store = openStore(t, { url: server.url });
    await store.ping();
    await admin.config('SET', 'lua-time-limit', '50');
    const other = new Redis(server.url);
    t.teardown(() => other.disconnect());
    await other.ping();
    const endless = other.eval('while true do end', 0).catch(() => undefined);
    await t.rejects(submit(store), { name: 'QueueUnavailable', sentence: 'The queue is busy' });
    await admin.script('KILL');
    await endless;
    await submit(store);
  });

  await t.test('a server that still loads its data is not waited for', async (t) => {
    const slowLoading = ['--key-load-delay', '1000', '--loading-process-events-interval-bytes', '1024'];
    const server = await startOrSkip(t, () => startRedis({ args: slowLoading }));
    if (server === null) return;
    const admin = new Redis(server.url);
    t.teardown(async () => {
      admin.disconnect();
      await server.stop();
    });
    const store = openStore(t, { url: server.url });
    await store.ping();
    const pipeline = admin.pipeline();
    for (let index = 0; index < 3000; index += 1) pipeline.set(`key:${index}`, 'x'.repeat(100));
    await pipeline.exec();
    await admin.save();
    await server.kill();
    const loaded = server.start();
    const refusals = new Set<string>();
    await waitFor(
      () =>
        store.ping().then(
          () => true,
          (error: QueueUnavailable) => void refusals.add(error.sentence),
        ),
      { what: 'the data to be loaded', intervalMs: 5 },
    );
    await loaded;
    t.ok(refusals.has('The queue is starting'), [...refusals].join(', '));
    await store.ping();
  });

  await t.test('TLS with an authority of its own', async (t) => {
    const server = await startOrSkip(t, startTlsRedis);
    if (server === null) return;
    t.teardown(() => server.stop());
    const lines: string[] = [];
    const log = { warn: (fields: object) => lines.push(String((fields as { err?: Error }).err)) };
    await t.rejects(openStore(t, { url: server.url, log }).ping(), QueueUnavailable);
    t.match(lines, [/certificate/]);
    const { redisTlsCa, redisUrl = '' } = readConfig({
      REDIS_URL: server.url,
      REDIS_TLS_CA_FILE: server.caFile,
      WAN_WORKER_API_KEY: 'a-key-of-the-test',
    });
    const store = openStore(t, { url: redisUrl, ca: redisTlsCa });
    const job = await submit(store);
    const wait = store.waitForWork(['sdxl_queue'], 60_000, never());
    t.equal((await reserve(store)).lease.jobId, job.id);
    await wait;
  });

  await t.test('Sentinels say where the master is, and when it is another', async (t) => {
    const master = await startRedis({ args: ['--requirepass', 'geheim', '--masterauth', 'geheim'] });
    const replica = await startReplica(master, {
      args: ['--requirepass', 'geheim', '--masterauth', 'geheim'],
      password: 'geheim',
    });
    const sentinel = await startSentinel(master, 'jobs', { master: 'geheim', own: 'wache' });
    t.teardown(async () => {
      await sentinel.stop();
      await Promise.all([master.stop(), replica.stop()]);
    });
    const url = `redis+sentinel://:geheim@127.0.0.1:1,127.0.0.1:${sentinel.port}/jobs?sentinel_password=wache`;
    const store = openStore(t, { url });
    const job = await submit(store);
    const { lease } = await start(store, job);
    const admin = new Redis({ port: replica.port, host: '127.0.0.1', password: 'geheim' });
    t.teardown(() => admin.disconnect());
    await waitFor(async () => (await admin.hget(`ourvidz:job:${job.id}`, 'status')) === 'processing', {
      what: 'the replica to have the job: a Sentinel does not wait for that',
    });
    await waitFor(
      async () => ((await sentinel.client.call('SENTINEL', 'REPLICAS', 'jobs')) as unknown[]).length > 0,
      { what: 'the replica to be known' },
    );
    await waitFor(
      () =>
        sentinel.client.call('SENTINEL', 'FAILOVER', 'jobs').then(
          () => true,
          () => false,
        ),
      { what: 'the failover to begin' },
    );
    await waitFor(async () => /role:master/.test(await admin.info('replication')), {
      what: 'the replica to be the master',
    });
    // What the old master took behind the replica's back is lost with it; leases are renewed for that.
    await waitFor(
      async () => {
        await store.renew(lease, 30_000).catch(() => undefined);
        return /name=ourvidz-main/.test(String(await admin.client('LIST')));
      },
      { what: 'a connection to the new master' },
    );
    t.match(await store.renew(lease, 30_000), { held: true });
    t.equal(await store.finish(lease, completed(createClock(), job.id)), true);
    t.equal(await admin.hget(`ourvidz:job:${job.id}`, 'status'), 'completed');
  });
}
