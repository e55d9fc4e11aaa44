import { readFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { createRedisSessions } from '../../src/services/enhancement/redis-sessions.js';
import { createRedisStore, type RedisStoreOptions } from '../../src/services/queue/redis/store.js';
import { waitFor } from '../helpers/wait-for.js';
import { openRedis, redisOrSkip, startRedis } from '../helpers/redis.js';
import type { JobStore } from '../../src/services/queue/job-store.js';
import { mostDeadCallbacks, mostDeadLetters } from '../../src/services/queue/records.js';
import { createClock, runStoreSuite, type Clock } from './store-suite.js';
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
} from './suite/builders.js';

if (redisOrSkip(t)) {
  const { server, redis: admin } = await openRedis(t);

  const createStore = (t: Test, options: Partial<RedisStoreOptions> = {}) => {
    const store = createRedisStore({ url: server.url, ...options });
    t.teardown(() => store.close());
    return store;
  };
  const open = async (t: Test, options: { retentionMs?: number; url?: string } = {}) => {
    await admin.flushall();
    const clock = createClock();
    return {
      store: createStore(t, { now: clock.now, ...options }),
      clock,
      reopen: async () => createStore(t, { now: clock.now, ...options }),
    };
  };
  const never = () => new AbortController().signal;

  await t.test('Redis store, as the user that docs/queue.md gives it', async (t) => {
    const docs = readFileSync(path.join(projectRoot(), 'docs/queue.md'), 'utf8');
    const [line = ''] = /ACL SETUSER ourvidz .*/.exec(docs) ?? [];
    const [, , ...rules] = line.replace('PASSWORD', 'geheim').split(' ');
    await admin.acl('SETUSER', ...(rules as [string, ...string[]]));
    await admin.call('ACL', 'LOG', 'RESET');
    const url = server.url.replace('://', '://ourvidz:geheim@');
    await runStoreSuite(t, (t, options) => open(t, { url, ...options }));

    const sessions = createRedisSessions({ url, ttlMs: 60_000, maxTurns: 2, maxSessions: 1 });
    t.teardown(() => sessions.close());
    for (const id of ['a', 'b']) await sessions.append({ owner: 'o', id }, { prompt: 'p', answer: 'q' });
    t.same(await sessions.read({ owner: 'o', id: 'b' }), [{ prompt: 'p', answer: 'q' }]);
    await sessions.forget({ owner: 'o', id: 'b' });
    const store = createStore(t, { url });
    await store.ping();
    const wait = store.waitForWork(['sdxl_queue'], 60_000, never());
    await store.push('sdxl_queue', payloadOf(someJob()));
    await wait;
    t.same(await admin.call('ACL', 'LOG'), [], 'nothing was refused');
  });

  await t.test('a user with too few rights is told so', async (t) => {
    await admin.flushall();
    await admin.call('ACL', 'SETUSER', 'poor', 'on', '>geheim', '~*', '&*', '+@all', '-evalsha', '-eval');
    t.teardown(() => admin.call('ACL', 'DELUSER', 'poor'));
    const warnings: string[] = [];
    const log = { warn: (fields: object) => warnings.push(String((fields as { err?: Error }).err)) };
    const store = createStore(t, { url: server.url.replace('://', '://poor:geheim@'), log });
    for (let tries = 0; tries < 5; tries += 1)
      await t.rejects(submit(store), { name: 'QueueUnavailable', sentence: 'The queue refuses this worker' });
    t.match(warnings, [/NOPERM .*evalsha/]);
    t.equal(warnings.length, 1);
  });

  await t.test(
    'a payload that is no text reaches the dead letters byte for byte, and comes back',
    async (t) => {
      const { store } = await open(t);
      const bytes = Buffer.from([0, 255, 254, 0x7b, 0xc3, 0x28, 13, 10]);
      await admin.lpush('sdxl_queue', bytes);
      await store.deadLetter((await reserve(store)).lease, 'not JSON');
      const [letter] = await store.deadLetters(undefined, 1);
      t.same(await admin.hgetBuffer(`ourvidz:deadletter:${letter?.id}`, 'payload'), bytes);
      await store.requeueDeadLetter(letter?.id ?? '');
      t.same(await admin.rpopBuffer('sdxl_queue'), bytes);
    },
  );

  await t.test('what producers pushed and nobody has begun is listed first, page by page', async (t) => {
    const { store } = await open(t);
    const posted = await submit(store);
    const pushed = Array.from({ length: 5 }, () => someJob());
    for (const job of pushed) await admin.lpush('sdxl_queue', payloadOf(job));
    await admin.lpush('sdxl_queue', 'no job', JSON.stringify({ ...someJob(), type: 'nonsense' }));
    const seen: string[] = [];
    let cursor: string | undefined;
    do {
      const page = await store.list({ status: 'queued' }, 2, cursor);
      seen.push(...page.jobs.map(({ id }) => id));
      cursor = page.nextCursor;
    } while (cursor !== undefined);
    t.same(seen, [...pushed.map(({ id }) => id).sort(), posted.id]);
    t.match((await store.list({}, 1)).jobs[0], { status: 'queued', request: /a red circle/ });
    t.same((await store.list({ status: 'failed' }, 5)).jobs, []);
    t.equal((await store.list({ text: 'a red' }, 10)).jobs.length, 6);
  });

  await t.test('one reader serves all who follow all jobs, and is gone with the last of them', async (t) => {
    const { store } = await open(t);
    const other = createStore(t);
    const waits = async () =>
      String(await admin.client('LIST'))
        .split('\n')
        .filter((line) => line.includes('cmd=xread')).length;
    const progress: string[] = [];
    const own: string[] = [];
    const following = await Promise.all(
      Array.from({ length: 20 }, () =>
        store.changes.follow({ onChange: () => {}, onProgress: ({ id }) => void progress.push(id) }),
      ),
    );
    await waitFor(async () => (await waits()) === 1, { what: 'one reader' });
    const { stop } = await other.changes.follow({
      onChange: () => {},
      onProgress: ({ id }) => void own.push(id),
    });
    const job = await submit(other);
    const { lease } = await start(other, job);
    await other.updateProgress(lease, {
      stage: 'denoise',
      step: 1,
      steps: 2,
      fraction: 0.5,
      etaSeconds: null,
    });
    await waitFor(() => progress.length === 20, { what: 'progress of a job that runs elsewhere' });
    t.same(own, [], 'whoever runs it knows already');
    stop();
    for (const one of following) one.stop();
    await waitFor(async () => (await waits()) === 0, { what: 'no reader' });
  });

  await t.test('a user that may write no stream loses no job by it', async (t) => {
    await admin.flushall();
    const rules = ['on', '>geheim', '~*', '&*', '+@all', '-xadd', '-xread'] as const;
    await admin.call('ACL', 'SETUSER', 'streamless', ...rules);
    t.teardown(() => admin.call('ACL', 'DELUSER', 'streamless'));
    const clock = createClock();
    const store = createStore(t, { url: server.url.replace('://', '://streamless:geheim@') });
    const job = await submit(store);
    t.ok(await store.finish((await start(store, job)).lease, completed(clock, job.id)));
    t.match(await store.get(job.id), { status: 'completed' });
  });

  await t.test("payloads are taken from the right end of the producers' list", async (t) => {
    const { store } = await open(t);
    const jobs = [someJob(), someJob(), someJob()];
    for (const job of jobs) await admin.lpush('sdxl_queue', payloadOf(job));
    t.equal((await reserve(store)).lease.jobId, jobs[0]?.id);
    t.same(await admin.lrange('sdxl_queue', 0, -1), [
      payloadOf(jobs[2] ?? someJob()),
      payloadOf(jobs[1] ?? someJob()),
    ]);
  });

  await t.test(
    'nothing of a job is left when all is done, but its record and place in the listing',
    async (t) => {
      const { store, clock } = await open(t, { retentionMs: 3_600_000 });
      const job = await submit(store);
      const bad = await submit(store);
      await store.finish((await start(store, job)).lease, completed(clock, job.id));
      await store.deadLetter((await reserve(store)).lease, 'bad', { ...failed(clock, bad.id), job: bad });
      for (const { id } of await store.outbox.claimDue('r', 10, 1000)) await store.outbox.delivered(id);
      const [letter] = await store.deadLetters(undefined, 1);
      await store.dropDeadLetter(letter?.id ?? '');
      t.same(
        (await admin.keys('*')).sort(),
        [`ourvidz:job:${bad.id}`, `ourvidz:job:${job.id}`, 'ourvidz:jobs', 'ourvidz:changes'].sort(),
      );
      t.ok((await admin.pttl(`ourvidz:job:${job.id}`)) > 3_500_000, 'and the record ends by itself');
    },
  );

  await t.test(
    'finished jobs and dead callbacks are forgotten after the retention, others never',
    async (t) => {
      const { store, clock, reopen } = await open(t, { retentionMs: 3_600_000 });
      const done = await submit(store);
      await store.finish((await start(store, done)).lease, completed(clock, done.id));
      const waiting = await submit(store);
      for (const { id } of await store.outbox.claimDue('r', 10, 1000))
        await store.outbox.deadLetter(id, 'HTTP 404');
      clock.advance(3_600_000);
      await store.reclaimExpired();
      await (await reopen()).reclaimExpired();
      t.same((await admin.keys('*')).filter((key) => !key.includes('idempotency')).sort(), [
        'ourvidz:changes',
        `ourvidz:job:${waiting.id}`,
        'ourvidz:jobs',
        'sdxl_queue',
      ]);
      t.same(
        (await store.list({}, 10)).jobs.map(({ id }) => id),
        [waiting.id],
      );
    },
  );

  await t.test('beyond their number the oldest dead letters go', async (t) => {
    const { store, clock } = await open(t);
    const extra = 7;
    const batch = admin.pipeline();
    for (let index = 0; index < mostDeadLetters + extra; index += 1) {
      batch.hset(`ourvidz:deadletter:${index}`, 'payload', 'x', 'queue', 'sdxl_queue');
      batch.zadd('ourvidz:deadletters', clock.now() + index, String(index));
    }
    await batch.exec();
    await store.reclaimExpired();
    t.equal(await admin.zcard('ourvidz:deadletters'), mostDeadLetters);
    t.equal(await admin.exists('ourvidz:deadletter:0', 'ourvidz:deadletter:6'), 0);
    t.equal(await admin.exists('ourvidz:deadletter:7'), 1);
  });

  await t.test('beyond their number the oldest dead callbacks go, while others come', async (t) => {
    const { store, clock } = await open(t);
    const extra = 7;
    const batch = admin.pipeline();
    for (let index = 0; index < mostDeadCallbacks + extra; index += 1) {
      batch.hset(`ourvidz:callback:${index}`, 'entry', '{}');
      batch.zadd('ourvidz:callbacks:dead', clock.now() - 10 + index / 10_000, String(index));
    }
    await batch.exec();
    const job = await submit(store);
    await store.finish((await start(store, job)).lease, completed(clock, job.id));
    const [due] = await store.outbox.claimDue('r', 1, 1000);
    await store.outbox.deadLetter(due?.id ?? '', 'HTTP 410');
    t.equal(await admin.zcard('ourvidz:callbacks:dead'), mostDeadCallbacks);
    t.equal(await admin.exists('ourvidz:callback:0', `ourvidz:callback:${extra}`), 0);
    t.equal(await admin.exists(`ourvidz:callback:${extra + 1}`), 1);
  });

  await t.test('what another program left among the instances is passed over', async (t) => {
    const { store, clock } = await open(t);
    const instance = { workerId: 'w1', host: 'h', pid: 1, startedAtMs: 0, seenAtMs: clock.now(), status: {} };
    await store.announce(instance, 1000);
    await admin.hset('ourvidz:instances', { text: 'no json', number: '7', other: '{"instance":{}}' });
    t.same(await store.instances(), [instance]);
  });

  await t.test('the same reservation sent twice is one reservation', async (t) => {
    const { store } = await open(t);
    await submit(store);
    await submit(store);
    const evalsha: Parameters<typeof admin.evalsha>[] = [];
    const monitor = await admin.monitor();
    t.teardown(() => monitor.disconnect());
    monitor.on('monitor', (_time: string, args: string[]) => {
      if (args[0] === 'evalsha' && args.includes('worker-1') && args.includes('next'))
        evalsha.push(args.slice(1) as Parameters<typeof admin.evalsha>);
    });
    const first = await reserve(store);
    while (evalsha.length === 0) await sleep(5);
    const again = (await admin.evalsha(...(evalsha[0] ?? ['', 0]))) as unknown[];
    t.same(again.slice(0, 3), [1, first.payload, first.attempt]);
    t.match(await store.depth('sdxl_queue'), { waiting: 1, running: 1 });
  });

  await t.test(
    'what comes next is read ahead: taking and beginning it is one step, if nobody else takes it',
    async (t) => {
      const { store, clock, reopen } = await open(t);
      const calls = async () =>
        Number(/cmdstat_evalsha:calls=(\d+)/.exec(await admin.info('commandstats'))?.[1] ?? 0);
      const take = async (from: JobStore) => {
        const reservation = await from.reserve({
          queue: 'sdxl_queue',
          workerId: 'w',
          leaseMs: 30_000,
          begin: true,
        });
        if (reservation === null) return '';
        t.match(reservation, { begun: true, attempt: 1 });
        t.match(await from.get(reservation.lease.jobId), { status: 'processing', type: 'sdxl_image_fast' });
        await from.finish(reservation.lease, completed(clock, reservation.lease.jobId));
        return reservation.lease.jobId;
      };
      const push = async (count: number) => {
        const ids = Array.from({ length: count }, () => someJob());
        for (const job of ids) await admin.lpush('sdxl_queue', payloadOf(job));
        return ids.map(({ id }) => id);
      };
      const alone = await push(60);
      await take(store);
      const before = await calls();
      for (const id of alone.slice(1)) t.equal(await take(store), id);
      t.ok((await calls()) - before <= 2 * 59 + 2, `${(await calls()) - before} scripts for 59 jobs`);

      const shared = await push(60);
      const other = await reopen();
      const cancelledIds = new Set([shared[10], shared[25]]);
      const taken = [await take(store), await take(other)];
      for (const id of cancelledIds) await other.cancel(id ?? '', cancelled(clock));
      while (taken.at(-1) !== '') taken.push(await take(taken.length % 3 === 0 ? store : other));
      t.same(
        taken.slice(0, -1),
        shared.filter((id) => !cancelledIds.has(id)),
      );
    },
  );

  await t.test('a job is cancelled from another process than the one that runs it', async (t) => {
    const { store, clock, reopen } = await open(t);
    const other = await reopen();
    const job = await submit(store);
    await start(store, job);
    other.onCancel(() => t.fail('told to a process that does not run it'));
    t.equal(await cancelUntilHeard(store, other, job.id, clock), job.id);
  });

  await t.test('waiting takes nothing, and ends when a producer pushes', async (t) => {
    const { store } = await open(t);
    t.equal(await tryReserve(store), null);
    const waits = [
      store.waitForWork(['sdxl_queue', 'wan_queue'], 60_000, never()),
      store.waitForWork(['sdxl_queue'], 60_000, never()),
    ];
    const job = someJob();
    await admin.lpush('sdxl_queue', payloadOf(job));
    await Promise.all(waits);
    t.equal(await admin.llen('sdxl_queue'), 1);
    t.equal((await reserve(store)).lease.jobId, job.id);
  });

  await t.test('a blocked command that outlives its connection moves nothing', async (t) => {
    const { store } = await open(t);
    t.equal(await tryReserve(store), null);
    const wait = store.waitForWork(['sdxl_queue'], 60_000, never());
    let killed = 0;
    while (killed === 0) killed = await killWaiting(admin);
    await wait;
    t.equal(await tryReserve(store), null);
    const ghosts = [new Redis(server.url), new Redis(server.url)];
    for (const ghost of ghosts)
      void ghost.blmove('sdxl_queue', 'sdxl_queue', 'RIGHT', 'RIGHT', 1).catch(() => undefined);
    const jobs = [someJob(), someJob(), someJob()];
    for (const job of jobs) await admin.lpush('sdxl_queue', payloadOf(job));
    for (const ghost of ghosts) ghost.disconnect();
    for (const job of jobs) t.equal((await reserve(store)).lease.jobId, job.id);
  });

  await t.test('a relay that asks again and again costs no commands while nothing can be due', async (t) => {
    const { store, clock } = await open(t);
    const calls = async () =>
      Number(/cmdstat_evalsha:calls=(\d+)/.exec(await admin.info('commandstats'))?.[1] ?? 0);
    const job = await submit(store);
    const { lease } = await start(store, job);
    t.same(await store.outbox.claimDue('r', 10, 1000), []);
    const before = await calls();
    for (let i = 0; i < 50; i += 1) t.same(await store.outbox.claimDue('r', 10, 1000), []);
    await reserve(store).catch(() => undefined);
    t.same(await store.outbox.claimDue('r', 10, 1000), []);
    t.equal((await calls()) - before, 1);
    await store.finish(lease, completed(clock, job.id));
    t.match(
      await store.outbox.claimDue('r', 10, 1000),
      [{ id: `${job.id}:completed` }],
      'what this process adds is seen at once',
    );
    await store.outbox.delivered(`${job.id}:completed`);
    t.same(await store.outbox.claimDue('r', 10, 1000), []);
    const other = createStore(t, { now: clock.now });
    const next = await submit(other);
    await other.finish((await start(other, next)).lease, completed(clock, next.id));
    t.same(await store.outbox.claimDue('r', 10, 1000), []);
    clock.advance(5000);
    t.match(
      await store.outbox.claimDue('r', 10, 1000),
      [{ id: `${next.id}:completed` }],
      'what another adds, after a while',
    );
  });

  await t.test('a callback of a script that the server did not know is seen at once as well', async (t) => {
    const { store, clock } = await open(t);
    const job = await submit(store);
    const { lease } = await start(store, job);
    await admin.script('FLUSH');
    t.same(await store.outbox.claimDue('r', 10, 1000), []);
    // The look is sent behind the ending, and overtakes it while its text is sent.
    const [, early] = await Promise.all([
      store.finish(lease, completed(clock, job.id)),
      store.outbox.claimDue('r', 10, 1000),
    ]);
    t.same(early, []);
    t.match(await store.outbox.claimDue('r', 10, 1000), [{ id: `${job.id}:completed` }]);
  });

  await t.test('when only excluded types wait, the list is left alone for a while', async (t) => {
    await admin.flushall();
    const store = createStore(t, { pollMs: 40 });
    await submit(store, someJob('sdxl_image_high'));
    let looks = 0;
    const end = Date.now() + 200;
    while (Date.now() < end) {
      t.equal(await tryReserve(store, { excludeTypes: ['sdxl_image_high'] }), null);
      looks += 1;
      await store.waitForWork(['sdxl_queue'], 5000, never());
    }
    t.ok(looks >= 2 && looks <= 8, `${looks} looks in 200 ms`);
  });

  await t.test('a server without BLMOVE is polled', async (t) => {
    await admin.flushall();
    await admin.call('ACL', 'SETUSER', 'plain', 'on', '>secret', '~*', '&*', '+@all', '-blmove');
    t.teardown(() => admin.call('ACL', 'DELUSER', 'plain'));
    const warnings: string[] = [];
    const store = createStore(t, {
      url: server.url.replace('://', '://plain:secret@'),
      pollMs: 10,
      log: { warn: (_, message) => warnings.push(message) },
    });
    t.equal(await tryReserve(store), null);
    const wait = store.waitForWork(['sdxl_queue'], 60_000, never());
    const job = someJob();
    await admin.lpush('sdxl_queue', payloadOf(job));
    await wait;
    t.equal((await reserve(store)).lease.jobId, job.id);
    t.same(warnings, ['Redis has no BLMOVE; the list is polled']);
  });

  await t.test('scripts that the server forgot are sent again', async (t) => {
    const { store } = await open(t);
    const job = await submit(store);
    await admin.script('FLUSH');
    const results = await Promise.all([tryReserve(store), tryReserve(store), store.depth('sdxl_queue')]);
    t.equal(
      results.filter((result) => result !== null && 'lease' in result && result.lease.jobId === job.id)
        .length,
      1,
    );
  });

  await t.test("the server's clock decides when a lease has run out", async (t) => {
    await admin.flushall();
    const store = createStore(t);
    const job = await submit(store);
    const { lease } = await reserve(store, { leaseMs: 30 });
    t.ok(Math.abs(lease.expiresAtMs - Date.now()) < 5000);
    let ids: string[] = [];
    while (ids.length === 0) ids = await store.reclaimExpired();
    t.same(ids, [job.id]);
    t.match(await store.depth('sdxl_queue'), { waiting: 1, running: 0 });
  });

  await t.test('calls fail while the server is away, and work when it is back', async (t) => {
    const own = await startRedis({ fsync: 'always' });
    t.teardown(() => own.stop());
    const store = createStore(t, { url: own.url });
    const job = await submit(store);
    const running = await submit(store);
    const { lease } = await start(store, job);
    const { lease: runningLease } = await reserve(store);
    await own.kill();
    await t.rejects(store.ping());
    await t.rejects(submit(store));
    await own.start();
    for (let up = false; !up;)
      up = await store.ping().then(
        () => true,
        () => false,
      );
    t.equal(await store.finish(lease, { status: 'completed', assets: ['a'], metadata: {} }), true);
    t.match(await store.get(job.id), { status: 'completed', assets: ['a'] });
    t.match(await store.depth('sdxl_queue'), { waiting: 0, running: 1 });
    t.equal(await store.begin(runningLease, running), 'begun');
    t.equal(
      await cancelUntilHeard(store, store, running.id, createClock()),
      running.id,
      'subscriptions are back as well',
    );
  });
}

/**
 * A subscription that is being set up answers nobody but its own connection: the request is repeated until it
 * is heard.
 */
async function cancelUntilHeard(
  runner: JobStore,
  asking: JobStore,
  id: string,
  clock: Clock,
): Promise<string> {
  let heard = '';
  const stop = runner.onCancel((jobId) => {
    heard = jobId;
  });
  while (heard === '') {
    await asking.cancel(id, cancelled(clock));
    await sleep(10);
  }
  stop();
  return heard;
}

/** Cuts connections that are blocked in a wait. Returns how many. */
async function killWaiting(admin: Redis): Promise<number> {
  const clients = String(await admin.client('LIST'))
    .split('\n')
    .filter((line) => line.includes('name=ourvidz-wait') && line.includes('cmd=blmove'));
  for (const line of clients) {
    const id = /id=(\d+)/.exec(line)?.[1];
    if (id !== undefined) await admin.call('CLIENT', 'KILL', 'ID', id);
  }
  return clients.length;
}
