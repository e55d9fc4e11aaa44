/** A service that is ended by an error nobody handles: what it was doing counts, and nobody else pays for it. */
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { startCallbackReceiver, type CallbackReceiver } from '../helpers/callback-receiver.js';
import { sdxlPayload, submit, waitForJob, type SdxlPayload } from '../helpers/jobs.js';
import { startProducer } from '../helpers/producer.js';
import { redisOrSkip } from '../helpers/redis.js';
import { startService } from '../helpers/service-process.js';
import { onlyTinySdxl } from '../helpers/tiny-models.js';

t.setTimeout(300_000);

const crashOnJob = pathToFileURL(path.join(projectRoot(), 'test/helpers/crash-on-job.mjs')).href;

function poisonAndNeighbours() {
  const [poison, ...neighbours] = Array.from({ length: 5 }, () =>
    sdxlPayload({ config: { width: 64, height: 64, num_images: 1 } }),
  ) as [SdxlPayload, ...SdxlPayload[]];
  return { poison, neighbours, all: [poison, ...neighbours] };
}

/** A service that is started again whenever it ends. */
async function startSupervised(t: Test, poison: string, env: Record<string, string>) {
  const service = await startService({
    until: 'health',
    env: {
      MODELS_DIR: await onlyTinySdxl(t),
      LEASE_SECONDS: '2',
      REDIS_BLOCK_SECONDS: '1',
      NODE_OPTIONS: `--import ${crashOnJob}`,
      CRASH_ON_JOB: poison,
      ...env,
    },
  });
  const exitCodes: Array<number | null> = [];
  let ended = false;
  async function supervise(): Promise<void> {
    for (;;) {
      const { code } = await service.exited();
      if (ended) return;
      exitCodes.push(code);
      await service.restart({}, 'none');
    }
  }
  const supervision = supervise();
  t.teardown(async () => {
    ended = true;
    await service.cleanUp();
    await supervision;
  });
  return { service, exitCodes };
}

async function checkEnds(
  t: Test,
  { service, exitCodes }: Awaited<ReturnType<typeof startSupervised>>,
  { poison, neighbours }: ReturnType<typeof poisonAndNeighbours>,
  receiver: CallbackReceiver,
  maxAttempts: number,
) {
  const reason = `Generation failed: the worker was lost in each of ${maxAttempts} attempts`;
  const end = await waitForJob(service, poison.id, undefined, 120_000);
  t.match(end, { status: 'failed', error_message: reason, attempts: maxAttempts });
  t.match((await receiver.waitForTerminal(poison.id)).body, { status: 'failed', error_message: reason });
  for (const { id } of neighbours) {
    const job = await waitForJob(service, id, undefined, 120_000);
    t.match(job, { status: 'completed' }, job.error_message ?? 'no error');
  }
  t.same(exitCodes, Array(maxAttempts).fill(1), 'the service ended with each attempt, and then no more');
}

t.test(
  'a job that ends its service every time fails after its attempts, its neighbours complete',
  async (t) => {
    const receiver = await startCallbackReceiver();
    t.teardown(() => receiver.close());
    const jobs = poisonAndNeighbours();
    const supervised = await startSupervised(t, jobs.poison.id, { CALLBACK_URL: receiver.url });
    for (const job of jobs.all) await submit(supervised.service, job);
    await checkEnds(t, supervised, jobs, receiver, 3);
  },
);

if (redisOrSkip(t))
  await t.test('so it does on a shared queue, where the leases run out', async (t) => {
    const { redis, receiver, env } = await startProducer(t);
    const jobs = poisonAndNeighbours();
    for (const job of jobs.all) await redis.lpush('sdxl_queue', JSON.stringify(job));
    const supervised = await startSupervised(t, jobs.poison.id, { ...env, MAX_ATTEMPTS: '2' });
    await checkEnds(t, supervised, jobs, receiver, 2);
  });
