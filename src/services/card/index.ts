import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { EngineKind } from '../../inference/engine-protocol.js';
import type { Footprint } from './admission-policy.js';
import type { Logger } from 'pino';
import type { Config } from '../../config.js';
import {
  adapterFolder,
  bytesOnCard,
  isLoneFile,
  packedFolder,
} from '../../inference/checkpoint/model-layout.js';
import { formatGigabytes, gibibyte } from '../../lib/units.js';
import { createDeviceMemory, type DeviceMemoryOptions } from './device-memory.js';
import { createGpuMonitor, type GpuProbe } from './gpu-monitor.js';
import { createNvidiaSmiProbe, createSysfsProbe } from './gpu-probes.js';

/** Where this machine's GPU is read; the environment decides which of several. */
export const probesOfThisMachine = (environment: NodeJS.ProcessEnv): GpuProbe[] => [
  createNvidiaSmiProbe({ visible: environment['CUDA_VISIBLE_DEVICES'] }),
  createSysfsProbe(),
];

/** The GPU as it is, and who may hold how much of its memory. */
export function createCard(
  config: Pick<Config, 'gpuMemoryGigabytes'>,
  log: Logger,
  options: Pick<DeviceMemoryOptions, 'evict' | 'statuses' | 'expected'> & {
    environment: NodeJS.ProcessEnv;
    probes?: GpuProbe[] | undefined;
  },
) {
  const { environment, probes = probesOfThisMachine(environment), ...memoryOptions } = options;
  const bytes = config.gpuMemoryGigabytes * gibibyte;
  const gpu = createGpuMonitor({ probes, ...(bytes > 0 ? { configuredTotalBytes: bytes } : {}) });
  const memory = createDeviceMemory({
    gpu,
    log,
    ...memoryOptions,
    ...(bytes > 0 ? { configuredBytes: bytes } : {}),
  });
  return { gpu, memory };
}

const weightFiles = /\.(onnx|onnx_data|data|bin|gguf|safetensors)$/;
/** A CUDA context with its libraries. */
const contextBytes = 0.4 * gibibyte;
/** What sessions keep beside the weights: copies in other layouts, constants. */
const overhead = 1.1;
/**
 * At the usual sizes with full-size weights: 1024 × 1024, 81 frames of 832 × 480, eight conversations. With the
 * weights these are the peaks of a card over all jobs of docs/performance.md, 14.7 and 27.9 GiB.
 */
const fullSizeWorkingBytes: Record<EngineKind, number> = {
  sdxl: 7 * gibibyte,
  wan: 12 * gibibyte,
  qwen: 1.5 * gibibyte,
};
/** A model a hundred times smaller does not compute in gigabytes. */
const workingPerWeight = 2;

interface WeightFolder {
  dir: string | null;
  completionDir?: string;
}

/** What each engine is taken to need before it is measured. */
export async function expectedFootprints(
  kinds: readonly EngineKind[],
  folders: Record<EngineKind, WeightFolder>,
  given: Partial<Record<EngineKind, Footprint>> = {},
): Promise<Partial<Record<EngineKind, Footprint>>> {
  const entry = async (kind: EngineKind) =>
    [kind, given[kind] ?? (await expectedFootprint(kind, folders[kind]))] as const;
  return Object.fromEntries(await Promise.all(kinds.map(entry)));
}

/** A first guess from the size of the model's files; measurements correct it. */
async function expectedFootprint(kind: EngineKind, folder: WeightFolder): Promise<Footprint> {
  if (folder.dir === null) return { residentBytes: 0, workingBytes: 0 };
  const weights =
    (await weightBytes(folder.dir)) +
    (folder.completionDir === undefined ? 0 : await weightBytes(folder.completionDir));
  return {
    residentBytes: contextBytes + overhead * weights,
    workingBytes: Math.min(fullSizeWorkingBytes[kind], workingPerWeight * weights),
  };
}

async function weightBytes(folder: string): Promise<number> {
  if (isLoneFile(folder)) return (await fileBytes(folder)) + (await weightBytes(adapterFolder(folder)));
  const names = await readdir(folder, { recursive: true }).catch(() => [] as string[]);
  const sizes = await Promise.all(
    names
      // what a device has in another form is loaded instead of the checkpoint's own
      .filter((name) => weightFiles.test(name) && !name.startsWith(`${packedFolder}${path.sep}`))
      .map((name) => fileBytes(path.join(folder, name))),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}

const fileBytes = async (file: string): Promise<number> =>
  (file.endsWith('.safetensors') ? bytesOnCard(file) : stat(file).then(({ size }) => size)).catch(() => 0);

/** What a card of this size will do with these models, before the first job. */
export function describePlan(
  footprints: Partial<Record<EngineKind, Footprint>>,
  capacityBytes: number,
): Array<{ subject: string; fits: boolean; message: string; cure: string }> {
  const size = formatGigabytes;
  const total = ({ residentBytes, workingBytes }: Footprint) => residentBytes + workingBytes;
  const models = Object.entries(footprints) as Array<[EngineKind, Footprint]>;
  const each = models.map(([kind, footprint]) => {
    const { residentBytes } = footprint;
    const subject = `${kind} on this card`;
    const [loaded, atWork] = [size(residentBytes), size(total(footprint))];
    const need = `${loaded} loaded, ${atWork} while it computes, of ${size(capacityBytes)}`;
    if (total(footprint) <= capacityBytes) return { subject, fits: true, message: need, cure: '' };
    const tooLarge = residentBytes > capacityBytes;
    return {
      subject,
      fits: false,
      message: `${need}: ${tooLarge ? 'it will hardly load' : shortOf[kind]}`,
      cure: tooLarge ? 'Take a smaller model or a larger card.' : cureOf[kind],
    };
  });
  const fitting = models.filter(([, footprint]) => total(footprint) <= capacityBytes);
  if (fitting.length < 2) return each;
  const names = fitting.map(([kind]) => kind).join(', ');
  const sum = (of: (footprint: Footprint) => number) => fitting.reduce((all, [, one]) => all + of(one), 0);
  const largestWork = Math.max(...fitting.map(([, { workingBytes }]) => workingBytes));
  const together =
    sum(total) <= capacityBytes
      ? 'stay loaded and compute at the same time'
      : sum(({ residentBytes }) => residentBytes) + largestWork <= capacityBytes
        ? 'stay loaded and compute one after the other'
        : 'take turns: one leaves the card when another has work';
  return [...each, { subject: 'models on this card', fits: true, message: `${names} ${together}`, cure: '' }];
}

/** A model that fits, but not with the usual work. */
const shortOf: Record<EngineKind, string> = {
  sdxl: 'pictures are decoded in tiles where memory runs out, and several of a job drawn one by one',
  wan: 'clips of 81 frames of 832 × 480 may run out of memory',
  qwen: 'prompts are answered fewer at a time',
};
const cureOf: Record<EngineKind, string> = {
  sdxl: 'Ask for smaller pictures, or take a larger card.',
  wan: 'Ask for fewer frames or a smaller size, or take a larger card.',
  qwen: 'Set ENHANCE_CONCURRENCY lower, or take a smaller quantisation.',
};
