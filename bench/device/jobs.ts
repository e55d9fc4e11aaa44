/**
 * Whole jobs through the whole service (HTTP, queue, engine processes, storage) on one device.
 *   node dist/bench/device/jobs.js --models DIR --scenario sdxl [--device cuda] [--seconds 240] [--out DIR]
 * Scenarios: `sdxl` (one picture three times, then 3 and 6 pictures), `wan` (clips of 81 frames),
 * `both` (20 mixed jobs with GPU_MEMORY_GB of the environment, else 48), `two-cards` (one service a card, REDIS_URL for one queue).
 * After every job OUT/<scenario>-<device>.json holds what there is, beside the last files and the services' logs.
 */
import { mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { createHealthProbe } from '../health-probe.js';
import { percentile } from '../statistics.js';
import { watchGpuMemory } from './gpu-memory.js';
import { type Service, startService } from './service.js';

const { values } = parseArgs({
  options: {
    models: { type: 'string' },
    scenario: { type: 'string', default: 'sdxl' },
    device: { type: 'string', default: 'cuda' },
    out: { type: 'string' },
    seconds: { type: 'string', default: '240' },
    size: { type: 'string', default: '1024' },
    frames: { type: 'string', default: '81' },
    jobs: { type: 'string' },
  },
});
const { models, scenario, device } = values;
if (models === undefined) throw new Error('--models DIR is missing');
const out = values.out ?? models;
mkdirSync(out, { recursive: true });
const deadline = Date.now() + Number(values.seconds) * 1000;
const size = Number(values.size);
const frames = Number(values.frames);
const report: Record<string, unknown> = { scenario, device, size, frames };

const logOf = (name: string) => path.join(out, `${scenario}-${device}${name}.log`);
function write(): void {
  writeFileSync(path.join(out, `${scenario}-${device}.json`), `${JSON.stringify(report, null, 2)}\n`);
}
/** Puts a part into the report, at once in the file too: a run that is cut short still gives what it had. */
function note<T>(name: string, value: T): T {
  report[name] = value;
  write();
  return value;
}

const picture = (numImages = 1) => ({ num_images: numImages, width: size, height: size, seed: 7 });
const prompts = [
  'a lighthouse at dusk',
  'a red fox in snow',
  'an old harbour',
  'a glass of tea',
  'a mountain lake',
];
const prompt = (index: number) => `${prompts[index % prompts.length]}, view ${index + 1}`;
const clip = { frame_num: frames, seed: 7 };
const sum = (parts: Record<string, number> | undefined) =>
  Object.values(parts ?? {}).reduce((total, seconds) => total + seconds, 0);

/** A job's time over what its graphs took of it. */
const described = <J extends { seconds: number; graph_seconds: Record<string, number> | undefined }>(
  job: J,
) => ({ ...job, graphs: sum(job.graph_seconds), over_graphs: job.seconds / sum(job.graph_seconds) });

/** `/health` while `work` goes on. */
async function beside<T>(service: Service, work: () => Promise<T>): Promise<T> {
  const probe = createHealthProbe(service.url);
  let busy = true;
  const samples: number[] = [];
  const watching = (async () => {
    while (busy) samples.push(...(await probe.sample(10).catch(() => [])));
  })();
  try {
    return await work();
  } finally {
    busy = false;
    await watching;
    probe.close();
    note('health_ms', {
      requests: samples.length,
      p50: percentile(samples, 0.5),
      p99: percentile(samples, 0.99),
      most: percentile(samples, 1),
    });
  }
}

const environment = (more: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv => ({
  MODELS_DIR: models,
  ORT_DEVICE: device,
  ...more,
});

async function sdxl(service: Service): Promise<void> {
  note('ready', await service.ready('sdxl'));
  const jobs: unknown[] = note('jobs', []);
  const draw = async (name: string, config: Record<string, unknown>, index: number) => {
    const job = described(await service.run('sdxl_image_high', config, prompt(index)));
    jobs.push({ name, ...job });
    write();
    return job;
  };
  await beside(service, async () => {
    for (let i = 0; i < Number(values.jobs ?? 3); i += 1) {
      const job = await draw('25 steps', picture(), i);
      if (job.assets[0] !== undefined)
        await service.keep(job.assets[0], path.join(out, `sdxl-${device}.png`));
    }
    if (device !== 'cuda' && values.jobs === undefined) return;
    for (const count of [3, 3, 6, 6]) await draw(`${count} pictures`, picture(count), 20 + count);
  });
}

async function wan(service: Service): Promise<void> {
  note('ready', await service.ready('wan'));
  const jobs: unknown[] = note('jobs', []);
  await beside(service, async () => {
    for (let i = 0; i < Number(values.jobs ?? 2); i += 1) {
      const job = described(await service.run('video_fast', clip, prompt(i)));
      jobs.push({ name: `${frames} frames, 25 steps`, ...job });
      write();
      if (job.assets[0] !== undefined) await service.keep(job.assets[0], path.join(out, `wan-${device}.mp4`));
    }
  });
}

/** Both engines resident and busy: every fifth job is a clip. */
async function both(service: Service): Promise<void> {
  note('ready', { sdxl: await service.ready('sdxl'), wan: await service.ready('wan') });
  const began = performance.now();
  const processes = async () =>
    (await service.call<{ engines: Record<string, unknown> }>('/capabilities')).engines;
  const before = await processes();
  await beside(service, async () => {
    const sent = await Promise.all(
      Array.from({ length: Number(values.jobs ?? 20) }, async (_, i) => {
        const sentAt = performance.now();
        const [type, config] =
          i % 5 === 4 ? (['video_fast', clip] as const) : (['sdxl_image_high', picture()] as const);
        return { type, job: await service.finished(await service.submit(type, config, prompt(i)), sentAt) };
      }),
    );
    note(
      'jobs',
      sent.map(({ type, job }) => ({ name: type, ...described(job) })),
    );
  });
  note('seconds', (performance.now() - began) / 1000);
  note('engines', { before, after: await processes() });
}

/** Pictures a minute of one service, and of one a card beside each other, on one queue where REDIS_URL is set. */
async function twoCards(): Promise<void> {
  const count = Number(values.jobs ?? 30);
  const throughput = async (cards: readonly number[], name: string) => {
    const services = await Promise.all(
      cards.map((card) =>
        startService(
          environment({ CUDA_VISIBLE_DEVICES: String(card) }),
          logOf(`-${name}-card${card}`),
          deadline,
        ),
      ),
    );
    try {
      for (const service of services) await service.ready('sdxl');
      // each has its first job behind it
      await Promise.all(
        services.map(async (service) => service.run('sdxl_image_high', picture(), prompt(0))),
      );
      const began = performance.now();
      const jobs = await Promise.all(
        Array.from({ length: count * cards.length }, async (_, i) => {
          const service = services[i % services.length] as Service;
          const sentAt = performance.now();
          return service.finished(await service.submit('sdxl_image_high', picture(), prompt(i)), sentAt);
        }),
      );
      const seconds = (performance.now() - began) / 1000;
      return note(name, {
        cards,
        completed: jobs.filter(({ status }) => status === 'completed').length,
        seconds,
        pictures_a_minute: (60 * jobs.length) / seconds,
      });
    } finally {
      await Promise.all(services.map(async (service) => service.stop()));
    }
  };
  const one = await throughput([0], 'one');
  const two = await throughput([0, 1], 'two');
  note('ratio', two.pictures_a_minute / one.pictures_a_minute);
}

const memory = watchGpuMemory();
try {
  if (scenario === 'two-cards') await twoCards();
  else {
    const limit = process.env['GPU_MEMORY_GB'] ?? '48';
    const service = await startService(
      environment(scenario === 'both' ? { GPU_MEMORY_GB: limit } : {}),
      logOf(''),
      deadline,
    );
    try {
      const run = { sdxl, wan, both }[scenario];
      if (run === undefined) throw new Error(`there is no scenario ${scenario}`);
      await run(service);
      note('resources', await service.call('/worker/resources'));
    } finally {
      await service.stop();
    }
  }
} catch (error) {
  note('failure', error instanceof Error ? error.message : String(error));
  process.exitCode = 1;
} finally {
  const { beforeBytes, peakBytes } = memory.stop();
  note('gpu_bytes', { before: beforeBytes, peak: peakBytes });
}
process.stdout.write(`${JSON.stringify(report, null, 2)}\n`);
const drawn = (report['jobs'] ?? []) as Array<{ status: string }>;
if (drawn.some(({ status }) => status !== 'completed')) process.exitCode = 1;
