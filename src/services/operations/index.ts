import type { Logger } from 'pino';
import type { Config } from '../../config.js';
import type { DeviceMemory } from '../card/device-memory.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import { engineEntry } from '../engines/engine-options.js';
import type { Engines } from '../engines/engines.js';
import type { Capabilities, Fitness } from '../jobs/capabilities.js';
import type { Outlook } from '../jobs/outlook.js';
import type { Runner } from '../jobs/runner.js';
import type { Models } from '../models/index.js';
import type { JobStore } from '../queue/job-store.js';
import type { ReferenceUploads } from '../references/uploads.js';
import type { Storage } from '../storage/storage.js';
import { createServiceChecks } from './checks.js';
import { createMaintenance } from './maintenance.js';
import { createStatusMonitor } from './status-monitor.js';

interface OperationsOptions {
  workerId: string;
  store: JobStore;
  storage: Storage;
  engines: Engines;
  gpu: GpuMonitor;
  memory: DeviceMemory;
  models: Models;
  runners: readonly Runner[];
  capabilities: Capabilities;
  fitness: Fitness;
  outlook: Outlook;
  activeJobs: () => number;
  uploads: ReferenceUploads;
}

/** What keeps an eye on the rest: status, checks, leases of lost runners. */
export function createOperations(config: Config, log: Logger, options: OperationsOptions) {
  const { dataDir, supabaseUrl, supabaseServiceKey } = config;
  return {
    monitor: createStatusMonitor({ ...options, dataDir, maxWaiting: config.maxWaitingJobs }),
    validation: createServiceChecks({
      ...options,
      ...options.models,
      dataDir,
      supabaseUrl,
      supabaseServiceKey,
      engineEntry: engineEntry(),
    }),
    maintenance: createMaintenance({ ...options, leaseMs: config.leaseSeconds * 1000, log }),
  };
}
