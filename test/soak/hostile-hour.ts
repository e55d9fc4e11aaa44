import { createServer } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { Redis } from 'ioredis';
import { projectRoot } from '../../src/lib/project.js';
import { hostilePayload } from '../chaos/hostile.js';
import { createRandom } from '../chaos/random.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { residentMb } from '../helpers/processes.js';
import { startRedis } from '../helpers/redis.js';
import { startService } from '../helpers/service-process.js';

export interface HostileOptions {
  seconds: number;
  jobs: number;
  streams: number;
  seed: number;
  say?: (line: string) => void;
}

export interface HostileReport {
  completed: number;
  /** Jobs that ended otherwise, or not at all. */
  wrong: string[];
  /** Slowest kind of job in peace, seconds. */
  quietSeconds: number;
  /** Of all jobs, their time over the quiet time of their kind: the largest. */
  slowestRatio: number;
  healthP99Ms: number;
  healthAnswers: number;
  /** Mean resident memory of the server in the third and the last tenth of the time, MiB. */
  thirdTenthMb: number;
  lastTenthMb: number;
  streamsOpen: number;
  events: number;
  hostileConnections: number;
  hostileRequests: Record<string, number>;
  hostilePayloads: number;
}

const patienceMs = 120_000;
/** In a thread of its own: the one that reads thousands of streams would measure its own delays. */
const askForHealth = `
  const { parentPort, workerData: url } = require('node:worker_threads');
  setInterval(async () => {
    const askedAt = performance.now();
    const answer = await fetch(url).then((response) => response.text(), () => undefined);
    if (answer !== undefined) parentPort.postMessage(performance.now() - askedAt);
  }, 100);
`;
const slowClients = 20;
const halfOpen = 100;
const kinds = [
  { num_images: 1, width: 128, height: 128 },
  { num_images: 3, width: 64, height: 64 },
  { num_images: 1, width: 256, height: 256 },
] as const;

/**
 * Real jobs over a real Redis, alone first, then beside clients that read and write a byte a second, hold
 * connections open without a word, send what is too large or no JSON, and follow one job by thousands of event
 * streams. That job never ends: the server of its picture is always busy.
 */
