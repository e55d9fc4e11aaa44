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
