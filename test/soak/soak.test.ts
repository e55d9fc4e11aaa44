import t from 'tap';
import { redisOrSkip } from '../helpers/redis.js';
import { runSoak } from './soak.js';

/**
 * The short version of `npm run test:soak`, which is the one that can say whether memory stays flat, and draws
 * other jobs every time.
 */
const seed = Number(process.env['SOAK_SEED'] ?? 1);

if (redisOrSkip(t)) {
  await t.test(
    '300 small jobs, some of them in trouble: none is stuck, no process is left behind',
    async (t) => {
      const report = await runSoak({ jobs: 300, seed });
      t.comment(`seed ${seed}: ${JSON.stringify(report)}`);
      t.same(report.wrong, []);
      t.equal(report.stuck, 0);
      t.equal(report.zombies, 0);
      t.ok(report.engineRestarts > 0, 'there was trouble');
      t.equal(
        Object.values(report.outcomes).reduce((sum, count) => sum + count, 0),
        300,
      );
    },
  );

  await t.test(
    '60 healthy jobs: no watchdog ends a busy engine, and nobody calls it anything but healthy',
    async (t) => {
      const report = await runSoak({ jobs: 60, seed, kind: 'healthy' });
      t.comment(`seed ${seed}: ${JSON.stringify(report)}`);
      t.match(report, { engineRestarts: 0, stuck: 0, zombies: 0, outcomes: { completed: 60 } });
      t.same([report.notWell, report.wrong], [[], []]);
    },
  );
}
