import { spawn } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Redis } from 'ioredis';
import { findFreePort, ownProgram } from '../../src/lib/processes.js';
import { projectRoot } from '../../src/lib/project.js';
import { createRandom } from '../chaos/random.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { endProcess, endWithThisProcess, residentMb } from '../helpers/processes.js';
import { startRedis } from '../helpers/redis.js';
import { waitFor } from '../helpers/wait-for.js';

export interface SoakReport {
  jobs: number;
  seconds: number;
  outcomes: Record<string, number>;
  /** Jobs whose outcome is not one that their prompt allows. */
  wrong: string[];
  /** Jobs without a terminal callback, or still on a queue. */
  stuck: number;
  engineRestarts: number;
  /**
   * Answers of `/health` and `/ready` other than `healthy` and 200; only looked at when nothing is in
   * trouble.
   */
  notWell: string[];
  zombies: number;
  /** Mean resident memory of the server in the second and the last tenth of the jobs, MiB. */
  secondTenthMb: number;
  lastTenthMb: number;
}

const apiKey = 'key-of-the-soak-run';
/** Waiting jobs at most: producers that outrun the worker would only test Redis. */
const backlog = 40;
const callbackFailures = 0.05;

/**
 * What the jobs are like. `trouble`: a fifth of them misbehave. `healthy`: none does, but some block the
 * engine's main thread for longer than a heartbeat may be away. `real`: real engines with tiny models draw
 * and film at once, under the limits of the product.
 */
export type SoakKind = 'trouble' | 'healthy' | 'real';

/**
 * Pushes `jobs` small jobs through a server process of its own, with a real Redis and callbacks that fail now
 * and then.
 */
