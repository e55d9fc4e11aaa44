import type { EngineService } from './engines/types.js';
import type { EnhancementService } from './enhancement/types.js';
import type { GpuMonitor } from './gpu/gpu-monitor.js';
import type { JobService } from './jobs/types.js';
import type { DeviceMemory } from './memory-budget/device-memory.js';
import type { JobStore } from './queue/types.js';
import type { StatusMonitor } from './status-monitor/index.js';
import type { AssetService, Storage } from './storage/types.js';
import type { Validation } from './validation/validation.js';
import type { VideoEncoder } from './video-encoder.js';

/**
 * What the routes see of the service. `createServices(config, log)` builds the real ones; tests build the app with
 * real services on embedded defaults and swap single parts by option.
 */
export interface Services {
  jobs: JobService;
  engines: EngineService;
  store: JobStore;
  storage: Storage;
  /** Files of the folder storage by URL path; absent when storage is elsewhere. */
  assets?: AssetService;
  gpu: Pick<GpuMonitor, 'read'>;
  memory: Pick<DeviceMemory, 'view' | 'capacity' | 'deviceBytes'>;
  validation: Validation;
  /** Without one videos are refused; pictures need none. */
  videoEncoder: Pick<VideoEncoder, 'available'>;
  monitor: StatusMonitor;
  /** Jobs this process works on, from fetching references to upload. */
  activeJobs(): number;
  /** Absent without a Qwen model. */
  enhancement?: EnhancementService;
  /** Starts consuming (after `listen`), so that a broken port never takes jobs. */
  start(): Promise<void>;
  /** Stops taking jobs, finishes or hands back within the grace, flushes the outbox, ends the engines. */
  stop(): Promise<void>;
}
