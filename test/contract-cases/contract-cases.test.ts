/**
 * What producers send, through a real Redis list, the real service and a real callback receiver: one by one, each
 * followed by a good job, and all together in a random order (repeat one with CONTRACT_CASES_SEED). Cases of engines the
 * service does not have yet, by its own /capabilities, are named and join by themselves once it has them.
 */
import { Redis } from 'ioredis';
import t, { type Test } from 'tap';
import { startAssetServer } from '../helpers/asset-server.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { sdxlPayload } from '../helpers/jobs.js';
import { startRedis } from '../helpers/redis.js';
import { requireCommand, requireShared } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';
import { checkOrder, checkOutcome } from './check-outcome.js';
import { enginesOf, loadCases, shuffled, type ContractCase } from './cases.js';

t.setTimeout(600_000);
const skip = requireShared('contract/cases.json') || requireCommand('redis-server');

/** A service of its own on an empty Redis, so that each way of sending meets ids it has never seen. */
async function start(t: Test) {
  const redisServer = await startRedis();
  t.teardown(() => redisServer.stop());
  const redis = new Redis(redisServer.url);
  t.teardown(() => redis.disconnect());
  const receiver = await startCallbackReceiver();
  t.teardown(() => receiver.close());
  const assets = await startAssetServer();
  t.teardown(() => assets.close());
  const service = await startService({ env: { REDIS_URL: redisServer.url, CALLBACK_URL: receiver.url, STORAGE: 'folder', REFERENCE_ALLOWED_HOSTS: assets.host } });
  t.teardown(() => service.cleanUp());
  return { redis, receiver, assets, service };
}

type Parts = Awaited<ReturnType<typeof start>>;

/** Cases this service can run now, and the names of those that wait for an engine. */
async function splitCases(parts: Parts): Promise<{ ready: ContractCase[]; waiting: Map<string, string[]> }> {
  const { engines } = await parts.service.getJson('/capabilities') as { engines: Record<string, { available: boolean }> };
  const waiting = new Map<string, string[]>();
  const ready = loadCases(parts.assets.origin).filter((one) => {
    const missing = enginesOf(one).filter((engine) => !engines[engine]?.available);
    for (const engine of missing.slice(0, 1)) waiting.set(engine, [...(waiting.get(engine) ?? []), one.name]);
    return missing.length === 0;
  });
  return { ready, waiting };
}

t.test('every case one by one, and after each the next good job still runs', { skip }, async (t) => {
  const parts = await start(t);
  const { ready, waiting } = await splitCases(parts);
  for (const [engine, names] of waiting) t.comment(`${names.length} cases wait for the ${engine} engine: ${names.join('; ')}`);
  t.ok(ready.some((one) => one.queue === 'sdxl_queue' && one.expect.status === 'completed'));
  for (const one of ready) {
    await t.test(one.name, async (t) => {
      await parts.redis.lpush(one.queue, one.payload);
      await checkOutcome(t, one, { ...parts, timeoutMs: 60_000 });
      if (one.expect.status === 'completed') return;
      const good = sdxlPayload({ config: { num_images: 1, seed: 7, width: 64, height: 64 } });
      await parts.redis.lpush('sdxl_queue', JSON.stringify(good));
      t.equal((await parts.receiver.waitForTerminal(good.id)).body.status, 'completed', 'the next good job');
    });
  }
  checkOrder(t, ready, parts.receiver);
  // One job of the SDXL engine for each case that completes there, and for the good one after each that does not.
  const drawn = ready.filter((one) => one.expect.status !== 'completed' || one.queue === 'sdxl_queue').length;
  const { workers } = await parts.service.getJson('/worker/status') as { workers: { sdxl: { jobs_processed: number } } };
  t.equal(workers.sdxl.jobs_processed, drawn, 'refused payloads were never computed');
});

t.test('all cases together in random order', { skip }, async (t) => {
  const parts = await start(t);
  const { ready } = await splitCases(parts);
  const seed = Number(process.env['CONTRACT_CASES_SEED'] ?? Math.floor(Math.random() * 2 ** 32));
  t.comment(`CONTRACT_CASES_SEED=${seed}`);
  const order = shuffled(ready, seed);
  for (const one of order) await parts.redis.lpush(one.queue, one.payload);
  for (const one of order) await t.test(`seed ${seed}: ${one.name}`, (t) => checkOutcome(t, one, { ...parts, timeoutMs: 300_000 }));
  checkOrder(t, order, parts.receiver);
});