export async function runSoak({
  jobs,
  seed,
  kind = 'trouble',
  say = () => {},
}: {
  jobs: number;
  seed: number;
  kind?: SoakKind;
  say?: (line: string) => void;
}): Promise<SoakReport> {
  const random = createRandom(seed);
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-soak-'));
  const [redisServer, receiver, port] = await Promise.all([
    startRedis(),
    startCallbackReceiver({ respond: () => (random.chance(callbackFailures) ? 503 : 200) }),
    findFreePort(),
  ]);
  const redis = new Redis(redisServer.url);
  const models =
    kind === 'real' ? path.join(projectRoot(), 'test/parity/models') : path.join(folder, 'models');
  if (kind !== 'real') await mkdir(path.join(models, 'sdxl'), { recursive: true });
  const server = spawn(process.execPath, [...ownProgram('test/soak/server'), kind], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      PORT: String(port),
      DATA_DIR: path.join(folder, 'data'),
      MODELS_DIR: models,
      REDIS_URL: redisServer.url,
      WAN_WORKER_API_KEY: apiKey,
      CALLBACK_URL: receiver.url,
      LOG_LEVEL: 'silent',
      RATE_LIMIT: 'off',
      PREVIEW_EVERY_STEPS: '0',
    },
  });
  endWithThisProcess(server);
  const startedAt = performance.now();
  try {
    const url = `http://127.0.0.1:${port}`;
    const call = (method: string, route: string) =>
      fetch(`${url}${route}`, { method, headers: { authorization: `Bearer ${apiKey}` } });
    await waitFor(async () => (await call('GET', '/ready').catch(() => undefined))?.ok, {
      what: 'the server',
      timeoutMs: 60_000,
    });

    const planned = new Map<string, { prompt: string; outcomes: string[] }>();
    const ended = new Map<string, { status: string; message: string | undefined }>();
    const notWell: string[] = [];
    const samples: Array<{ done: number; rssMb: number }> = [];
    let zombies = 0;
    let seen = 0;
    const collect = () => {
      for (; seen < receiver.received.length; seen += 1) {
        const callback = receiver.received[seen];
        if (callback !== undefined && callback.statusCode === 200 && callback.body.status !== 'processing')
          ended.set(callback.body.job_id, {
            status: callback.body.status,
            message: callback.body.error_message,
          });
      }
    };
    let lastProgressMs = Date.now();
    let pushed = 0;
    while (ended.size < jobs) {
      const before = ended.size;
      collect();
      if (ended.size > before) lastProgressMs = Date.now();
      if (Date.now() - lastProgressMs > 60_000) break;
      while (pushed < jobs && pushed - ended.size < backlog) {
        const {
          queue = 'sdxl_queue',
          id,
          payload,
          prompt,
          outcomes,
          cancelAfterMs,
        } = planners[kind](random, pushed, folder);
        planned.set(id, { prompt, outcomes });
        await redis.lpush(queue, payload);
        if (cancelAfterMs !== null)
          setTimeout(() => void call('DELETE', `/jobs/${id}`).catch(() => {}), cancelAfterMs);
        pushed += 1;
      }
      samples.push({ done: ended.size, rssMb: await residentMb(server.pid ?? 0) });
      zombies = await zombiesOf(server.pid ?? 0);
      if (kind !== 'trouble') {
        const [health, ready] = await Promise.all(
          ['/health', '/ready'].map(async (route) => (await call('GET', route)).text()),
        );
        if (!health?.includes('"status":"healthy"') || !ready?.includes('"ready":true'))
          notWell.push(`${health} ${ready}`);
      }
      if (Math.floor(ended.size / 500) > Math.floor(before / 500))
        say(
          `${ended.size} jobs, ${samples.at(-1)?.rssMb.toFixed(0)} MiB, ${((performance.now() - startedAt) / 1000).toFixed(0)} s`,
        );
      await sleep(100);
    }
    await sleep(1000);
    collect();
    const status = (await (await call('GET', '/worker/status')).json()) as {
      workers: Record<'sdxl' | 'wan', { restarts: number }>;
    };
    const { queues } = (await (await call('GET', '/worker/resources')).json()) as {
      queues: Record<'sdxl_queue' | 'wan_queue', number>;
    };
    zombies = await zombiesOf(server.pid ?? 0);
    const outcomes: Record<string, number> = {};
    for (const { status: outcome } of ended.values()) outcomes[outcome] = (outcomes[outcome] ?? 0) + 1;
    return {
      jobs,
      outcomes,
      zombies,
      notWell,
      seconds: (performance.now() - startedAt) / 1000,
      engineRestarts: status.workers.sdxl.restarts + status.workers.wan.restarts,
      stuck: jobs - ended.size + queues.sdxl_queue + queues.wan_queue,
      secondTenthMb: meanOf(samples, jobs, 1),
      lastTenthMb: meanOf(samples, jobs, 9),
      wrong: [...ended].flatMap(([id, { status: outcome, message }]) => {
        const job = planned.get(id);
        return job?.outcomes.includes(outcome) === true
          ? []
          : [`${id} (${job?.prompt}) ${outcome} instead of ${job?.outcomes.join(' or ')}: ${message}`];
      }),
    };
  } finally {
    await endProcess(server);
    redis.disconnect();
    await Promise.all([receiver.close(), redisServer.stop()]);
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

interface PlannedJob {
  queue?: string;
  id: string;
  prompt: string;
  payload: string;
  outcomes: string[];
  cancelAfterMs: number | null;
}
type Planner = (random: ReturnType<typeof createRandom>, index: number, folder: string) => PlannedJob;
const planners: Record<SoakKind, Planner> = {
  trouble: planTroubledJob,
  healthy: planHealthyJob,
  real: planRealJob,
};

function planTroubledJob(random: ReturnType<typeof createRandom>, index: number, folder: string): PlannedJob {
  const dice = random.next();
  const id = random.uuid();
  const [prompt, outcomes]: [string, string[]] =
    dice < 0.03
      ? [`crashes once ${path.join(folder, `crash-${index}`)}`, ['completed']]
      : dice < 0.05
        ? ['runs out of memory', ['failed']]
        : dice < 0.07
          ? ['is invalid', ['failed']]
          : dice < 0.08
            ? ['crashes always', ['failed']]
            : dice < 0.082
              ? ['leaks', ['completed']]
              : dice < 0.1
                ? ['encodes slowly', ['completed']]
                : dice < 0.11
                  ? ['', ['failed']]
                  : dice < 0.15
                    ? ['to be cancelled', ['failed', 'completed']]
                    : [`picture ${index}`, ['completed']];
  return {
    ...jobOf(random, index, id, prompt),
    outcomes,
    cancelAfterMs: prompt === 'to be cancelled' ? random.between(0, 500) : null,
  };
}

/** Beyond the heartbeat limit of the server's healthy mode. */
const longBlockMs = 4000;

function planHealthyJob(random: ReturnType<typeof createRandom>, index: number): PlannedJob {
  const dice = random.next();
  const prompt =
    index % 50 === 7
      ? `blocks ${longBlockMs}`
      : dice < 0.1
        ? 'blocks 300'
        : dice < 0.15
          ? 'is slow'
          : dice < 0.2
            ? 'encodes slowly'
            : `picture ${index}`;
  return { ...jobOf(random, index, random.uuid(), prompt), outcomes: ['completed'], cancelAfterMs: null };
}

/** One in five is for WAN, so that both engines are busy all the time. */
function planRealJob(random: ReturnType<typeof createRandom>, index: number): PlannedJob {
  const films = index % 5 === 0;
  const id = random.uuid();
  const config = films
    ? { size: '64*64', frame_num: 5, seed: index }
    : { width: 128, height: 128, num_images: random.chance(0.1) ? 3 : 1, seed: index };
  const payload = JSON.stringify({
    id,
    type: films ? 'video_fast' : 'sdxl_image_fast',
    prompt: 'a red circle above a blue square',
    user_id: random.uuid(),
    config,
  });
  return {
    queue: films ? 'wan_queue' : 'sdxl_queue',
    id,
    prompt: films ? 'film' : 'picture',
    payload,
    outcomes: ['completed'],
    cancelAfterMs: null,
  };
}

function jobOf(random: ReturnType<typeof createRandom>, index: number, id: string, prompt: string) {
  return {
    id,
    prompt,
    payload: JSON.stringify({
      id,
      type: 'sdxl_image_fast',
      prompt,
      user_id: random.uuid(),
      config: { num_images: random.chance(0.1) ? 3 : 1, seed: index },
    }),
  };
}

function meanOf(
  samples: ReadonlyArray<{ done: number; rssMb: number }>,
  jobs: number,
  tenth: number,
): number {
  const within = samples.filter(
    ({ done }) => done >= (tenth * jobs) / 10 && done <= ((tenth + 1) * jobs) / 10,
  );
  return within.reduce((sum, { rssMb }) => sum + rssMb, 0) / within.length;
}

/** Children that ended and that nobody has asked about. */
async function zombiesOf(parent: number): Promise<number> {
  const pids = (await readdir('/proc')).filter((name) => /^\d+$/.test(name));
  const stats = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '')));
  return stats.filter((stat) => {
    const [state, ppid] = stat.replace(/^.*\) /s, '').split(' ');
    return state === 'Z' && Number(ppid) === parent;
  }).length;
}
