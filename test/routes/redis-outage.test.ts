import { randomUUID } from 'node:crypto';
import t from 'tap';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { build } from '../helpers/build.js';
import { redisOrSkip, startRedis } from '../helpers/redis.js';
import { testEngineEntry, until } from '../engines/support.js';

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