export async function runHostileHour({
  seconds,
  jobs,
  streams,
  seed,
  say = () => undefined,
}: HostileOptions): Promise<HostileReport> {
  const random = createRandom(seed);
  const busyServer = createServer((_request, response) => void response.writeHead(503).end());
  await new Promise<void>((resolve) => busyServer.listen(0, '127.0.0.1', resolve));
  const pictures = `127.0.0.1:${(busyServer.address() as AddressInfo).port}`;
  const [redisServer, receiver] = await Promise.all([startRedis(), startCallbackReceiver()]);
  const redis = new Redis(redisServer.url);
  const closeNeighbours = async () => {
    redis.disconnect();
    busyServer.close();
    await Promise.all([receiver.close(), redisServer.stop()]);
  };
  const service = await startService({
    env: {
      REDIS_URL: redisServer.url,
      CALLBACK_URL: receiver.url,
      MODELS_DIR: path.join(projectRoot(), 'test/parity/models'),
      REFERENCE_ALLOWED_HOSTS: pictures,
      MAX_ATTEMPTS: '20',
      PREVIEW_EVERY_STEPS: '0',
      LOG_LEVEL: 'error',
    },
  }).catch(async (error: unknown) => {
    await closeNeighbours();
    throw error;
  });
  const ending = new AbortController();
  const { signal } = ending;
  const background: Array<Promise<void>> = [];
  const hostileRequests: Record<string, number> = {};
  const sockets = new Set<net.Socket>();
  let [hostileConnections, hostilePayloads, open, events] = [0, 0, 0, 0];

  const jobOf = (index: number, more: object = {}) => ({
    id: random.uuid(),
    type: 'sdxl_image_fast',
    prompt: 'a red circle above a blue square',
    user_id: random.uuid(),
    config: { ...kinds[index % kinds.length], seed: index },
    ...more,
  });
  /** Pushes a job; its seconds from there to its terminal callback, and what it says. */
  async function draw(index: number): Promise<{ seconds: number; status: string }> {
    const job = jobOf(index);
    const startedAt = performance.now();
    await redis.lpush('sdxl_queue', JSON.stringify(job));
    const status = await receiver.waitForTerminal(job.id, patienceMs).then(
      ({ body }) => `${body.status} ${body.error_message ?? ''}`.trim(),
      () => 'no end',
    );
    return { seconds: (performance.now() - startedAt) / 1000, status };
  }

  /** A client that says `lines`, reads nothing unless it follows, and comes again when it is thrown out. */
  function hold(
    linesOf: () => string[],
    { everyMs, onData }: { everyMs: number; onData?: (chunk: Buffer) => void },
  ) {
    const visit = async () => {
      const lines = linesOf();
      const socket = net.connect(service.port, '127.0.0.1');
      hostileConnections += 1;
      sockets.add(socket);
      const closed = new Promise<void>((resolve) => socket.once('close', () => resolve()));
      socket.on('error', () => undefined);
      if (onData === undefined) socket.pause();
      else socket.on('data', onData);
      for (const line of lines) {
        socket.write(line);
        if (lines.length > 1) await Promise.race([closed, sleep(everyMs)]);
        if (socket.destroyed) break;
      }
      await closed;
      sockets.delete(socket);
    };
    background.push(
      (async () => {
        while (!signal.aborted) {
          await visit();
          await sleep(random.between(100, 1000));
        }
      })(),
    );
  }

  /** Again and again until the end. */
  function every(ms: number, act: () => Promise<void>): void {
    background.push(
      (async () => {
        while (!signal.aborted) {
          await act().catch(() => undefined);
          await sleep(ms, undefined, { signal }).catch(() => undefined);
        }
      })(),
    );
  }

  try {
    say('quiet');
    const quiet: number[] = [];
    for (let round = 0; round < 3; round += 1)
      for (const index of kinds.keys()) {
        const { seconds: took, status } = await draw(index);
        if (status !== 'completed') throw new Error(`a job in peace ended as ${status}`);
        // The first of a kind warms up.
        if (round > 0) quiet[index] = Math.max(quiet[index] ?? 0, took);
      }

    // Its twenty attempts take a quarter of an hour.
    let followed = '';
    const follow = async () => {
      const job = jobOf(0, { metadata: { reference_image_url: `http://${pictures}/busy.png` } });
      await service.send('POST', '/jobs', job);
      followed = job.id;
    };
    await follow();
    const renewal = setInterval(() => void follow().catch(() => undefined), 600_000).unref();
    signal.addEventListener('abort', () => clearInterval(renewal));
    const request = (method: string, route: string, headers: string[] = []) =>
      [
        `${method} ${route} HTTP/1.1`,
        `host: ${pictures}`,
        `authorization: Bearer ${service.apiKey}`,
        ...headers,
        '',
        '',
      ].join('\r\n');
    for (let n = 0; n < streams; n += 1) {
      hold(() => [request('GET', `/jobs/${followed}/events`)], {
        everyMs: 0,
        onData: (chunk) => {
          if (chunk.includes('HTTP/1.1 200')) open += 1;
          events += chunk.toString('latin1').split('\nevent: ').length - 1;
        },
      });
      if (n % 50 === 49) await sleep(20);
    }
    const post = request('POST', '/jobs', ['content-type: application/json', 'content-length: 5000']);
    for (let n = 0; n < slowClients; n += 1) {
      hold(() => [post, ...'x'.repeat(5000)], { everyMs: 1000 });
      hold(() => [...request('GET', '/openapi.json')], { everyMs: 1000 });
      hold(() => Array.from({ length: 50 }, () => request('GET', '/openapi.yaml')), { everyMs: 1 });
    }
    for (let n = 0; n < halfOpen; n += 1)
      hold(() => (n % 2 === 0 ? [] : ['GET /health HTTP/1.1\r\nhost: x\r\n']), { everyMs: 0 });
    const bodies = ['{"prompt": ', 'x'.repeat(2 * 1024 * 1024), '['.repeat(100_000), '\u0000', '"{"', 'null'];
    every(200, async () => {
      const body = bodies[random.index(bodies.length)] ?? '';
      const { status } = await fetch(`${service.baseUrl}/jobs`, {
        method: 'POST',
        headers: { authorization: `Bearer ${service.apiKey}`, 'content-type': 'application/json' },
        body,
      });
      hostileRequests[status] = (hostileRequests[status] ?? 0) + 1;
    });
    every(1000, async () => {
      const hostile = hostilePayload(hostilePayloads, jobOf(0));
      // Those that mean a job would only make the others wait.
      if (hostile.outcomes.includes('completed')) hostilePayloads += 1;
      else await redis.lpush('sdxl_queue', hostile.payload).then(() => (hostilePayloads += 1));
    });
    const startedAt = performance.now();
    const memory: Array<{ share: number; mb: number }> = [];
    const health: number[] = [];
    const asking = new Worker(askForHealth, { eval: true, workerData: `${service.baseUrl}/health` });
    asking.on('message', (ms: number) => health.push(ms));
    signal.addEventListener('abort', () => void asking.terminate());
    every(100, async () => {
      memory.push({
        share: (performance.now() - startedAt) / 1000 / seconds,
        mb: await residentMb(service.pid()),
      });
    });

    say('hostile');
    const wrong: string[] = [];
    let slowestRatio = 0;
    for (let index = 0; index < jobs; index += 1) {
      const { seconds: took, status } = await draw(index);
      if (status !== 'completed') wrong.push(`job ${index}: ${status}`);
      slowestRatio = Math.max(slowestRatio, took / (quiet[index % kinds.length] ?? 0));
      if (index % 20 === 19) say(`${index + 1} jobs, ${memory.at(-1)?.mb.toFixed(0)} MiB`);
      await sleep(Math.max(0, startedAt + ((index + 1) * seconds * 1000) / jobs - performance.now()));
    }
    const meanOf = (from: number, to: number) => {
      const within = memory.filter(({ share }) => share >= from && share <= to);
      return within.reduce((sum, { mb }) => sum + mb, 0) / within.length;
    };
    return {
      completed: jobs - wrong.length,
      wrong,
      quietSeconds: Math.max(...quiet),
      slowestRatio,
      healthP99Ms: health.sort((a, b) => a - b)[Math.floor(health.length * 0.99)] ?? Infinity,
      healthAnswers: health.length,
      thirdTenthMb: meanOf(0.2, 0.3),
      lastTenthMb: meanOf(0.9, Infinity),
      streamsOpen: open,
      events,
      hostileConnections,
      hostileRequests,
      hostilePayloads,
    };
  } finally {
    ending.abort();
    for (const socket of sockets) socket.destroy();
    await Promise.all(background);
    await service.cleanUp();
    await closeNeighbours();
  }
}
