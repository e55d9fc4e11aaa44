import { mkdtemp, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { projectRoot } from '../../src/lib/project.js';
import { queueNames, type QueueName } from '../../src/services/catalogue.js';
import { createRedisStore } from '../../src/services/queue/redis/store.js';
import { terminalStatuses } from '../../src/services/queue/job-store.js';
import { startRedis } from '../helpers/redis.js';
import { startEndpoints } from './endpoints.js';
import { signalProcess, startFleet } from './fleet.js';
import { startReferenceServer } from './hostile.js';
import { planChaos, type ChaosOptions, type PlannedBlow, type PlannedJob } from './plan.js';
import { createRandom } from './random.js';
import { judge, type Verdict } from './verdict.js';

export interface ChaosReport extends Verdict {
  /** Logs of the services; removed when there are no faults. */
  folder: string;
}

const apiKey = 'key-of-the-chaos-run';

/**
 * Services, Redis and endpoints under blows while a producer pushes jobs; then everything is left in peace
 * until all jobs have ended (or `patienceMs` passed), and what came of them is judged.
 */
export async function runChaos(
  options: ChaosOptions & { patienceMs: number; say?: (line: string) => void },
): Promise<ChaosReport> {
  const { say = () => undefined } = options;
  const plan = planChaos(options);
  const folder = await mkdtemp(path.join(os.tmpdir(), 'chaos-'));
  const server = await startRedis({ fsync: 'always' });
  const endpoints = await startEndpoints({
    random: createRandom(options.seed + 1),
    failureRate: options.failureRate,
  });
  const references = await startReferenceServer();
  const redis = new Redis(server.url, { maxRetriesPerRequest: null });
  redis.on('error', () => undefined);
  const store = createRedisStore({ url: server.url });
  const fleet = await startFleet({
    folder,
    services: options.services,
    environment: {
      REDIS_URL: server.url,
      SUPABASE_URL: endpoints.origin,
      SUPABASE_SERVICE_KEY: 'service-key',
      STORAGE: 'supabase',
      WAN_WORKER_API_KEY: apiKey,
      MODELS_DIR: path.join(projectRoot(), 'test/parity/models'),
      ORT_DEVICE: 'cpu',
      ORT_THREADS: '1',
      LOG_LEVEL: 'info',
      RATE_LIMIT: 'off',
      PREVIEW_EVERY_STEPS: '0',
      LEASE_SECONDS: String(options.leaseSeconds),
      MAX_ATTEMPTS: '10',
      REDIS_BLOCK_SECONDS: '2',
      REFERENCE_ALLOWED_HOSTS: references.host,
    },
  });
  const struck: Record<string, number> = {};
  const startedAt = Date.now();
  const at = (ms: number) => sleep(Math.max(0, startedAt + ms - Date.now()));
  const pending = new Set<Promise<void>>();
  const background = (task: Promise<void>) => {
    const tracked = task.finally(() => pending.delete(tracked));
    pending.add(tracked);
  };

  async function strike(blow: PlannedBlow): Promise<void> {
    struck[blow.what] = (struck[blow.what] ?? 0) + 1;
    say(
      `${((Date.now() - startedAt) / 1000).toFixed(1)} s: ${blow.what}${'service' in blow ? ` ${blow.service}` : ''}`,
    );
    switch (blow.what) {
      case 'kill service':
        await fleet.kill(blow.service);
        await sleep(blow.downMs);
        return fleet.start(blow.service);
      case 'kill engine':
        return void fleet.signalEngine(blow.service, 'SIGKILL');
      case 'freeze service':
        if (!fleet.signal(blow.service, 'SIGSTOP')) return;
        await sleep(blow.forMs);
        return void fleet.signal(blow.service, 'SIGCONT');
      case 'freeze engine': {
        const pid = fleet.signalEngine(blow.service, 'SIGSTOP');
        if (pid === undefined) return;
        await sleep(blow.forMs);
        return signalProcess(pid, 'SIGCONT');
      }
      case 'freeze Redis':
        server.signal('SIGSTOP');
        await sleep(blow.forMs);
        return server.signal('SIGCONT');
      case 'restart Redis':
        await server.kill();
        await sleep(blow.downMs);
        return server.start();
      case 'cut Redis connections':
        return void (await redis
          .call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
          .catch(() => undefined));
      case 'endpoints down':
        endpoints.setDown(true);
        await sleep(blow.forMs);
        return endpoints.setDown(false);
    }
  }

  async function produce(job: PlannedJob): Promise<void> {
    await at(job.atMs);
    await push('sdxl_queue', job.payload);
    if (job.kind === 'twice') {
      await at(job.againAtMs);
      await push('sdxl_queue', job.payload);
    }
    if (job.kind === 'impersonated' && job.letter !== null) {
      await at(job.againAtMs);
      await push('wan_queue', job.letter);
    }
    if (job.kind === 'cancelled') {
      await at(job.againAtMs);
      await cancel(job.id);
    }
  }

  /** A producer that got no answer pushes again, as producers do. */
  async function push(queue: QueueName, payload: string | Buffer): Promise<void> {
    while (
      await redis.lpush(queue, references.withOrigin(payload)).then(
        () => false,
        () => true,
      )
    )
      await sleep(100);
  }

  async function cancel(id: string): Promise<void> {
    for (let tries = 0; tries < 200; tries += 1) {
      const answer = await fetch(`${fleet.url(tries % fleet.size)}/jobs/${id}`, {
        method: 'DELETE',
        headers: { authorization: `Bearer ${apiKey}` },
        signal: AbortSignal.timeout(5000),
      }).catch(() => undefined);
      if (answer?.ok === true || answer?.status === 404) return;
      await sleep(200);
    }
  }

  try {
    for (const job of plan.jobs) background(produce(job));
    for (const blow of plan.blows) {
      await at(blow.atMs);
      background(strike(blow));
    }
    while (pending.size > 0) await Promise.all(pending);
    for (let index = 0; index < fleet.size; index += 1) {
      fleet.signal(index, 'SIGCONT');
      fleet.start(index);
    }
    say(`${((Date.now() - startedAt) / 1000).toFixed(1)} s: peace`);
    const calmAt = Date.now();
    while (!(await isOver())) {
      if (Date.now() - calmAt > options.patienceMs) break;
      await sleep(500);
    }
    const settledAfter = (Date.now() - calmAt) / 1000;
    await fleet.stop();
    const verdict = await judge({ jobs: plan.jobs, store, redis, endpoints });
    if (verdict.faults.length === 0) await rm(folder, { recursive: true, force: true });
    return {
      folder,
      faults: verdict.faults,
      numbers: {
        ...verdict.numbers,
        ...struck,
        'requests for references': references.requests(),
        'service starts': fleet.starts(),
        'endpoint requests': endpoints.counts.requests,
        'endpoint requests failed': endpoints.counts.failed,
        'endpoint requests while down': endpoints.counts.refusedWhileDown,
        'seconds in all': Math.round((Date.now() - startedAt) / 1000),
        'seconds to settle': Math.round(settledAfter),
      },
    };
  } finally {
    await fleet.stop();
    await store.close();
    redis.disconnect();
    await Promise.all([endpoints.close(), references.close()]);
    await server.stop();
  }

  async function isOver(): Promise<boolean> {
    try {
      for (const queue of queueNames) {
        const { waiting, delayed, running } = await store.depth(queue);
        if (waiting + delayed + running > 0) return false;
      }
      if ((await store.outbox.pending()) > 0) return false;
      for (const { id } of plan.jobs)
        if (id !== '' && !terminalStatuses.has((await store.get(id))?.status ?? 'queued')) return false;
      return true;
    } catch {
      return false;
    }
  }
}
