import type { EngineKind } from '../inference/engine-protocol.js';
import type { GpuMonitor } from './gpu/gpu-monitor.js';
import type { ModelFolder } from './model-folders.js';
import type { JobStore } from './queue/types.js';
import type { Storage } from './storage/types.js';
import { checkDataFolder, checkEntryPoints, checkGpu, checkPackages, checkServer } from './validation/checks.js';
import { checkModelFolder } from './validation/model-folder.js';
import type { Check, CheckName, Finding } from './validation/types.js';
import { createValidation } from './validation/validation.js';

export interface ServiceChecksOptions {
  dataDir: string;
  gpu: GpuMonitor;
  folders: Record<EngineKind, ModelFolder>;
  engineEntry: string;
  store: Pick<JobStore, 'kind' | 'ping'>;
  storage: Pick<Storage, 'kind' | 'ping'>;
}

/** What `GET /worker/validate` looks at, for the parts this service was built from. */
export function createServiceChecks({ dataDir, gpu, folders, engineEntry, store, storage }: ServiceChecksOptions) {
  const checks: Array<{ name: CheckName; subject: string; run: Check }> = [
    { name: 'environment_variables', subject: 'DATA_DIR', run: checkDataFolder(dataDir) },
    { name: 'gpu_availability', subject: 'gpu', run: checkGpu(gpu) },
    { name: 'python_dependencies', subject: 'packages', run: checkPackages(['onnxruntime-node', 'sharp', 'node-llama-cpp']) },
    { name: 'worker_scripts', subject: 'engine processes', run: checkEntryPoints([engineEntry]) },
    {
      name: 'environment_variables', subject: `${store.kind} queue`,
      run: checkServer(store.kind === 'redis' ? 'redis' : 'queue', () => store.ping(), store.kind === 'redis' ? 'See that REDIS_URL is right and the server runs.' : 'See that DATA_DIR can be written.'),
    },
    {
      name: 'environment_variables', subject: `${storage.kind} storage`,
      run: checkServer(storage.kind === 'supabase' ? 'supabase storage' : 'storage', (signal) => storage.ping(signal), storage.kind === 'supabase' ? 'See that SUPABASE_URL and SUPABASE_SERVICE_KEY are right.' : 'See that DATA_DIR can be written.'),
    },
    { name: 'model_paths', subject: 'sdxl', run: folders.sdxl.dir === null ? missingFolder(folders.sdxl.reason) : checkModelFolder('sdxl', folders.sdxl.dir) },
  ];
  return createValidation({ checks });
}

function missingFolder(reason: string): Check {
  const finding: Finding = { check: 'model_paths', subject: 'sdxl', severity: 'error', message: reason, cure: 'Point MODELS_DIR at a folder with the layout of docs/models.md, or unset it to use the pocket models.' };
  return () => Promise.resolve([finding]);
}
