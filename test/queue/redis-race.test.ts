import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import t from 'tap';
import { ownProgram } from '../../src/lib/processes.js';
import { openRedis, redisOrSkip } from '../helpers/redis.js';
import { payloadOf, someJob } from './suite/builders.js';

const jobCount = 5000;
const racers = 3;

if (redisOrSkip(t)) {
  await t.test(
    `${racers} processes racing for ${jobCount} jobs never hold one twice at a time`,
    async (t) => {
      const { server, redis: admin } = await openRedis(t);
      const jobs = Array.from({ length: jobCount }, () => someJob());
      for (let i = 0; i < jobCount; i += 500)
        await admin.lpush('sdxl_queue', ...jobs.slice(i, i + 500).map(payloadOf));

      const script = ownProgram('test/queue/processes/racer');
      const results = await Promise.all(
        Array.from({ length: racers }, async (_, index) => {
          const child = spawn(process.execPath, [...script, server.url, `racer-${index}`], {
            stdio: ['ignore', 'pipe', 'inherit'],
          });
          const [output, [code]] = await Promise.all([
            text(child.stdout),
            once(child, 'exit') as Promise<[number | null]>,
          ]);
          t.equal(code, 0);
          return JSON.parse(output) as { finished: string[]; heldTwice: string[]; reservations: number };
        }),
      );

      t.same(
        results.flatMap(({ heldTwice }) => heldTwice),
        [],
      );
      t.same(
        results.flatMap(({ finished }) => finished).sort(),
        jobs.map(({ id }) => id).sort(),
        'every job finished exactly once',
      );
      for (const { finished } of results) t.ok(finished.length > 0, 'every process took part');
      t.ok(
        results.reduce((sum, { reservations }) => sum + reservations, 0) > jobCount,
        'with retries and hand-backs among them',
      );
      t.same(await admin.keys('ourvidz:{entry,leases,delayed}*'), []);
      t.equal(await admin.llen('sdxl_queue'), 0);
    },
  );
}
