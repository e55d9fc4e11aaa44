import { readdir, stat } from 'node:fs/promises';
import path from 'node:path';
import type { EngineKind } from '../../inference/engine-protocol.js';
import type { Footprint } from './admission-policy.js';
import type { Logger } from 'pino';
import type { Config } from '../../config.js';
import { packedFolder } from '../../inference/checkpoint/model-layout.js';
import { gibibyte } from '../../lib/units.js';
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
/** At the usual sizes with full-size weights: 1024 × 1024, 81 frames of 832 × 480, eight conversations. */
const fullSizeWorkingBytes: Record<EngineKind, number> = {
  sdxl: 5 * gibibyte,
  wan: 9 * gibibyte,
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
  const info = await stat(folder).catch(() => null);
  if (info?.isFile() === true) return info.size;
  const names = await readdir(folder, { recursive: true }).catch(() => [] as string[]);
  const sizes = await Promise.all(
    names
      // what a device has in another form is loaded instead of the checkpoint's own
      .filter((name) => weightFiles.test(name) && !name.startsWith(`${packedFolder}${path.sep}`))
      .map((name) =>
        stat(path.join(folder, name)).then(
          ({ size }) => size,
          () => 0,
        ),
      ),
  );
  return sizes.reduce((sum, size) => sum + size, 0);
}
