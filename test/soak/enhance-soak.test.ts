import t from 'tap';
import { runEnhanceSoak } from './enhance-soak.js';

/**
 * The short version of `npm run test:soak -- --enhance`, which is the one that can say whether memory stays
 * flat.
 */
t.test(
  '150 requests of mixed kinds: each ends as it must, and no sequence stays busy',
  { timeout: 120_000 },
  async (t) => {
    const seed = Number(process.env['SOAK_SEED'] ?? 1);
    const report = await runEnhanceSoak({ requests: 150, seed });
    t.comment(`seed ${seed}: ${JSON.stringify(report)}`);
    t.same(report.wrong, []);
    t.match(report, { requests: 150, busySequences: 0, engineRestarts: 0 });
    t.ok(report.timedOut > 0, 'some timed out');
    t.same(
      Object.keys(report.jobs).filter((status) => status !== 'completed'),
      [],
    );
  },
);
