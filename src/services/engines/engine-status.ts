import type { EngineKind, LoadResult, MemoryReport } from '../../inference/engine-protocol.js';
import type { DescribePromptParams, DescribePromptResult } from '../../inference/generation.js';

export type EngineState =
  | 'stopped'
  | 'starting'
  | 'warming'
  | 'ready'
  | 'busy'
  | 'draining'
  | 'restarting'
  | 'backing_off'
  | 'failed';

const stateWords: Partial<Record<EngineState, string>> = {
  warming: 'is warming up',
  draining: 'is finishing its requests',
  backing_off: 'failed and waits before its next start',
  failed: 'has failed',
};

/** `sdxl engine is starting` */
export const describeState = ({ kind, state }: Pick<EngineStatus, 'kind' | 'state'>): string =>
  `${kind} engine ${stateWords[state] ?? `is ${state}`}`;

export interface EngineStatus {
  kind: EngineKind;
  state: EngineState;
  pid: number | null;
  uptimeSeconds: number;
  jobsProcessed: number;
  lastJobAtMs: number | null;
  errorCount: number;
  restarts: number;
  loaded: LoadResult | null;
  memory: MemoryReport | null;
  /** Why it is not ready, for people. */
  reason: string | null;
  /** `stopped` until a request needs it: that is no trouble. */
  resting: boolean;
  /** Its last run, warm-up included; null before the first. */
  lastOperation: EngineOperation | null;
  /** Jobs that ended in an error of the engine or its device since one succeeded. */
  failuresInRow: number;
  /** Since its last heartbeat; null without a process. */
  silentMs: number | null;
  /** On its way back from an end nobody asked for. */
  recovering: boolean;
  lastExit: EngineEnd | null;
}

export interface EngineOperation {
  ok: boolean;
  atMs: number;
  message: string | null;
}

/** How a process ended that nobody had ordered to. */
export interface EngineEnd {
  atMs: number;
  reason: string;
  exitCode: number | null;
  signal: string | null;
  stage: string | null;
}

export interface EnginesView {
  status(kind: EngineKind): EngineStatus;
  statuses(): EngineStatus[];
  /** False for an engine this service does not have; its status says why. */
  has(kind: EngineKind): boolean;
  /**
   * Ends the process (after its job, unless forced) and starts a new one. Resolves when the restart has
   * begun.
   */
  restart(kind: EngineKind, options: { force: boolean }): Promise<void>;
  describePrompt(params: DescribePromptParams, signal: AbortSignal): Promise<DescribePromptResult>;
  /** Last log lines of the engine process, newest last. */
  logs(kind: EngineKind): string[];
}

export type Health = 'healthy' | 'degraded' | 'unhealthy';

/** Engines that draw; without Qwen prompts are used as they come. */
export const generationEngines = ['sdxl', 'wan'] as const;
const upStates: ReadonlySet<EngineStatus['state']> = new Set(['ready', 'busy', 'draining']);
/** A heartbeat is due every second, however long a computation takes. */
const silenceMs = 5000;

/** Works, or will with its next request. */
export const isUp = ({ state, resting }: EngineStatus): boolean => resting || upStates.has(state);
/** Given up for now. */
export const isDown = ({ state }: EngineStatus): boolean => state === 'failed' || state === 'backing_off';
/** Up, with nothing against it. */
export const isAble = (status: EngineStatus): boolean => isUp(status) && troubleOf(status) === null;

/**
 * Its first start, which ends with the warm-up's computing, is behind it; a memory budget that swaps models
 * may load it many times.
 */
export const hasComputed = ({ lastOperation }: EngineStatus): boolean => lastOperation !== null;

/**
 * What is wrong with an engine, in words; null when nothing is. Busy, resting or in its first start is not
 * wrong.
 */
export function troubleOf(status: EngineStatus): string | null {
  const { kind, state, lastOperation, silentMs } = status;
  if (isDown(status)) return `the ${describeState(status)}`;
  if (status.recovering) return `the ${describeState(status)} after a failure`;
  if (silentMs !== null && silentMs > silenceMs && state !== 'starting')
    return `the ${kind} engine has not responded for ${Math.round(silentMs / 1000)} s`;
  if (lastOperation?.ok === false && state !== 'stopped') return `the last run of the ${kind} engine failed`;
  return null;
}

/**
 * `unhealthy`: no engine that draws is left. `degraded`: something is wrong with one, or with the worker
 * itself (`faults`).
 */
export function healthOf(
  engines: Pick<EnginesView, 'has' | 'status'>,
  faults: readonly string[] = [],
): Health {
  const drawing = generationEngines.filter((kind) => engines.has(kind)).map((kind) => engines.status(kind));
  if (drawing.length > 0 && drawing.every(isDown)) return 'unhealthy';
  const all = engines.has('qwen') ? [...drawing, engines.status('qwen')] : drawing;
  const isWell = faults.length === 0 && all.every((status) => troubleOf(status) === null);
  return isWell ? 'healthy' : 'degraded';
}
