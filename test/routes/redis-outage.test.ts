import { randomUUID } from 'node:crypto';
import { Redis } from 'ioredis';
import t, { type Test } from 'tap';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { build } from '../helpers/build.js';
import { sdxlPayload } from '../helpers/jobs.js';
import { openRedis, redisOrSkip, startRedis, startReplica } from '../helpers/redis.js';
import { waitFor } from '../helpers/wait-for.js';
import { testEngineEntry, until } from '../engines/support.js';

type Method = 'GET' | 'POST' | 'DELETE';
/** Everything that asks the queue, with what a well server answers. */
const id = randomUUID();
const routes: ReadonlyArray<[Method, string, unknown?]> = [
  ['POST', '/jobs', sdxlPayload()],
  ['GET', '/jobs'],
  ['GET', `/jobs/${id}`],
  // Of a job nobody knows: a stream of one that waits does not end.
  ['GET', `/jobs/${randomUUID()}/events`],
  ['DELETE', `/jobs/${id}`],
  ['GET', '/dead-letters'],
  ['POST', `/dead-letters/${id}/requeue`, {}],
  ['DELETE', `/dead-letters/${id}`],
  ['GET', '/callbacks'],
  ['POST', '/callbacks/retry', {}],
  ['DELETE', '/enhance/sessions/one'],
  ['GET', '/worker/status?scope=cluster'],
  ['GET', '/worker/resources'],
  ['GET', '/metrics'],
  ['GET', '/ready'],
  ['GET', '/health'],
];

async function open(t: Test, url: string) {
  return build(t, { env: { REDIS_URL: url, WAN_WORKER_API_KEY: 'key-of-the-test' } });
}

/** Calls every route; a refusal says why and when to come back. Returns the routes that were refused. */
async function refusedRoutes(t: Test, { call }: Awaited<ReturnType<typeof open>>, sentence: string) {
  const refused: string[] = [];
  for (const [method, url, body] of routes) {
    const answer = await call(method, url, body);
    const name = `${method} ${url.replace(/[0-9a-f-]{36}/, 'ID')}`;
    t.ok(answer.statusCode < 500 || answer.statusCode === 503, `${name} answers ${answer.statusCode}`);
    if (answer.statusCode !== 503) continue;
    refused.push(name);
    if (url === '/ready') {
      const { reasons } = answer.json<{ reasons: string[] }>();
      t.ok(
        reasons.some((reason) => reason.toLowerCase().startsWith(`${sentence.toLowerCase()}: `)),
        `${reasons.join('; ')}`,
      );
    } else {
      t.equal(answer.headers['retry-after'], '5', name);
      t.match(answer.json(), { code: 'UNAVAILABLE', message: sentence }, name);
    }
  }
  return refused;
}

t.test(
  'Redis goes away and comes back: clients are told to come again, health never waits for it',
  async (t) => {
    if (!redisOrSkip(t)) return;
    const redis = await startRedis();
    t.teardown(() => redis.stop());
    const dir = t.testdir({ sdxl: {} });
    const { call, inject, services } = await build(t, {
      env: { MODELS_DIR: dir, REDIS_URL: redis.url, WAN_WORKER_API_KEY: 'a-key-of-its-own' },
      options: { engineEntry: testEngineEntry },
    });
    const submit = async () => call('POST', '/jobs', { ...goodPayloads.sdxl, id: randomUUID() });
    t.equal((await submit()).statusCode, 202);

    await redis.kill();
    const [submitted, listed, letters, health, ready] = await Promise.all([
      submit(),
      call('GET', '/jobs'),
      call('GET', '/dead-letters'),
      inject({ url: '/health' }),
      inject({ url: '/ready' }),
    ]);
    for (const answer of [submitted, listed, letters]) {
      t.match(answer.json(), { statusCode: 503, code: 'UNAVAILABLE', message: 'The queue does not answer' });
      t.equal(answer.headers['retry-after'], '5');
      t.notMatch(answer.payload, String(redis.port), 'where Redis is stays inside');
    }
    t.equal(health.statusCode, 200);
    t.match(ready.json(), { ready: false, reasons: [/queue does not answer/] });

    await redis.start();
    await until('the next accepted job', async () => (await submit()).statusCode === 202, 20_000);
    t.pass('and then it goes on');
    t.equal(services.store.kind, 'redis');
  },
);

