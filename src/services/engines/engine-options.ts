import type { Logger } from 'pino';
import type { Config } from '../../config.js';
import type { EngineKind, LoadParams } from '../../inference/engine-protocol.js';
import { cudaEnvironment, findCudaRuntime } from '../../lib/cuda-runtime.js';
import { ownFile } from '../../lib/processes.js';
import { gibibyte } from '../../lib/units.js';
import type { ModelFolder } from '../models/model-folders.js';
import type { MemoryGate } from '../card/device-memory.js';
import { defaultStageLimitsMs, type StageLimits } from './watchdog.js';

export interface SupervisorOptions {
  kind: EngineKind;
  entry: string;
  env: NodeJS.ProcessEnv;
  execArgv?: string[];
  log: Logger;
  load: LoadParams;
  /** Lazy engines start with their first request. */
  lazy?: boolean;
  warmUp?: boolean;
  /** Asked before the model is loaded and before a job computes; absent: there is room for everybody. */
  memory?: MemoryGate;
  /** First delay after a failure; doubles up to the cap. Defaults: 10 s for sdxl, 15 s for wan and qwen. */
  restartBaseMs?: number;
  restartMaxMs?: number;
  /** Share of the delay that is random. */
  restartJitter?: number;
  /** Ready for this long, or one request answered: the failures before are forgotten. */
  stablePeriodMs?: number;
  /** Failed starts in a row after which the engine is `failed`. */
  maxFailedStarts?: number;
  /** A `failed` engine is tried again after this long without anyone asking; 0 for never. */
  failedRetryMs?: number;
  /** Fresh process after this many jobs, 0 for never; it frees what native code leaked. */
  recycleAfterJobs?: number;
  /** Fresh process once its resident memory has grown by this since it was ready, 0 for never. */
  recycleGrowthBytes?: number;
  /**
   * Fresh process after this many jobs in a row that ended in an error of the engine, 0 for never: some
   * devices stay broken until then.
   */
  recycleAfterFailures?: number;
  memoryIntervalMs?: number;
  helloTimeoutMs?: number;
  heartbeatTimeoutMs?: number;
  cancelGraceMs?: number;
  stageLimitsMs?: Partial<StageLimits>;
}

const defaults = {
  lazy: false,
  warmUp: true,
  restartMaxMs: 300_000,
  restartJitter: 0.2,
  stablePeriodMs: 120_000,
  maxFailedStarts: 5,
  failedRetryMs: 600_000,
  recycleAfterJobs: 0,
  recycleGrowthBytes: 0,
  recycleAfterFailures: 3,
  memoryIntervalMs: 30_000,
  helloTimeoutMs: 60_000,
  heartbeatTimeoutMs: 20_000,
  cancelGraceMs: 60_000,
};

export const settingsOf = (options: SupervisorOptions) => ({
  ...defaults,
  restartBaseMs: options.kind === 'sdxl' ? 10_000 : 15_000,
  ...options,
  stageLimitsMs: { ...defaultStageLimitsMs, ...options.stageLimitsMs },
});

/** Entry of the engine processes. */
export const engineEntry = (): string => ownFile('src/inference/engine-main');

interface EngineSetup {
  folders: Record<EngineKind, ModelFolder>;
  /** The service's environment; engines get the part of it that native runtimes read. */
  environment: NodeJS.ProcessEnv;
  /** Entry of the engine processes, when it is not the service's own. */
  entry?: string | undefined;
  /** Settings of single engines in place of the defaults (timeouts, restart delays). */
  overrides?: Partial<Record<EngineKind, Partial<SupervisorOptions>>> | undefined;
}

export const enhancementOff = 'Enhancement is switched off on this instance (ENHANCE=off)';

/** The engines whose models are here, in start order, and why the others are not. */
export function engineOptions(
  config: Config,
  log: Logger,
  { folders, environment, entry = engineEntry(), overrides = {} }: EngineSetup,
): { engines: SupervisorOptions[]; absent: Partial<Record<EngineKind, string>> } {
  const engines: SupervisorOptions[] = [];
  const cuda = cudaEnvironment(findCudaRuntime(config.cudaDir), environment);
  const absent: Partial<Record<EngineKind, string>> = {};
  for (const kind of ['sdxl', 'wan', 'qwen'] as const) {
    const folder = folders[kind];
    if (kind === 'qwen' && !config.enhance) absent[kind] = enhancementOff;
    else if (folder.dir === null) absent[kind] = folder.reason;
    else
      engines.push({
        kind,
        entry,
        env: { ...engineEnvironment(environment), ...cuda },
        log: log.child({ worker: kind }),
        // Qwen starts with its first prompt.
        lazy: kind === 'qwen',
        load: loadOf(kind, folder, config),
        recycleAfterJobs: config.engineRecycleJobs,
        recycleGrowthBytes: config.engineRecycleGrowthGigabytes * gibibyte,
        ...overrides[kind],
      });
  }
  return { engines, absent };
}

function loadOf(kind: EngineKind, folder: ModelFolder & { dir: string }, config: Config): LoadParams {
  const { ortDevice: device, ortThreads: threads } = config;
  const load = { modelDir: folder.dir, device, threads };
  if (kind === 'sdxl') return { ...load, options: { longPrompts: config.sdxlLongPrompts } };
  if (kind === 'wan')
    return config.ffmpeg === undefined ? load : { ...load, options: { ffmpeg: config.ffmpeg } };
  return {
    ...load,
    threads: config.enhanceThreads,
    options: {
      sequences: config.enhanceConcurrency,
      contextTokens: config.enhanceContextTokens,
      ...(folder.completionDir === undefined ? {} : { completionDir: folder.completionDir }),
    },
  };
}

/**
 * What native runtimes and the loader read; everything else of the service's environment, its secrets above
 * all, stays out.
 */
const passedOn = [
  /^PATH$/,
  /^HOME$/,
  /^USER$/,
  /^LANG$/,
  /^LC_/,
  /^TZ$/,
  /^TMPDIR$/,
  /^XDG_/,
  /^LD_LIBRARY_PATH$/,
  /^LD_PRELOAD$/,
  /^CUDA_/,
  /^NVIDIA_/,
  /^CUDNN_/,
  /^VK_/,
  /^HIP_/,
  /^ROCM_/,
  /^GGML_/,
  /^OMP_/,
  /^MALLOC_/,
  /^NODE_OPTIONS$/,
  /^NODE_EXTRA_CA_CERTS$/,
  /^HF_HOME$/,
];

/** The environment of an engine process, picked from the service's. */
export function engineEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return {
    // the numbers of nvidia-smi: by default CUDA's own begin with the fastest card
    CUDA_DEVICE_ORDER: 'PCI_BUS_ID',
    ...Object.fromEntries(
      Object.entries(environment).filter(([name]) => passedOn.some((pattern) => pattern.test(name))),
    ),
  };
}
