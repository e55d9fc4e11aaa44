import { Redis } from 'ioredis';
import t, { type Test } from 'tap';
import { createRedisStore } from '../../src/services/queue/redis/index.js';
import { redisOrSkip, startRedis } from '../helpers/redis.js';
import { createClock, runStoreSuite } from './store-suite.js';

if (redisOrSkip(t)) {
  const server = await startRedis();
  const admin = new Redis(server.url);
  t.teardown(async () => {
    admin.disconnect();
    await server.stop();
  });

  const open = async (t: Test, options: { retentionMs?: number } = {}) => {
    await admin.flushall();
    const clock = createClock();
    const create = () => {
      const store = createRedisStore({ url: server.url, now: clock.now, ...options });
      t.teardown(() => store.close());
      return store;
    };
    return { store: create(), clock, reopen: async () => create() };
  };

  await t.test('Redis store', (t) => runStoreSuite(t, open));
}
