/**
 * What producers send, through a real Redis list, the real service and a real callback receiver: one by one,
 * each followed by a good job, and all together in a random order (repeat one with CONTRACT_CASES_SEED).
 */
import t, { type Test } from 'tap';
import { startAssetServer } from '../helpers/asset-server.js';
import { sdxlPayload } from '../helpers/jobs.js';
import { startProducer } from '../helpers/producer.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';
import { checkOrder, checkOutcome } from './check-outcome.js';
import { loadCases, shuffled } from './cases.js';

t.setTimeout(1_800_000); // a long clip of 50 steps takes minutes where others compute too
const skip = requireCommand('redis-server');

/** A service of its own on an empty Redis, so that each way of sending meets ids it has never seen. */
async function start(t: Test) {
  const { redis, receiver, env } = await startProducer(t);
  const assets = await startAssetServer();
  t.teardown(() => assets.close());
  const service = await startService({ env: { ...env, REFERENCE_ALLOWED_HOSTS: assets.host } });
  t.teardown(() => service.cleanUp());
  return { redis, receiver, assets, service };
}

t.test('every case one by one, and after each the next good job still runs', { skip }, async (t) => {
  const parts = await start(t);
  const cases = loadCases(parts.assets.origin);
  for (const one of cases) {
    await t.test(one.name, async (t) => {
      await parts.redis.lpush(one.queue, one.payload);
      await checkOutcome(t, one, { ...parts, timeoutMs: 300_000 });
      if (one.expect.status === 'completed') return;
      const good = sdxlPayload({ config: { num_images: 1, seed: 7, width: 64, height: 64 } });
      await parts.redis.lpush('sdxl_queue', JSON.stringify(good));
      t.equal((await parts.receiver.waitForTerminal(good.id)).body.status, 'completed', 'the next good job');
    });
  }
  checkOrder(t, cases, parts.receiver);
  // One job of the SDXL engine for each case that completes there, and for the good one after each that does
  // not.
  const drawn = cases.filter((one) => one.expect.status !== 'completed' || one.queue === 'sdxl_queue').length;
  const { workers } = (await parts.service.getJson('/worker/status')) as {
    workers: { sdxl: { jobs_processed: number } };
  };
  t.equal(workers.sdxl.jobs_processed, drawn, 'refused payloads were never computed');
});

t.test('all cases together, shuffled', { skip }, async (t) => {
  const parts = await start(t);
  const cases = loadCases(parts.assets.origin);
  const seed = Number(process.env['CONTRACT_CASES_SEED'] ?? 1);
  t.comment(`CONTRACT_CASES_SEED=${seed}`);
  const order = shuffled(cases, seed);
  for (const one of order) await parts.redis.lpush(one.queue, one.payload);
  for (const one of order)
    await t.test(`seed ${seed}: ${one.name}`, (t) => checkOutcome(t, one, { ...parts, timeoutMs: 300_000 }));
  checkOrder(t, order, parts.receiver);
});
