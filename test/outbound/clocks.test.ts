import t, { type Test } from 'tap';
import { createCallbackBuilder } from '../../src/services/outbound/index.js';
import { createCallbackRelay } from '../../src/services/outbound/callback-relay.js';
import type { Delivery } from '../../src/services/outbound/sender.js';
import { createRedisStore } from '../../src/services/queue/redis/store.js';
import { openRedis, redisOrSkip } from '../helpers/redis.js';
import { waitFor } from '../helpers/wait-for.js';
import { silentLog } from './support.js';

if (redisOrSkip(t)) {
  const { server, redis: admin } = await openRedis(t);

  for (const minutes of [10, -10]) {
    await t.test(
      `a worker whose clock is ${minutes} minutes off the server's sends at once and waits as long as it should`,
      (t) => testSkew(t, minutes * 60_000),
    );
  }

  async function testSkew(t: Test, skewMs: number) {
    await admin.flushall();
    const store = createRedisStore({ url: server.url });
    const now = () => Date.now() + skewMs;
    const tries: number[] = [];
    const sender = {
      send: async (): Promise<Delivery> => {
        tries.push(performance.now());
        return { outcome: 'again', reason: '503' };
      },
      close: async () => {},
    };
    const relay = createCallbackRelay({
      outbox: store.outbox,
      sender,
      workerId: 'w',
      log: silentLog,
      backoff: { baseMs: 200, maxMs: 200, jitter: 0 },
      idleMs: 10,
      now,
    });
    t.teardown(async () => {
      await relay.stop(0);
      await store.close();
    });
    const callback = createCallbackBuilder('http://receiver/', now)('processing', {
      jobId: 'job',
      assets: [],
      metadata: {},
    });
    if (callback !== undefined) await store.outbox.add(callback);
    relay.start();
    await waitFor(() => tries.length === 3, { what: 'three tries', timeoutMs: 8000, intervalMs: 10 });
    const waits = tries.slice(1).map((at, index) => at - (tries[index] ?? 0));
    t.ok(
      waits.every((ms) => ms >= 190),
      `waits of ${waits.map(Math.round).join(' and ')} ms`,
    );
  }
}
