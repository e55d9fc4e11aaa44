/** The whole service as a user starts it, in a process of its own, for `jobs.ts`. */
import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findFreePort, ownProgram } from '../../src/lib/processes.js';

export interface JobView {
  status: string;
  error_message?: string;
  assets: string[];
  metadata?: Record<string, unknown>;
}
interface EngineView {
  state: string;
  reason?: string;
  device?: string;
  device_notes?: string[];
}

export type Service = Awaited<ReturnType<typeof startService>>;

const ended = (status: string) => ['completed', 'failed', 'cancelled'].includes(status);

/**
 * @param deadline by `Date.now()`: whatever is waited for, the wait ends then
 * @param logFile gets what the service says
 */
export async function startService(env: NodeJS.ProcessEnv, logFile: string, deadline: number) {
  const key = randomBytes(16).toString('hex');
  const port = await findFreePort();
  const dataDir = await mkdtemp(path.join(tmpdir(), 'ourvidz-device-'));
  const spawnedAt = performance.now();
  const server = spawn(process.execPath, ownProgram('src/server'), {
    env: {
      ...process.env,
      HOST: '127.0.0.1',
      PORT: String(port),
      DATA_DIR: dataDir,
      WAN_WORKER_API_KEY: key,
      RATE_LIMIT: 'off',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const log = createWriteStream(logFile);
  server.stdout.pipe(log, { end: false });
  server.stderr.pipe(log, { end: false });
  const address = (route: string) => `http://127.0.0.1:${port}${route}`;
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };

  async function call<T>(route: string, body?: unknown): Promise<T> {
    const reply = await fetch(
      address(route),
      body === undefined ? { headers } : { method: 'POST', headers, body: JSON.stringify(body) },
    );
    if (!reply.ok) throw new Error(`${route}: ${reply.status} ${await reply.text()}`);
    return (await reply.json()) as T;
  }

  const engine = async (kind: 'sdxl' | 'wan') =>
    (await call<{ engines: Record<string, EngineView> }>('/capabilities')).engines[kind] as EngineView;

  /** Seconds from the start of the service's process until the engine is ready. */
  async function ready(kind: 'sdxl' | 'wan'): Promise<{ seconds: number } & EngineView> {
    for (;;) {
      const view = await engine(kind).catch(() => null);
      if (view?.state === 'ready') return { ...view, seconds: (performance.now() - spawnedAt) / 1000 };
      if (view?.state === 'failed' || server.exitCode !== null || Date.now() > deadline)
        throw new Error(
          `the ${kind} engine is ${view?.state ?? 'not there'}: ${view?.reason ?? 'see the log'}`,
        );
      await sleep(50);
    }
  }

  async function submit(type: string, config: Record<string, unknown>, prompt: string): Promise<string> {
    const id = randomUUID();
    await call('/jobs', { id, type, prompt, user_id: randomUUID(), config: { explain: true, ...config } });
    return id;
  }

  /** Seconds from `sentAt` until the job has ended, and what the service says of it. */
  async function finished(id: string, sentAt: number) {
    for (;;) {
      const job = await call<JobView>(`/jobs/${id}`);
      if (ended(job.status)) {
        const { stage_times, device, explain, vram_used_gb } = job.metadata ?? {};
        const { graph_seconds, rows_per_unet_call } = (explain ?? {}) as Record<string, unknown>;
        const seconds = (performance.now() - sentAt) / 1000;
        return {
          status: job.status,
          seconds,
          error: job.error_message,
          stage_times,
          graph_seconds: graph_seconds as Record<string, number> | undefined,
          rows_per_unet_call,
          device,
          vram_used_gb,
          assets: job.assets,
        };
      }
      if (Date.now() > deadline) throw new Error(`${id} was still ${job.status} when the time was over`);
      await sleep(20);
    }
  }

  return {
    url: address(''),
    pid: server.pid as number,
    call,
    ready,
    submit,
    finished,
    /** One job from its POST to its end, nothing beside it. */
    async run(type: string, config: Record<string, unknown>, prompt: string) {
      const sentAt = performance.now();
      return finished(await submit(type, config, prompt), sentAt);
    },
    async keep(asset: string, file: string): Promise<void> {
      const reply = await fetch(new URL(asset, address('/')), { headers });
      if (reply.ok) await writeFile(file, new Uint8Array(await reply.arrayBuffer()));
    },
    async stop(): Promise<void> {
      server.kill('SIGTERM');
      const gone = new Promise((resolve) => server.once('exit', resolve));
      if (server.exitCode === null)
        await Promise.race([gone, sleep(15_000).then(() => server.kill('SIGKILL'))]);
      await rm(dataDir, { recursive: true, force: true });
    },
  };
}
