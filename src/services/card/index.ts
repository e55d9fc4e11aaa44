import type { Logger } from 'pino';
import type { Config } from '../../config.js';
import { gibibyte } from '../../lib/units.js';
import { createDeviceMemory, type DeviceMemoryOptions } from './device-memory.js';
import { createGpuMonitor, type GpuProbe } from './gpu-monitor.js';
import { createNvidiaSmiProbe, createSysfsProbe } from './gpu-probes.js';

const probesOfThisMachine = () => [createNvidiaSmiProbe(), createSysfsProbe()];

/** The GPU as it is, and who may hold how much of its memory. */
export function createCard(
  config: Pick<Config, 'gpuMemoryGigabytes'>,
  log: Logger,
  options: Pick<DeviceMemoryOptions, 'evict' | 'statuses' | 'expected'> & { probes?: GpuProbe[] | undefined },
) {
  const { probes = probesOfThisMachine(), ...memoryOptions } = options;
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
