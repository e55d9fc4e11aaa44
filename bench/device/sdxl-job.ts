/**
 * One SDXL job through the whole service (HTTP, embedded queue, engine process, storage) on one device.
 *   node dist/bench/device/sdxl-job.js --models DIR [--device webgpu] [--size 1024] [--jobs 2]
 * The second job meets compiled shaders. Prints one JSON object and writes it to DIR/sdxl-<device>.json,
 * beside the picture of the last job and the service's log.
 */
import { spawn } from 'node:child_process';
import { randomBytes, randomUUID } from 'node:crypto';
import { createWriteStream } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { findFreePort, ownProgram } from '../../src/lib/processes.js';
import { watchGpuMemory } from './gpu-memory.js';

interface JobView {
  status: string;
  error_message?: string;
  assets: string[];
  metadata?: Record<string, unknown>;
}

const { values } = parseArgs({
  options: {
    models: { type: 'string' },
    device: { type: 'string', default: 'webgpu' },
    size: { type: 'string', default: '1024' },
    jobs: { type: 'string', default: '2' },
    seconds: { type: 'string', default: '240' },
  },
});
const folder = values.models;
if (folder === undefined) throw new Error('--models DIR is missing');
const deadline = Date.now() + Number(values.seconds) * 1000;
const key = randomBytes(16).toString('hex');
const port = await findFreePort();
const dataDir = await mkdtemp(path.join(tmpdir(), 'ourvidz-device-'));
const memory = watchGpuMemory();
const startedAt = performance.now();
const server = spawn(process.execPath, ownProgram('src/server'), {
  env: {
    ...process.env,
    HOST: '127.0.0.1',
    PORT: String(port),
    DATA_DIR: dataDir,
    MODELS_DIR: folder,
    ORT_DEVICE: values.device,
    WAN_WORKER_API_KEY: key,
    RATE_LIMIT: 'off',
  },
  stdio: ['ignore', 'pipe', 'pipe'],
});
const log = createWriteStream(path.join(folder, `sdxl-${values.device}.log`));
server.stdout.pipe(log, { end: false });
server.stderr.pipe(log, { end: false });

const jobs: Array<Record<string, unknown>> = [];
let failure: string | null = null;
try {
  await answered('/health');
  for (let count = 0; count < Number(values.jobs); count += 1) jobs.push(await runJob(count));
} catch (error) {
  failure = error instanceof Error ? error.message : String(error);
}
const resources = await get('/worker/resources').catch(() => null);
server.kill('SIGTERM');
await Promise.race([
  new Promise((resolve) => server.once('exit', resolve)),
  sleep(15_000).then(() => server.kill('SIGKILL')),
]);
await rm(dataDir, { recursive: true, force: true });
const torch = await readFile(path.join(folder, 'sdxl-torch.json'), 'utf8').then(
  (text) => JSON.parse(text) as Record<string, unknown>,
  () => null,
);
const { beforeBytes, peakBytes } = memory.stop();
const report = JSON.stringify(
  {
    device: values.device,
    size: Number(values.size),
    failure,
    jobs,
    gpu_bytes_before: beforeBytes,
    gpu_bytes_peak: peakBytes,
    resources,
    torch,
  },
  null,
  2,
);
await writeFile(path.join(folder, `sdxl-${values.device}.json`), `${report}\n`);
process.stdout.write(`${report}\n`);
process.exitCode = failure === null && jobs.every(({ status }) => status === 'completed') ? 0 : 1;

async function runJob(count: number) {
  const sentAt = performance.now();
  const size = Number(values.size);
  const payload = {
    id: randomUUID(),
    type: 'sdxl_image_high',
    prompt: `a lighthouse at dusk, view ${count + 1}`,
    user_id: randomUUID(),
    config: { num_images: 1, width: size, height: size, seed: 7 + count },
  };
  const reply = await fetch(address('/jobs'), {
    method: 'POST',
    headers: { authorization: `Bearer ${key}`, 'content-type': 'application/json' },
    body: JSON.stringify(payload),
  });
  if (reply.status !== 202) throw new Error(`POST /jobs: ${reply.status} ${await reply.text()}`);
  for (;;) {
    const job = await get<JobView>(`/jobs/${payload.id}`);
    if (['completed', 'failed', 'cancelled'].includes(job.status)) {
      const seconds = (performance.now() - sentAt) / 1000;
      if (job.assets[0] !== undefined) await keep(job.assets[0]);
      const { stage_times, device, scheduler, vram_used_gb, generation_time } = job.metadata ?? {};
      return {
        status: job.status,
        seconds,
        since_start_seconds: (performance.now() - startedAt) / 1000,
        error: job.error_message,
        stage_times,
        device,
        scheduler,
        vram_used_gb,
        generation_time,
      };
    }
    const engine = (await get<{ engines: { sdxl: { state: string; reason?: string } } }>('/capabilities'))
      .engines.sdxl;
    if (['failed', 'backing_off'].includes(engine.state))
      throw new Error(`the sdxl engine is ${engine.state}: ${engine.reason ?? 'see the log'}`);
    if (Date.now() > deadline)
      throw new Error(`the job was still ${job.status} after ${values.seconds} s: ${JSON.stringify(job)}`);
    await sleep(250);
  }
}

async function keep(asset: string): Promise<void> {
  const reply = await fetch(new URL(asset, address('/')), { headers: { authorization: `Bearer ${key}` } });
  const name = `sdxl-${values.device}${path.extname(new URL(asset, address('/')).pathname) || '.png'}`;
  if (reply.ok) await writeFile(path.join(folder as string, name), new Uint8Array(await reply.arrayBuffer()));
}

async function get<T>(route: string): Promise<T> {
  const reply = await fetch(address(route), { headers: { authorization: `Bearer ${key}` } });
  if (!reply.ok) throw new Error(`GET ${route}: ${reply.status} ${await reply.text()}`);
  return (await reply.json()) as T;
}

async function answered(route: string): Promise<void> {
  for (;;) {
    if (
      await get(route).then(
        () => true,
        () => false,
      )
    )
      return;
    if (server.exitCode !== null || Date.now() > deadline)
      throw new Error('the service did not answer: see its log');
    await sleep(100);
  }
}

function address(route: string): string {
  return `http://127.0.0.1:${port}${route}`;
}
