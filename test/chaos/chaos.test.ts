import t from 'tap';
import { redisOrSkip } from '../helpers/redis.js';
import { runChaos } from './chaos.js';

/** The short form of `npm run test:chaos`, which has a seed of its own every time. */
const seed = Number(process.env['CHAOS_SEED'] ?? 1);

if (redisOrSkip(t)) {
  t.setTimeout(360_000);
  await t.test(`50 jobs, three services, everything failing now and then (seed ${seed})`, async (t) => {
    const report = await runChaos({
      seed,
      jobs: 50,
      services: 3,
      spanMs: 15_000,
      leaseSeconds: 3,
      failureRate: 0.3,
      hostileShare: 0.1,
      patienceMs: 180_000,
      blows: {
        serviceKills: 3,
        engineKills: 3,
        serviceFreezes: 1,
        engineFreezes: 1,
        redisFreezes: 1,
        redisRestarts: 1,
        cuts: 1,
        outages: 1,
        outageMs: 3000,
        failovers: 1,
        fills: 1,
        fillMs: 2000,
        expiries: 2,
        expiryMs: 4000,
      },
    });
    t.same(report.faults, [], `seed ${seed}; logs in ${report.folder}`);
    t.equal(report.numbers['jobs'], 50);
    t.ok((report.numbers['endpoint requests failed'] ?? 0) > 0, 'the endpoints did fail');
    for (const blow of ['fail Redis over', 'fill Redis', 'expire a key'])
      t.ok((report.numbers[blow] ?? 0) > 0, blow);
    t.ok((report.numbers['requests with an expired key'] ?? 0) > 0, 'the expired key was met');
    t.comment(JSON.stringify(report.numbers));
  });
}
