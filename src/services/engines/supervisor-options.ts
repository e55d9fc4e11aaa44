import type { Logger } from 'pino';
import type { MemoryGate } from '../card/memory-gate.js';
import type { EngineKind, EngineStage, LoadParams } from '../../inference/engine-protocol.js';

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

export const supervisorDefaults = {
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

/** Longest time without any progress event in each stage, milliseconds; `denoise` counts per step. */
export type StageLimits = Record<EngineStage | 'warmUp', number>;

/**
 * Generous on purpose: they catch a hang, they do not police speed. Full-size WAN on a slow card needs
 * minutes for one step, and a cold model folder on a network disk needs minutes to load.
 */
export const defaultStageLimitsMs: StageLimits = {
  waiting: 120_000,
  load: 900_000,
  warmUp: 900_000,
  text: 300_000,
  reference: 300_000,
  denoise: 600_000,
  decode: 600_000,
  encode: 300_000,
};

/**
 * Stages that take as long each time. A text that was encoded before takes no time, and says nothing about a
 * new one.
 */
const repeatable: ReadonlySet<keyof StageLimits> = new Set(['reference', 'denoise', 'decode', 'encode']);
/** A stage that is silent for this many times what it usually takes between two reports hangs. */
const patience = 10;
/** Never less: another process may have the device, the disk or the cores for a while. */
const leastMs = 60_000;

/**
 * The limit for a request whose like has been measured on this machine: `seconds` for the whole stage,
 * reported in `steps` parts. Without a measurement, and never beyond it, the default.
 */
export function measuredLimitMs(
  stage: keyof StageLimits,
  defaultMs: number,
  seconds: number | undefined,
  steps: number,
): number {
  return seconds === undefined || !repeatable.has(stage)
    ? defaultMs
    : Math.min(defaultMs, Math.max(leastMs, (patience * seconds * 1000) / Math.max(1, steps)));
}