if (redisOrSkip(t)) {
  await t.test('a full server refuses what is new, and lets everything else go on', async (t) => {
    const { server, redis: admin } = await openRedis(t);
    const app = await open(t, server.url);
    t.equal((await app.call('POST', '/jobs', sdxlPayload({ id }))).statusCode, 202);
    await admin.config('SET', 'maxmemory', '100kb');
    t.same(await refusedRoutes(t, app, 'The memory of the queue is full'), ['POST /jobs', 'GET /ready']);
    await admin.config('SET', 'maxmemory', '0');
    t.equal((await app.call('POST', '/jobs', sdxlPayload())).statusCode, 202);
  });

  await t.test('another program has put something else where a list is', async (t) => {
    const { server, redis: admin } = await openRedis(t);
    const app = await open(t, server.url);
    await admin.set('wan_queue', 'hello');
    const refused = await refusedRoutes(t, app, 'A key of the queue holds something else');
    t.ok(refused.includes('GET /ready') && refused.includes('GET /jobs'), refused.join(', '));
    await admin.del('wan_queue');
    t.equal((await app.call('GET', '/jobs')).statusCode, 200);
  });

  await t.test('a replica under the address takes no writes', async (t) => {
    const master = await startRedis();
    const replica = await startReplica(master);
    t.teardown(() => Promise.all([master.stop(), replica.stop()]));
    const app = await open(t, replica.url);
    const refused = await refusedRoutes(t, app, 'The queue does not answer');
    t.ok(refused.includes('POST /jobs') && refused.includes('GET /ready'), refused.join(', '));
  });

  await t.test('a server that runs a long script, one that loads its data, one that is gone', async (t) => {
    const server = await startRedis({
      args: [
        ...['--key-load-delay', '2000', '--loading-process-events-interval-bytes', '1024'],
        ...['--lua-time-limit', '50'],
      ],
    });
    const admin = new Redis(server.url);
    admin.on('error', () => undefined);
    t.teardown(async () => {
      admin.disconnect();
      await server.stop();
    });
    const app = await open(t, server.url);
    t.equal((await app.call('POST', '/jobs', sdxlPayload())).statusCode, 202);

    const other = new Redis(server.url);
    other.on('error', () => undefined);
    t.teardown(() => other.disconnect());
    await other.ping();
    const endless = other.eval('while true do end', 0).catch(() => undefined);
    await waitFor(
      () =>
        admin.ping().then(
          () => false,
          () => true,
        ),
      { what: 'a busy server' },
    );
    const asksTheQueue = routes.length - 2;
    t.equal((await refusedRoutes(t, app, 'The queue is busy')).length, asksTheQueue);
    await admin.script('KILL');
    await endless;

    const pipeline = admin.pipeline();
    for (let index = 0; index < 4000; index += 1) pipeline.set(`key:${index}`, 'x'.repeat(100));
    await pipeline.exec();
    await admin.save();
    await server.kill();
    t.equal((await refusedRoutes(t, app, 'The queue does not answer')).length, asksTheQueue);
    const loaded = server.start();
    const answer = await waitFor(
      async () => {
        const { statusCode, body } = await app.call('POST', '/jobs', sdxlPayload());
        return statusCode === 503 && body.includes('The queue is starting') ? true : statusCode;
      },
      { what: 'an answer of a server that loads', intervalMs: 1 },
    );
    t.equal(answer, true);
    await loaded;
    t.equal((await app.call('POST', '/jobs', sdxlPayload())).statusCode, 202);
  });
}
