import t from 'tap';
import { redisOrSkip } from '../helpers/redis.js';
import { runHostileHour } from './hostile-hour.js';

/** The short form of `npm run test:soak -- --hostile`, which is the one that can judge times and memory. */
if (redisOrSkip(t)) {
  t.setTimeout(240_000);
  await t.test('slow, silent and malformed clients and 200 event streams beside 6 real jobs', async (t) => {
    const seed = Date.now() % 100_000;
    const report = await runHostileHour({ seconds: 12, jobs: 6, streams: 200, seed });
    t.comment(`seed ${seed}: ${JSON.stringify(report)}`);
    t.same(report.wrong, []);
    t.equal(report.completed, 6);
    t.ok(report.streamsOpen >= 200, 'every follower is served');
    t.ok(report.events > 0, 'and told of the job');
    t.ok(report.hostilePayloads > 0 && report.healthAnswers > 0);
    t.same(
      Object.keys(report.hostileRequests).filter((status) => !/^4\d\d$/.test(status)),
      [],
    );
  });
}
