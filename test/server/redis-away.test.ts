import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { redisOrSkip, startRedis } from '../helpers/redis.js';
import { startService } from '../helpers/service-process.js';
import { onlyTinySdxl } from '../helpers/tiny-models.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(240_000);

t.test('while Redis is away the log says so once, whoever asks, and once more when it is back', async (t) => {
  if (!redisOrSkip(t)) return;
  const redis = await startRedis();
  t.teardown(() => redis.stop());
  const service = await startService({ env: { MODELS_DIR: await onlyTinySdxl(t), REDIS_URL: redis.url } });
  t.teardown(() => service.cleanUp());
  const before = service.logs().length;
  await redis.kill();
  const awayUntil = performance.now() + 15_000;
  let refused = 0;
  while (performance.now() < awayUntil) {
    const answers = await Promise.all([service.get('/jobs'), service.get('/ready'), service.get('/metrics')]);
    refused += answers.filter(({ status }) => status === 503).length;
    await sleep(200);
  }
  const lines = service
    .logs()
    .slice(before)
    .map((line) => JSON.parse(line) as { level: number; msg: string; event?: string });
  t.ok(refused >= 10, `${refused} requests refused`);
  t.same(
    lines
      .filter(({ level, event }) => level >= 40 && event !== 'validation' && event !== 'trouble')
      .map(({ msg }) => msg),
    ['Redis does not answer; jobs wait, and calls are tried again'],
    'one line, whatever was tried; what is checked once after the start is another matter',
  );
  await redis.start();
  await waitFor(() => service.logs().some((line) => line.includes('"queue_outage_over"')), {
    what: 'the line that says it is over',
  });
  await service.waitUntil('ready');
});
