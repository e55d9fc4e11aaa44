/** Prints the tables of docs/performance.md from what `run-all.sh` left in a folder: `node tables.js DIR`. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { markdownTable, percentile } from '../statistics.js';

const folder = process.argv[2] ?? '.';
interface Timing {
  seconds?: number[];
  peak_bytes?: number;
  error?: string;
}
interface Job {
  name: string;
  status: string;
  seconds: number;
  graphs: number;
  over_graphs: number;
  stage_times?: Record<string, number>;
  graph_seconds?: Record<string, number>;
}
interface Report {
  ready?: { seconds?: number; sdxl?: { seconds: number }; wan?: { seconds: number } };
  jobs?: Job[];
  health_ms?: { p50: number; p99: number; requests: number };
  gpu_bytes?: { peak: number | null };
  seconds?: number;
  failure?: string;
  ratio?: number;
  one?: { pictures_a_minute: number };
  two?: { pictures_a_minute: number };
}
interface Step {
  median_seconds?: number;
  first_pass_seconds: number;
  open_seconds: number;
  gpu_bytes_peak: number | null;
  error?: string;
  against: Record<string, { psnr_db: number }>;
}

function read<T>(name: string): T | null {
  const file = path.join(folder, `${name}.json`);
  return existsSync(file) ? (JSON.parse(readFileSync(file, 'utf8')) as T) : null;
}
const milliseconds = (seconds: number | undefined) =>
  seconds === undefined ? '' : seconds < 1 ? `${(seconds * 1000).toFixed(1)} ms` : `${seconds.toFixed(2)} s`;
const gigabytes = (bytes: number | null | undefined) => (bytes ? `${(bytes / 1e9).toFixed(1)} GB` : '');
const median = (numbers: readonly number[] | undefined) =>
  numbers === undefined || numbers.length === 0 ? undefined : percentile(numbers, 0.5);
const ofTorch = (timing: Timing | undefined) =>
  timing === undefined ? '' : (timing.error?.slice(0, 40) ?? milliseconds(median(timing.seconds)));
const print = (title: string, table: string) => process.stdout.write(`\n${title}\n\n${table}\n`);

const sdxl = read<Record<string, Timing> & { device: string; torch: string }>('sdxl-torch');
const wan = read<{
  device: string;
  torch: string;
  frames: Record<string, { fp16: Timing }>;
  job_25_steps?: Timing & { pipeline: number; mp4?: number };
}>('wan-torch');
const devices = ['cuda', 'webgpu', 'cpu'];
const passes = [
  {
    name: 'SDXL UNet, guidance (2 rows)',
    step: 'sdxl-unet',
    torch: sdxl?.['unet_fp16'],
    graph: sdxl?.['unet_fp16_graph'],
  },
  { name: 'SDXL decoder', step: 'sdxl-vae', torch: sdxl?.['decode_fp32'], graph: undefined },
  ...Object.entries(wan?.frames ?? {}).map(([frames, { fp16 }]) => ({
    name: `WAN 1.3B transformer, ${frames} frames`,
    step: `wan-${frames}`,
    torch: fp16,
    graph: undefined,
  })),
];
print(
  `One pass (${sdxl?.device ?? wan?.device}, torch ${sdxl?.torch ?? wan?.torch})`,
  markdownTable(
    [
      'one pass',
      'torch',
      'as a CUDA graph',
      'worker',
      'first',
      'to open',
      'to float32',
      'to torch fp16',
      "card's peak",
    ],
    passes.flatMap(({ name, step, torch, graph }) =>
      devices.flatMap((device) => {
        const own = read<Step>(`${step}-${device}`);
        if (own === null) return [];
        const decibels = (by: string) => own.against?.[by]?.psnr_db.toFixed(1) ?? '';
        return [
          own.error !== undefined
            ? [
                `${name}, ${device}`,
                ofTorch(torch),
                ofTorch(graph),
                own.error.slice(0, 80),
                '',
                '',
                '',
                '',
                '',
              ]
            : [
                `${name}, ${device}`,
                ofTorch(torch),
                ofTorch(graph),
                milliseconds(own.median_seconds),
                milliseconds(own.first_pass_seconds),
                milliseconds(own.open_seconds),
                decibels('fp32'),
                decibels('fp16'),
                gigabytes(own.gpu_bytes_peak),
              ],
        ];
      }),
    ),
  ),
);

if (wan?.job_25_steps !== undefined) {
  const { pipeline, mp4 = 0 } = wan.job_25_steps;
  print(
    "WAN, diffusers' own pipeline, 25 steps, and its MP4",
    markdownTable(['pipeline', 'MP4', 'both'], [[pipeline, mp4, pipeline + mp4].map(milliseconds)]),
  );
}

for (const scenario of ['sdxl', 'wan', 'both'])
  for (const device of devices) {
    const report = read<Report>(`${scenario}-${device}`);
    if (report === null) continue;
    const jobs = report.jobs ?? [];
    const stages = ['text', 'denoise', 'decode', 'encode'];
    const ready = report.ready?.seconds ?? report.ready?.sdxl?.seconds;
    print(
      `${scenario}, ${device}: ready ${milliseconds(ready)} after the start, card's peak ${gigabytes(report.gpu_bytes?.peak)}, ` +
        `/health p50 ${report.health_ms?.p50.toFixed(2)} ms, p99 ${report.health_ms?.p99.toFixed(2)} ms` +
        (report.seconds === undefined ? '' : `, all jobs ${report.seconds.toFixed(1)} s`) +
        (report.failure === undefined ? '' : ` — ${report.failure}`),
      markdownTable(
        ['job', 'in all', ...stages, 'graph calls', 'in all ÷ graph calls', 'outside in denoise'],
        jobs.map((job) => [
          `${job.name}${job.status === 'completed' ? '' : ` (${job.status})`}`,
          milliseconds(job.seconds),
          ...stages.map((stage) => milliseconds(job.stage_times?.[stage])),
          milliseconds(job.graphs),
          job.over_graphs?.toFixed(3) ?? '',
          milliseconds((job.stage_times?.['denoise'] ?? 0) - (job.graph_seconds?.['denoise'] ?? 0)),
        ]),
      ),
    );
  }
for (const device of devices) {
  const cards = read<Report>(`two-cards-${device}`);
  if (cards?.one === undefined) continue;
  const each = [cards.one, cards.two].map((one) => one?.pictures_a_minute.toFixed(1) ?? '');
  print(
    'Two cards',
    markdownTable(
      ['pictures a minute', 'one card', 'two', 'ratio'],
      [['', ...each, cards.ratio?.toFixed(2) ?? '']],
    ),
  );
}
