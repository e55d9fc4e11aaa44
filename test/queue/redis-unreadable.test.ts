import { randomUUID } from 'node:crypto';
import t from 'tap';
import { mostDeadLetterBytes } from '../../src/services/queue/records.js';
import { createRedisStore } from '../../src/services/queue/redis/store.js';
import type { Reservation } from '../../src/services/queue/job-store.js';
import { testEngineEntry } from '../engines/support.js';
import { build } from '../helpers/build.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { openRedis, redisOrSkip } from '../helpers/redis.js';
import { createClock } from './store-suite.js';
import { claimed, completed, failed, payloadOf, reserve, someJob, start, submit } from './suite/builders.js';

const upper = () => randomUUID().toUpperCase();

/** What other programs, other versions or half a restore may have left: each once as text, once as a key of another type. */
if (redisOrSkip(t)) {
  const { server, redis: admin } = await openRedis(t);
  const clock = createClock();

  async function open(t: { teardown(end: () => unknown): unknown }) {
    await admin.flushall();
    const named: string[] = [];
    const log = { warn: (fields: object) => void named.push(String((fields as { key?: unknown }).key)) };
    const store = createRedisStore({ url: server.url, log });
    t.teardown(() => store.close());
    return { store, named };
  }

  await t.test('a record that cannot be read is passed over and named, the others are shown', async (t) => {
    const { store, named } = await open(t);
    const jobs = [];
    for (let index = 0; index < 9; index += 1) jobs.push(await submit(store));
    const [sound, ...broken] = jobs.map(({ id }) => `ourvidz:job:${id}`);
    const change = [
      ['metadata', '{half'],
      ['assets', '{"no":"list"}'],
      ['progress', '"no progress"'],
      ['status', 'nonsense'],
      ['created', 'yesterday'],
      ['attempts', 'many'],
      ['finished', ''],
    ] as const;
    for (const [index, [field, value]] of change.entries())
      await admin.hset(broken[index] ?? '', field, value);
    await admin.set(broken[7] ?? '', 'no hash at all');

    const { call } = await build(t, {
      env: { REDIS_URL: server.url, WAN_WORKER_API_KEY: 'key-of-the-test' },
    });
    const list = await call('GET', '/jobs');
    t.equal(list.statusCode, 200);
    const shown = list.json<{ jobs: Array<{ id: string }> }>().jobs.map(({ id }) => `ourvidz:job:${id}`);
    t.same(shown.sort(), [sound, broken[6]].sort(), 'an empty field is an absent one');
    t.match((await call('GET', `/jobs/${jobs[1]?.id}`)).json(), { status: 'queued' }, 'by its payload');
    t.equal((await call('DELETE', `/jobs/${jobs[8]?.id}`)).statusCode, 404);
    t.equal((await store.list({}, 100)).jobs.length, 2);
    t.equal((await store.list({}, 100)).jobs.length, 2);
    t.same(named.sort(), broken.filter((_, index) => index !== 6).sort(), 'each once');
  });

  await t.test(
    'a job whose record is something else becomes a dead letter, and the line goes on',
    async (t) => {
      const { store } = await open(t);
      const [odd, behind] = [someJob(), someJob()];
      await admin.set(`ourvidz:job:${odd.id}`, 'no hash at all');
      for (const job of [odd, behind]) await store.push('sdxl_queue', payloadOf(job));
      const taken = await reserve(store, { begin: true });
      t.match(taken, { isForeign: true, lease: { jobId: odd.id } });
      t.ok(await store.deadLetter(taken.lease, 'the id belongs to another job'));
      t.match(await reserve(store, { begin: true }), { begun: true, lease: { jobId: behind.id } });
      t.same(await store.submit({ queue: 'sdxl_queue', payload: payloadOf(odd), job: odd }), {
        outcome: 'conflict',
      });
    },
  );

  await t.test('of an entry whatever is left is gone on with, and the line goes on', async (t) => {
    const { store } = await open(t);
    const jobs = [];
    for (let index = 0; index < 4; index += 1) jobs.push(await submit(store, { ...someJob(), id: upper() }));
    const begun = [];
    for (const job of jobs) begun.push(await start(store, { ...job, id: job.id.toLowerCase() }));
    for (const { lease } of begun) await store.retryLater(lease, 0, 'again');
    const tokenOf = new Map<string, string>();
    for (const token of await admin.zrange('ourvidz:delayed:sdxl_queue', 0, '-1'))
      tokenOf.set((await admin.hget(`ourvidz:entry:${token}`, 'id')) ?? '', String(token));
    const [gone, other, odd] = jobs.map(({ id }) => tokenOf.get(id.toLowerCase()) ?? '');
    await admin.del(`ourvidz:payload:${gone}`);
    await admin.del(`ourvidz:entry:${other}`);
    await admin.set(`ourvidz:entry:${other}`, 'no hash');
    await admin.del(`ourvidz:payload:${odd}`);
    await admin.rpush(`ourvidz:payload:${odd}`, 'no text');
    await admin.zadd('ourvidz:delayed:sdxl_queue', 0, 'never-there');
    t.ok((await store.depth('sdxl_queue')).waiting >= 4);
    const found = new Map<string, Reservation>();
    for (const _ of jobs) {
      const taken = await reserve(store, { begin: true });
      found.set(taken.lease.jobId, taken);
    }
    const [first, second, third, fourth] = jobs.map(({ id }) => found.get(id.toLowerCase()));
    for (const [taken, job] of [
      [first, jobs[0]],
      [third, jobs[2]],
    ] as const)
      t.match(taken, {
        begun: false,
        isForeign: false,
        attempt: 2,
        read: { isGone: true, writtenId: job?.id, type: job?.type, userId: job?.userId },
      });
    t.match(
      second,
      { begun: true, payload: payloadOf(jobs[1] ?? someJob()) },
      'its payload says whose it is',
    );
    t.match(fourth, { begun: true, attempt: 2 });
    const letters = await store.deadLetters(undefined, 10);
    t.match(letters, [{ payload: '', reason: /^its entry never-there in Redis cannot be read$/ }]);
  });

  await t.test('a job whose payload is gone ends failed, with its callback', async (t) => {
    await admin.flushall();
    const receiver = await startCallbackReceiver();
    t.teardown(() => receiver.close());
    const env = {
      REDIS_URL: server.url,
      CALLBACK_URL: receiver.url,
      WAN_WORKER_API_KEY: 'key-of-the-test',
      STORAGE: 'folder',
      MODELS_DIR: t.testdir({ sdxl: {} }),
    };
    const app = await build(t, { env, options: { engineEntry: testEngineEntry } });
    const id = upper();
    const job = { ...someJob(), id };
    await admin.lpush('sdxl_queue', payloadOf(job));
    const { store } = app.services;
    const { lease } = await start(store, { ...job, id: id.toLowerCase() });
    await store.retryLater(lease, 0, 'again');
    await admin.del(...(await admin.keys('ourvidz:payload:*')));
    await app.services.start();
    const { body } = await receiver.waitForTerminal(id);
    t.match(body, {
      job_id: id,
      status: 'failed',
      error_message: 'Generation failed: its payload is gone from the queue',
      metadata: { error_type: 'PayloadLost', attempts: 1 },
    });
    t.match((await app.call('GET', `/jobs/${id}`)).json(), { status: 'failed', attempts: 1 });
    t.match(await store.deadLetters(undefined, 10), [{ jobId: id.toLowerCase(), payload: '' }]);
  });

  await t.test('a callback that cannot be read is set aside, the others leave', async (t) => {
    const { store, named } = await open(t);
    const jobs = [];
    for (let index = 0; index < 5; index += 1) {
      const job = await submit(store);
      await store.finish((await start(store, job)).lease, completed(clock, job.id));
      jobs.push(job);
    }
    const keys = jobs.map(({ id }) => `ourvidz:callback:${id}:completed`);
    await admin.hset(keys[0] ?? '', 'entry', '{half');
    await admin.hset(keys[1] ?? '', 'entry', '{"url":7}');
    await admin.set(keys[2] ?? '', 'no hash');
    await admin.hset(keys[3] ?? '', 'attempts', 'many');
    await admin.rpush(`ourvidz:lane:${jobs[2]?.id}`, `${jobs[2]?.id}:other`);
    await admin.zadd('ourvidz:callbacks:due', 'inf', `${jobs[2]?.id}:other`);
    t.same(await claimed(store), [`${jobs[4]?.id}:completed`]);
    t.same(named.sort(), keys.slice(0, 4).sort());
    t.equal(await admin.zcard('ourvidz:callbacks:dead'), 4);
    t.same(await store.outbox.listDead(10), []);
    t.not(await admin.zscore('ourvidz:callbacks:due', `${jobs[2]?.id}:other`), 'inf', 'its lane goes on');
    await store.outbox.delivered(`${jobs[4]?.id}:completed`);
    await admin.set(`ourvidz:callback:${randomUUID()}:failed`, 'x');
    await store.outbox.retryDead();
    t.same(await claimed(store), [`${jobs[3]?.id}:completed`], 'this one begins anew');
  });

  await t.test('dead letters and instances that cannot be read are passed over', async (t) => {
    const { store, named } = await open(t);
    const job = await submit(store);
    await store.deadLetter((await start(store, job)).lease, 'bad', { ...failed(clock, job.id), job });
    await admin.zadd(
      'ourvidz:deadletters',
      Date.now() + 5,
      'odd',
      Date.now() + 6,
      'gone',
      Date.now() + 7,
      'text',
    );
    await admin.hset('ourvidz:deadletter:text', {
      queue: 'sdxl_queue',
      payload: 'x',
      attempts: 'many',
      at: 'once',
    });
    await admin.set('ourvidz:deadletter:odd', 'no hash');
    const letters = await store.deadLetters(undefined, 10);
    t.same(
      letters.map(({ attempts }) => attempts),
      [0, 1],
    );
    t.equal(await store.requeueDeadLetter('odd'), 'unknown');
    t.equal(await store.dropDeadLetter('odd'), true);

    const whole = { workerId: 'w1', host: 'h', pid: 1, startedAtMs: 0, seenAtMs: 0, status: {} };
    await store.announce(whole, 60_000);
    const forgetAtMs = Date.now() + 60_000;
    const broken = {
      text: 'no json',
      null: 'null',
      status: JSON.stringify({ forgetAtMs, instance: { ...whole, status: null } }),
      time: JSON.stringify({ forgetAtMs, instance: { ...whole, startedAtMs: 'once' } }),
      host: JSON.stringify({ forgetAtMs, instance: { ...whole, host: undefined } }),
    };
    await admin.hset('ourvidz:instances', broken);
    named.length = 0;
    t.same(await store.instances(), [whole]);
    t.same(
      named.sort(),
      Object.keys(broken)
        .map((id) => `ourvidz:instances ${id}`)
        .sort(),
    );
    const { call } = await build(t, {
      env: { REDIS_URL: server.url, WAN_WORKER_API_KEY: 'key-of-the-test' },
    });
    t.equal((await call('GET', '/worker/status?scope=cluster')).statusCode, 200);
    t.equal((await call('GET', '/dead-letters')).statusCode, 200);
    t.equal((await call('GET', '/callbacks')).statusCode, 200);
  });

  await t.test(
    'dead letters are bounded in bytes while they come in, however small their number',
    async (t) => {
      const { store } = await open(t);
      const mebibyte = 1024 * 1024;
      const most = mostDeadLetterBytes / mebibyte;
      const sizeOf = async () => Number(await admin.get('ourvidz:deadletters:bytes'));
      for (let index = 0; index < most + 5; index += 1) {
        await store.push('sdxl_queue', String(index).padEnd(mebibyte, '.'));
        await store.deadLetter((await reserve(store)).lease, 'not JSON');
      }
      const kept = await store.deadLetters(undefined, 100);
      t.equal(kept.length, most);
      t.match(kept[0]?.payload, /^68\./, 'the newest are kept');
      t.equal(await sizeOf(), mostDeadLetterBytes);
      await store.dropDeadLetter(kept[0]?.id ?? '');
      t.equal(await sizeOf(), mostDeadLetterBytes - mebibyte);
      await store.requeueDeadLetter(kept[1]?.id ?? '');
      t.equal(await sizeOf(), mostDeadLetterBytes - 2 * mebibyte);
      await admin.del('ourvidz:deadletters:bytes');
      await store.deadLetter((await reserve(store)).lease, 'not JSON');
      t.equal(await sizeOf(), mostDeadLetterBytes - mebibyte, 'counted anew when the note is gone');
      t.ok((await admin.ttl('ourvidz:deadletters:bytes')) > 80_000, 'and once a day');
      await store.push('sdxl_queue', '.'.repeat(mebibyte + 1));
      t.equal(await reserve(store).catch(() => null), null, 'what is too large');
      t.equal(await sizeOf(), mostDeadLetterBytes - mebibyte + 4096, 'counts with what is kept of it');
    },
  );
}
