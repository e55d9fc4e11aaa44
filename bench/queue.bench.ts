/**
 * Reserve -> acknowledge of jobs that do nothing, beside BullMQ on the same Redis in the same run. Both take
 * what was queued beforehand, at the same concurrency, and keep the finished job's record; Redis writes its
 * append-only file every second for both. Rounds alternate, so that a slow moment of the machine meets both.
 * Gates: at least BullMQ's throughput (median of the paired ratios), and at 100,000 waiting jobs at least 0.8
 * of the throughput at 10.
 */
import { randomUUID } from 'node:crypto';
import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { createRedisStore } from '../src/services/queue/redis/store.js';
import type { JobStore, Reservation } from '../src/services/queue/job-store.js';
import { startRedis } from '../test/helpers/redis.js';
import { markdownTable, percentile } from './statistics.js';

const jobsPerRound = 4000;
const rounds = 7;
const concurrencies = [1, 4, 16];
const depths = [10, 1000, 100_000];
const userId = randomUUID();

const server = await startRedis({ fsync: 'everysec' });
const admin = new Redis(server.url);
const median = (values: readonly number[]) => percentile(values, 0.5);
const payload = (id: string) =>
  JSON.stringify({
    id,
    type: 'sdxl_image_fast',
    prompt: 'a red circle above a blue square on a white background',
    user_id: userId,
    config: { num_images: 1, seed: 7 },
  });

async function push(count: number) {
  for (let left = count; left > 0; left -= 1000) {
    await admin.lpush(
      'sdxl_queue',
      ...Array.from({ length: Math.min(left, 1000) }, () => payload(randomUUID())),
    );
  }
}

interface Options {
  count: number;
  concurrency: number;
  /** Begin in a step of its own, as a caller does that looks at the payload first. */
  separateBegin?: boolean;
  afterEach?: () => Promise<unknown>;
}

/**
 * Takes and acknowledges jobs in `concurrency` places; a place asks for its next job while it acknowledges
 * the last.
 */
async function consume(
  store: JobStore,
  { count, concurrency, separateBegin = false, afterEach }: Options,
): Promise<void> {
  let taken = 0;
  const next = (): Promise<Reservation | null> =>
    taken++ < count
      ? store.reserve({ queue: 'sdxl_queue', workerId: 'bench', leaseMs: 30_000, begin: !separateBegin })
      : Promise.resolve(null);
  await Promise.all(
    Array.from({ length: concurrency }, async () => {
      let reservation = await next();
      while (reservation !== null) {
        const { lease } = reservation;
        if (separateBegin) await store.begin(lease, { id: lease.jobId, type: 'sdxl_image_fast', userId });
        [reservation] = await Promise.all([
          next(),
          store.finish(lease, { status: 'completed', assets: [], metadata: {} }),
          afterEach?.(),
        ]);
      }
    }),
  );
}

const perSecond = (count: number, startedAt: number) => count / ((performance.now() - startedAt) / 1000);

async function ourRound(concurrency: number, separateBegin = false): Promise<number> {
  await admin.flushall();
  await push(jobsPerRound);
  const store = createRedisStore({ url: server.url });
  await store.ping();
  const startedAt = performance.now();
  await consume(store, { count: jobsPerRound, concurrency, separateBegin });
  const rate = perSecond(jobsPerRound, startedAt);
  await store.close();
  return rate;
}

async function bullRound(concurrency: number): Promise<number> {
  await admin.flushall();
  const connection = { host: '127.0.0.1', port: server.port };
  const queue = new Queue('bench', { connection });
  for (let left = jobsPerRound; left > 0; left -= 1000) {
    await queue.addBulk(
      Array.from({ length: Math.min(left, 1000) }, () => ({
        name: 'sdxl_image_fast',
        data: JSON.parse(payload(randomUUID())) as object,
      })),
    );
  }
  const worker = new Worker('bench', async () => undefined, { connection, concurrency, autorun: false });
  await worker.waitUntilReady();
  let completed = 0;
  const done = new Promise<void>((resolve) => {
    worker.on('completed', () => {
      completed += 1;
      if (completed === jobsPerRound) resolve();
    });
  });
  const startedAt = performance.now();
  const running = worker.run();
  await done;
  const rate = perSecond(jobsPerRound, startedAt);
  await worker.close();
  await running;
  await queue.close();
  return rate;
}

async function depthRound(depth: number): Promise<number> {
  await admin.flushall();
  await push(depth);
  const store = createRedisStore({ url: server.url });
  await store.ping();
  const startedAt = performance.now();
  await consume(store, {
    count: jobsPerRound,
    concurrency: 4,
    afterEach: () => store.push('sdxl_queue', payload(randomUUID())),
  });
  const rate = perSecond(jobsPerRound, startedAt);
  await store.close();
  return rate;
}

let missed = false;
const versusRows: (string | number)[][] = [];
for (const concurrency of concurrencies) {
  const ours: number[] = [];
  const bull: number[] = [];
  const withBegin: number[] = [];
  for (let round = -1; round < rounds; round += 1) {
    const first = round % 2 === 0 ? await ourRound(concurrency) : await bullRound(concurrency);
    const second = round % 2 === 0 ? await bullRound(concurrency) : await ourRound(concurrency);
    // The first pair warms both up.
    if (round < 0) continue;
    ours.push(round % 2 === 0 ? first : second);
    bull.push(round % 2 === 0 ? second : first);
    withBegin.push(await ourRound(concurrency, true));
  }
  const ratios = ours.map((rate, index) => rate / (bull[index] ?? Number.NaN));
  const ratio = median(ratios);
  if (!(ratio >= 1)) missed = true;
  versusRows.push([
    concurrency,
    Math.round(median(ours)),
    Math.round(median(bull)),
    ratio.toFixed(2),
    `${Math.min(...ratios).toFixed(2)}–${Math.max(...ratios).toFixed(2)}`,
    Math.round(median(withBegin)),
  ]);
}
console.log(
  markdownTable(
    [
      'jobs at once',
      'ours (jobs/s)',
      'BullMQ 6.7 (jobs/s)',
      'ratio',
      'range of ratios',
      'ours with a separate begin (jobs/s)',
    ],
    versusRows,
  ),
);

const rates = new Map<number, number[]>(depths.map((depth) => [depth, []]));
for (let round = -1; round < rounds; round += 1) {
  for (const depth of depths) {
    const rate = await depthRound(depth);
    if (round >= 0) rates.get(depth)?.push(rate);
  }
}
const shallow = rates.get(depths[0] ?? 0) ?? [];
const depthRows = depths.map((depth) => {
  const own = rates.get(depth) ?? [];
  const relative = median(own.map((rate, index) => rate / (shallow[index] ?? Number.NaN)));
  if (!(relative >= 0.8)) missed = true;
  return [depth.toLocaleString('en'), Math.round(median(own)), relative.toFixed(2)];
});
console.log(
  `\n${markdownTable(['waiting jobs', 'ours, 4 at once, each replaced (jobs/s)', 'relative to 10'], depthRows)}`,
);

admin.disconnect();
await server.stop();
process.exitCode = missed ? 1 : 0;
