import { randomUUID } from 'node:crypto';
import path from 'node:path';
import { Registry } from 'prom-client';
import t from 'tap';
import { readConfig } from '../../src/config.js';
import { projectRoot } from '../../src/lib/project.js';
import { createServices } from '../../src/services/index.js';
import { silentLog, testEngineEntry, until } from '../engines/support.js';
import { startProducer } from '../helpers/producer.js';
import { redisOrSkip } from '../helpers/redis.js';

const maxAttempts = 3;

if (redisOrSkip(t)) {
  await t.test(
    'a job that kills the engine every time is dead-lettered after its attempts, and holds nobody up',
    async (t) => {
      const { redis, receiver, env } = await startProducer(t);
      const config = readConfig({
        DATA_DIR: t.testdir({}),
        MODELS_DIR: path.join(projectRoot(), 'test/parity/models'),
        ORT_DEVICE: 'cpu',
        SHUTDOWN_GRACE_SECONDS: '5',
        REDIS_URL: env.REDIS_URL,
        WAN_WORKER_API_KEY: 'key-of-the-test',
        CALLBACK_URL: env.CALLBACK_URL,
        MAX_ATTEMPTS: String(maxAttempts),
        REDIS_BLOCK_SECONDS: '1',
      });
      const services = await createServices(config, silentLog, {
        registry: new Registry(),
        environment: process.env,
        engineEntry: testEngineEntry,
        engines: { sdxl: { restartBaseMs: 50, restartMaxMs: 200 } },
      });
      t.teardown(() => services.stop());

      const payload = (prompt: string) => {
        const id = randomUUID();
        return {
          id,
          text: JSON.stringify({
            id,
            type: 'sdxl_image_fast',
            prompt,
            user_id: randomUUID(),
            config: { width: 64, height: 64 },
          }),
        };
      };
      const poison = payload('crashes always');
      const others = Array.from({ length: 12 }, (_, index) => payload(`a red circle, number ${index}`));
      await redis.lpush('sdxl_queue', poison.text);
      for (const { text } of others) await redis.lpush('sdxl_queue', text);
      await services.start();
      await until(
        'the end of every job',
        async () => {
          for (const { id } of [poison, ...others]) if (receiver.terminal(id) === undefined) return false;
          return true;
        },
        60_000,
      );

      t.match(await services.store.get(poison.id), { status: 'failed', attempts: maxAttempts });
      t.match(receiver.terminal(poison.id)?.body, {
        status: 'failed',
        error_message: /^Generation failed: /,
      });
      t.match(await services.store.deadLetters('sdxl_queue', 10), [
        { jobId: poison.id, payload: poison.text, attempts: maxAttempts },
      ]);
      t.equal(services.engines.status('sdxl').errorCount, maxAttempts, 'the engine died once per attempt');
      for (const { id } of others) t.match(await services.store.get(id), { status: 'completed' });
      const poisonEnd = receiver.terminal(poison.id)?.index ?? 0;
      const before = others.filter(({ id }) => (receiver.terminal(id)?.index ?? Infinity) < poisonEnd);
      t.equal(before.length, others.length, 'all others end while it waits for its next attempts');
      t.same(await services.store.depth('sdxl_queue'), {
        waiting: 0,
        delayed: 0,
        running: 0,
        oldestAgeSeconds: null,
      });
    },
  );
}
