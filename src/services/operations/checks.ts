import { request } from 'undici';
import {
  checkCardPlan,
  checkDataFolder,
  checkEntryPoints,
  checkFfmpeg,
  checkGpu,
  checkNativeRuntimes,
  checkPackages,
  checkServer,
} from './machine-checks.js';
import { userAgent } from '../../lib/project.js';
import { keyTrouble } from '../../lib/supabase.js';
import { checkEngines, checkModelFolder, checkQwenFolder } from './model-checks.js';
import { type Check, createValidation, type Finding, type NamedCheck } from './validation.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import type { Engines } from '../engines/engines.js';
import type { ModelFolder } from '../models/model-folders.js';
import type { VideoEncoder } from '../../lib/video-tools.js';
import type { JobStore } from '../queue/job-store.js';
import type { Storage } from '../storage/storage.js';
import type { EngineKind } from '../../inference/engine-protocol.js';

interface ServiceChecksOptions {
  dataDir: string;
  gpu: GpuMonitor;
  folders: Record<EngineKind, ModelFolder>;
  engineEntry: string;
  videoEncoder: Pick<VideoEncoder, 'find'>;
  /** Absent where opening it is not for whoever asks: an embedded queue belongs to one process. */
  store?: Pick<JobStore, 'kind' | 'ping'>;
  storage: Pick<Storage, 'kind' | 'ping' | 'inspect'>;
  /** Callbacks and registration go there, wherever files go. */
  supabaseUrl?: string | undefined;
  supabaseServiceKey?: string | undefined;
  /** Absent when no service runs: nothing is loaded then. */
  engines?: Pick<Engines, 'has' | 'status'>;
}

/** Loading native code from a cold disk, with every core computing. */
const loadingMs = 60_000;

/** What `GET /worker/validate` and `ourvidz doctor` look at, for the parts a service is built from. */
export function createServiceChecks({
  dataDir,
  gpu,
  folders,
  engineEntry,
  videoEncoder,
  store,
  storage,
  supabaseUrl,
  supabaseServiceKey,
  engines,
}: ServiceChecksOptions) {
  const checks: NamedCheck[] = [
    { name: 'environment_variables', subject: 'DATA_DIR', run: checkDataFolder(dataDir) },
    { name: 'gpu_availability', subject: 'gpu', run: checkGpu(gpu) },
    { name: 'gpu_availability', subject: 'models on this card', run: checkCardPlan(gpu, folders) },
    {
      name: 'python_dependencies',
      subject: 'packages',
      run: checkPackages(['onnxruntime-node', 'sharp', 'node-llama-cpp']),
    },
    { name: 'worker_scripts', subject: 'engine processes', run: checkEntryPoints([engineEntry]) },
    {
      name: 'python_dependencies',
      subject: 'native runtimes',
      run: checkNativeRuntimes(),
      timeoutMs: loadingMs,
    },
    { name: 'python_dependencies', subject: 'ffmpeg', run: checkFfmpeg(videoEncoder) },
    ...(store === undefined ? [] : [checkStore(store)]),
    { name: 'environment_variables', subject: `${storage.kind} storage`, run: checkStorage(storage) },
    ...(supabaseServiceKey === undefined
      ? []
      : [
          {
            name: 'environment_variables' as const,
            subject: 'supabase key',
            run: checkServiceKey(supabaseServiceKey),
          },
        ]),
    ...(supabaseUrl === undefined || storage.kind === 'supabase'
      ? []
      : [
          {
            name: 'environment_variables' as const,
            subject: 'supabase',
            run: checkServer(
              'supabase',
              (signal) => reach(supabaseUrl, signal),
              'Check that SUPABASE_URL is right and this machine reaches it.',
            ),
          },
        ]),
    {
      name: 'model_paths',
      subject: 'sdxl',
      run:
        folders.sdxl.dir === null
          ? missingFolder('sdxl', folders.sdxl.reason, 'error')
          : checkModelFolder('sdxl', folders.sdxl.dir),
    },
    {
      name: 'model_paths',
      subject: 'wan',
      run:
        folders.wan.dir === null
          ? missingFolder('wan', folders.wan.reason, 'warning')
          : checkModelFolder('wan', folders.wan.dir),
    },
    {
      name: 'model_paths',
      subject: 'qwen',
      run:
        folders.qwen.dir === null
          ? missingFolder('qwen', folders.qwen.reason, 'warning')
          : checkQwenFolder(folders.qwen.dir, folders.qwen.completionDir),
    },
    ...(engines === undefined
      ? []
      : [{ name: 'model_paths' as const, subject: 'engines', run: checkEngines(engines) }]),
  ];
  return createValidation({ checks });
}

/** Any answer will do: what stands there checks keys by itself. */
async function reach(url: string, signal: AbortSignal): Promise<void> {
  const response = await request(url, { signal, headers: { 'user-agent': userAgent() } });
  await response.body.dump();
  if (response.statusCode >= 500) throw new Error(`answers ${response.statusCode}`);
}

/** Whether files can be stored, by storing one; then how it is set up. */
function checkStorage(storage: Pick<Storage, 'kind' | 'ping' | 'inspect'>): Check {
  const isSupabase = storage.kind === 'supabase';
  const subject = isSupabase ? 'supabase storage' : 'storage';
  const cure = isSupabase
    ? 'Check that SUPABASE_URL and SUPABASE_SERVICE_KEY are right.'
    : 'Check that DATA_DIR can be written.';
  const write = checkServer(subject, (signal) => storage.ping(signal), cure);
  return async (signal) => {
    const findings = await write(signal);
    if (findings.some(({ severity }) => severity === 'error')) return findings;
    const problems = (await storage.inspect?.(signal)) ?? [];
    return [
      ...findings,
      ...problems.map((message): Finding => {
        const settings = 'Make it public in Supabase, or set ASSET_URLS to signed.';
        return { check: 'environment_variables', subject, severity: 'error', message, cure: settings };
      }),
    ];
  };
}

function checkServiceKey(key: string): Check {
  const common = { check: 'environment_variables', subject: 'supabase key' } as const;
  return async () => {
    const trouble = keyTrouble(key);
    if (trouble === null) return [{ ...common, severity: 'ok', message: 'nothing it says is against it' }];
    const cure = 'Set SUPABASE_SERVICE_KEY to the secret or service_role key of the project.';
    return [{ ...common, ...trouble, cure }];
  };
}

function checkStore(store: Pick<JobStore, 'kind' | 'ping'>): NamedCheck {
  const redis = store.kind === 'redis';
  return {
    name: 'environment_variables',
    subject: `${store.kind} queue`,
    run: checkServer(
      redis ? 'redis' : 'queue',
      () => store.ping(),
      redis
        ? 'Check that REDIS_URL is right and the server is running.'
        : 'Check that DATA_DIR can be written.',
    ),
  };
}

/** Without SDXL there is nothing to draw with; WAN and Qwen are extras that some installations leave out. */
function missingFolder(engine: EngineKind, reason: string, severity: 'warning' | 'error'): Check {
  const finding: Finding = {
    check: 'model_paths',
    subject: engine,
    severity,
    message: reason,
    cure: 'Point MODELS_DIR at a folder with the layout of docs/models.md, or unset it to use the pocket models.',
  };
  return () => Promise.resolve([finding]);
}
