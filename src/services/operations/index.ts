import type { Trouble } from '../../lib/errors.js';
import type { Logger } from 'pino';
import type { Config } from '../../config.js';
import type { RoomWatch } from '../../lib/data-folder.js';
import type { DeviceMemory } from '../card/device-memory.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import { engineEntry } from '../engines/engine-options.js';
import type { Engines } from '../engines/engines.js';
import type { Capabilities, Fitness } from '../jobs/capabilities.js';
import type { Outlook } from '../jobs/outlook.js';
import type { Runner } from '../jobs/runner.js';
import { type Models, pocketTrouble } from '../models/index.js';
import type { Outbound } from '../outbound/index.js';
import type { JobStore } from '../queue/job-store.js';
import type { ReferenceUploads } from '../references/uploads.js';
import type { Storage } from '../storage/storage.js';
import { createServiceChecks } from './checks.js';
import { createMaintenance } from './maintenance.js';
import { createProbes, storageRefuses } from './probes.js';
import { createStatusMonitor } from './status-monitor.js';
import { createTroubles, type Troubles } from './troubles.js';

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
  room: RoomWatch;
  outbound: Outbound;
  activeJobs: () => number;
  uploads: ReferenceUploads;
}

/** What keeps an eye on the rest: what is wrong, status, checks, leases of lost runners. */
export function createOperations(config: Config, log: Logger, options: OperationsOptions) {
  const { dataDir, supabaseUrl, supabaseServiceKey } = config;
  const { engines, models } = options;
  const parts = { ...options, videoEncoder: models.videoEncoder, supabaseUrl, supabaseServiceKey };
  const probes = createProbes(parts);
  const troubles: Troubles = createTroubles({
    engines,
    probes,
    known: () => [...troublesOfWorker(config, options), ...monitor.limits()],
  });
  const monitor = createStatusMonitor({ ...options, troubles, dataDir, maxWaiting: config.maxWaitingJobs });
  return {
    monitor,
    troubles,
    validation: createServiceChecks({
      ...parts,
      probes,
      folders: models.folders,
      engineEntry: engineEntry(),
    }),
    maintenance: createMaintenance({
      ...options,
      health: troubles.health,
      leaseMs: config.leaseSeconds * 1000,
      log,
    }),
  };
}

/** What others than the probes found out: why no jobs are taken, and that nobody knows where this worker is. */
function troublesOfWorker(
  config: Config,
  { fitness, storage, room, outbound: { relay, registration } }: OperationsOptions,
): Trouble[] {
  const fault = fitness.fault();
  return [
    pocketTrouble(config),
    relay.refusal(),
    registration.trouble(),
    ...(fault === null ? [] : storageRefuses(storage.kind, fault, room)),
  ].filter((trouble) => trouble !== null);
}
