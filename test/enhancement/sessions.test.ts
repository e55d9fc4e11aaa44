import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { testSessions } from './session-suite.js';
import { openRedis } from '../helpers/redis.js';
import { requireCommand } from '../helpers/requirements.js';
import { createRedisSessions } from '../../src/services/enhancement/redis-sessions.js';
import { createMemorySessions, type SessionStore } from '../../src/services/enhancement/sessions.js';

t.test('in memory', async (t) => {
  let now = 0;
  await testSessions(t, {
    open: (limits) => Promise.resolve(createMemorySessions(limits, () => now)),
    later: (ms) => {
      now += ms;
      return Promise.resolve();
    },
  });
});

t.test('in Redis', { skip: requireCommand('redis-server') }, async (t) => {
  const { server, redis } = await openRedis(t);
  const opened: SessionStore[] = [];
  t.teardown(() => Promise.all(opened.map((store) => store.close())));

  await testSessions(t, {
    async open(limits) {
      await redis.flushall();
      const store = createRedisSessions({ url: server.url, ...limits });
      opened.push(store);
      return store;
    },
    later: (ms) => sleep(ms),
  });

  const limits = { url: server.url, ttlMs: 60_000, maxTurns: 3, maxSessions: 5 };
  await t.test(
    'another replica goes on; key names tell nobody who talks; everything ends by itself',
    async (t) => {
      await redis.flushall();
      const [one, other] = [createRedisSessions(limits), createRedisSessions(limits)];
      opened.push(one, other);
      await one.append({ owner: 'somebody', id: 'diary' }, { prompt: 'a', answer: 'b' });
      t.same(await other.read({ owner: 'somebody', id: 'diary' }), [{ prompt: 'a', answer: 'b' }]);
      const keys = await redis.keys('*');
      t.equal(keys.length, 2);
      t.notMatch(keys.join(), /somebody|diary/);
      for (const key of keys) t.ok((await redis.pttl(key)) > 0, key);
    },
  );

  await t.test('a turn written by something else is left out', async (t) => {
    await redis.flushall();
    const store = createRedisSessions(limits);
    opened.push(store);
    await store.append({ owner: 'a', id: 's' }, { prompt: 'a', answer: 'b' });
    const [list = ''] = await redis.keys('*session:*');
    await redis.rpush(list, 'no JSON', '{"prompt":1}', 'null');
    t.same(await store.read({ owner: 'a', id: 's' }), [{ prompt: 'a', answer: 'b' }]);
  });

  await t.test('a server that is away is an error, soon', async (t) => {
    const store = createRedisSessions({ ...limits, url: 'redis://127.0.0.1:1' });
    opened.push(store);
    await t.rejects(store.read({ owner: 'a', id: 's' }));
  });
});
