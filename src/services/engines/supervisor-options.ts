import type { Logger } from 'pino';
import type { MemoryGate } from '../card/memory-gate.js';
import type { EngineKind, LoadParams } from '../../inference/engine-protocol.js';
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
