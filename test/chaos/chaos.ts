import { mkdtemp, readFile, rm } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { projectRoot } from '../../src/lib/project.js';
import { queueNames, type QueueName } from '../../src/services/catalogue.js';
import { createRedisStore } from '../../src/services/queue/redis/store.js';
import { terminalStatuses } from '../../src/services/queue/job-store.js';
import { failOver, startAddress, startRedis, startReplica } from '../helpers/redis.js';
import { waitFor } from '../helpers/wait-for.js';
import { refusedKey, startEndpoints } from './endpoints.js';
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
const keyOf = (service: number) => `service-key-of-${service}`;

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
  let master = await startRedis({ fsync: 'always' });
  let replica = await startReplica(master, { fsync: 'always' });
  const address = await startAddress(master);
  const endpoints = await startEndpoints({
    random: createRandom(options.seed + 1),
    failureRate: options.failureRate,
  });
  const references = await startReferenceServer();
  const redis = new Redis(address.url, {
    maxRetriesPerRequest: null,
    reconnectOnError: ({ message }) => message.startsWith('READONLY'),
  });
  redis.on('error', () => undefined);
  const store = createRedisStore({ url: address.url });
  const fleet = await startFleet({
    folder,
    services: options.services,
    environment: (index) => ({
      REDIS_URL: address.url,
      SUPABASE_URL: endpoints.origin,
      SUPABASE_SERVICE_KEY: keyOf(index),
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
    }),
  });
  const struck: Record<string, number> = {};
  const startedAt = Date.now();
  const at = (ms: number) => sleep(Math.max(0, startedAt + ms - Date.now()));
  const pending = new Set<Promise<void>>();
  const background = (task: Promise<void>) => {
    const tracked = task.finally(() => pending.delete(tracked));
    pending.add(tracked);
  };

  /** What befalls Redis comes one after the other: a failover needs both servers. */
  let redisBlow = Promise.resolve();
  function alone(blow: () => Promise<void>): Promise<void> {
    redisBlow = redisBlow.then(blow);
    return redisBlow;
  }

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
        return alone(async () => {
          master.signal('SIGSTOP');
          await sleep(blow.forMs);
          master.signal('SIGCONT');
        });
      case 'restart Redis':
        return alone(async () => {
          await master.kill();
          await sleep(blow.downMs);
          await master.start();
        });
      case 'fail Redis over':
        return alone(async () => {
          await failOver(master, replica, address);
          [master, replica] = [replica, master];
        });
      case 'fill Redis':
        return alone(async () => {
          const admin = new Redis(master.url);
          await admin.config('SET', 'maxmemory', '100kb');
          await sleep(blow.forMs);
          await admin.config('SET', 'maxmemory', '0');
          admin.disconnect();
        });
      case 'expire a key':
        endpoints.expire(keyOf(blow.service));
        await sleep(blow.forMs);
        // One that was killed or frozen meanwhile, or has nothing to store, meets it when it is asked.
        for (let looks = 0; looks < 150 && endpoints.refusals(keyOf(blow.service)) === 0; looks += 1) {
          await fetch(`${fleet.url(blow.service)}/ready`, { signal: AbortSignal.timeout(5000) }).catch(
            () => null,
          );
          await sleep(1000);
        }
        return endpoints.renew(keyOf(blow.service));
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
    // A slow machine is waited for as long as it gets on; a standstill is a fault, whatever it is.
    let standstill: string[] = [];
    for (let [left, movedAt] = [await leftToDo(), calmAt]; left !== ''; await sleep(500)) {
      const now = await leftToDo();
      if (now !== left) [left, movedAt] = [now, Date.now()];
      if (Date.now() - movedAt <= options.patienceMs) continue;
      standstill = [`nothing moves for ${options.patienceMs / 1000} s: ${left}`, ...(await statesOf())];
      break;
    }
    const settledAfter = (Date.now() - calmAt) / 1000;
    const notReady = [...standstill, ...(await unready())];
    await fleet.stop();
    const keys = await chargedForKeys();
    const verdict = await judge({ jobs: plan.jobs, store, redis, endpoints });
    verdict.faults.push(...notReady, ...keys.faults);
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
        'requests with an expired key': endpoints.counts.refusedKeys,
        'jobs handed back for an expired key': keys.handedBack,
        'attempts charged for an expired key': keys.faults.length,
        'seconds in all': Math.round((Date.now() - startedAt) / 1000),
        'seconds to settle': Math.round(settledAfter),
      },
    };
  } finally {
    await fleet.stop();
    await store.close();
    redis.disconnect();
    await Promise.all([endpoints.close(), references.close(), address.close()]);
    await Promise.all([master.stop(), replica.stop()]);
  }

  /** In peace every service is ready again by itself; what is in the way of one that is not. */
  async function unready(): Promise<string[]> {
    const all = Array.from({ length: fleet.size }, async (_, index) => {
      let last = 'no answer';
      const isReady = async () => {
        const answer = await fetch(`${fleet.url(index)}/ready`).catch(() => undefined);
        last = (await answer?.text()) ?? last;
        return answer?.ok === true;
      };
      return waitFor(isReady, { what: 'readiness', timeoutMs: 90_000, intervalMs: 500 }).then(
        () => [],
        () => [`service ${index} is not ready in peace: ${last}`],
      );
    });
    return (await Promise.all(all)).flat();
  }

  /** What the logs say of jobs that met a service whose key had expired. */
  async function chargedForKeys() {
    const texts = await Promise.all(
      Array.from({ length: fleet.size }, (_, index) => readFile(fleet.logOf(index), 'utf8')),
    );
    const lines = texts.flatMap((text) => text.split('\n'));
    const charged = lines.filter(
      (line) => line.includes('"msg":"attempt failed"') && line.includes(refusedKey),
    );
    const handedBack = lines.filter(
      (line) => line.includes('"msg":"job handed back"') && /"reason":"unfit"|jwt expired/.test(line),
    );
    return {
      handedBack: handedBack.length,
      faults: charged.map((line) => `an attempt was charged for an expired key: ${line.slice(0, 300)}`),
    };
  }

  /** What is not over yet, in numbers; empty when everything is. */
  async function leftToDo(): Promise<string> {
    try {
      const depths = [];
      for (const queue of queueNames) {
        const { waiting, delayed, running } = await store.depth(queue);
        if (waiting + delayed + running > 0)
          depths.push(`${queue}: ${waiting} waiting, ${delayed} delayed, ${running} running`);
      }
      const callbacks = await store.outbox.pending();
      let open = 0;
      for (const { id } of plan.jobs)
        if (id !== '' && !terminalStatuses.has((await store.get(id))?.status ?? 'queued')) open += 1;
      if (callbacks > 0) depths.push(`${callbacks} callbacks, ${endpoints.counts.requests} requests so far`);
      if (open > 0) depths.push(`${open} jobs without an end`);
      return depths.join('; ');
    } catch (error) {
      return `the queue does not answer: ${(error as Error).message}`;
    }
  }

  /** What each service says of itself, for whoever has to find out why nothing moves. */
  async function statesOf(): Promise<string[]> {
    const ask = (index: number, path: string) =>
      fetch(`${fleet.url(index)}${path}`, {
        headers: { authorization: `Bearer ${apiKey}` },
        signal: AbortSignal.timeout(10_000),
      }).then(
        (answer) => answer.text(),
        (error: unknown) => String(error),
      );
    return Promise.all(
      Array.from({ length: fleet.size }, async (_, index) => {
        const [ready, status] = [await ask(index, '/ready'), await ask(index, '/worker/status')];
        return `service ${index} says ${ready} ${status.slice(0, 600)}`;
      }),
    );
  }
}
