import type { EngineService } from './engines/engine-status.js';
import type { EnhancementService } from './enhancement/enhancement-types.js';
import type { GpuMonitor } from './card/gpu-monitor.js';
import type { JobService } from './jobs/job-service.js';
import type { DeviceMemory } from './card/device-memory.js';
import type { JobStore } from './queue/job-store.js';
import type { StatusMonitor } from './operations/status-monitor.js';
import type { AssetService, Storage } from './storage/storage.js';
import type { Validation } from './operations/validation.js';
import type { VideoEncoder } from './models/video-encoder.js';

/**
 * What the routes see of the service. `createServices(config, log)` builds the real ones; tests build the app
 * with real services on embedded defaults and swap single parts by option.
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
