import type { Logger } from 'pino';
import type { Config } from '../../config.js';
import type { EngineKind, LoadParams } from '../../inference/engine-protocol.js';
import { ownFile } from '../../lib/processes.js';
import { gibibyte } from '../../lib/units.js';
import type { ModelFolder } from '../models/model-folders.js';
import { engineEnvironment } from './child-environment.js';
import type { SupervisorOptions } from './supervisor-options.js';

/** Entry of the engine processes. */
export const engineEntry = (): string => ownFile('src/inference/engine-main');

export interface EngineSetup {
  folders: Record<EngineKind, ModelFolder>;
  /** The service's environment; engines get the part of it that native runtimes read. */
  environment: NodeJS.ProcessEnv;
  /** Entry of the engine processes, when it is not the service's own. */
  entry?: string | undefined;
  /** Settings of single engines in place of the defaults (timeouts, restart delays). */
  overrides?: Partial<Record<EngineKind, Partial<SupervisorOptions>>> | undefined;
}

/** The engines whose models are here, in start order, and why the others are not. */
export function engineOptions(
  config: Config,
  log: Logger,
  { folders, environment, entry = engineEntry(), overrides = {} }: EngineSetup,
): { engines: SupervisorOptions[]; absent: Partial<Record<EngineKind, string>> } {
  const engines: SupervisorOptions[] = [];
  const absent: Partial<Record<EngineKind, string>> = {};
  for (const kind of ['sdxl', 'wan', 'qwen'] as const) {
    const folder = folders[kind];
    if (folder.dir === null) absent[kind] = folder.reason;
    else
      engines.push({
        kind,
        entry,
        env: engineEnvironment(environment),
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
