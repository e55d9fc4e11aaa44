import type { Trouble } from '../../lib/errors.js';
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
  /** When it starts again by itself; null when it runs, or only starts when somebody asks. */
  nextStartAtMs: number | null;
  /** What it said of its last start, which failed; null when it did not fail, or ended without a word. */
  loadProblem: string | null;
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

/** `unhealthy`: no engine that draws is left. `degraded`: something is wrong with one, or with the worker itself. */
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

const isSilent = ({ silentMs, state }: EngineStatus): boolean =>
  silentMs !== null && silentMs > silenceMs && state !== 'starting';

/**
 * What is wrong with an engine, in words; null when nothing is. Busy, resting or in its first start is not
 * wrong.
 */
export function troubleOf(status: EngineStatus): string | null {
  const { kind, state, lastOperation } = status;
  if (isDown(status)) return `the ${describeState(status)}`;
  if (status.recovering) return `the ${describeState(status)} after a failure`;
  if (isSilent(status))
    return `the ${kind} engine has not responded for ${Math.round((status.silentMs ?? 0) / 1000)} s`;
  if (lastOperation?.ok === false && state !== 'stopped') return `the last run of the ${kind} engine failed`;
  return null;
}

/** Those that draw, as far as they are here. */
export const drawingEngines = (engines: Pick<EnginesView, 'has' | 'status'>): EngineStatus[] =>
  generationEngines.filter((kind) => engines.has(kind)).map((kind) => engines.status(kind));

/** What is wrong with the engines, each with its real reason. Without one that can draw it is critical. */
export function engineTroubles(engines: Pick<EnginesView, 'has' | 'status'>): Trouble[] {
  const drawing = drawingEngines(engines);
  const none: Trouble[] = [];
  if (drawing.length === 0) {
    const reasons = generationEngines.map(
      (kind) => engines.status(kind).reason ?? `there is no ${kind} engine`,
    );
    none.push({
      code: 'no_engine',
      severity: 'critical',
      what: 'There is no engine that draws',
      cause: reasons.join('; '),
      cure: 'Point MODELS_DIR at a folder with the layout of docs/models.md, or unset it to use the pocket models.',
    });
  }
  const isLost = !drawing.some((status) => isAble(status) || (!isUp(status) && troubleOf(status) === null));
  const all = engines.has('qwen') ? [...drawing, engines.status('qwen')] : drawing;
  const ofEngines = all.flatMap((status): Trouble[] => {
    const what = troubleOf(status);
    if (what === null) return [];
    const { kind, nextStartAtMs } = status;
    return [
      {
        ...explain(status),
        target: kind,
        severity: isLost && kind !== 'qwen' ? 'critical' : 'error',
        what: what.replace(/^t/, 'T'),
        nextTryAtMs: nextStartAtMs,
      },
    ];
  });
  return [...none, ...ofEngines];
}

function explain(status: EngineStatus): Pick<Trouble, 'code' | 'cause' | 'cure'> {
  const { kind, state, lastOperation, loadProblem, lastExit, reason, pid } = status;
  const restart = `"ourvidz engine restart ${kind}" (POST /worker/restart/${kind})`;
  const logs = `GET /worker/${kind}/logs`;
  if (isSilent(status))
    return {
      code: 'engine_frozen',
      cause: `its process (${pid}) gives no sign of life: it was stopped (SIGSTOP, a debugger), or gets no time`,
      cure: `Continue it (kill -CONT ${pid}), or use ${restart}. If it stays silent it is replaced by itself.`,
    };
  if (!isDown(status) && !status.recovering)
    return {
      code: 'engine_failing',
      cause: lastOperation?.message ?? 'no reason is known',
      cure: `Its next job shows whether it works again. If not: read ${logs}, then use ${restart}.`,
    };
  const cause = (state === 'failed' ? reason : (lastExit?.reason ?? reason)) ?? 'no reason is known';
  if (loadProblem === null)
    return state === 'failed'
      ? { code: 'engine_failed', cause, cure: `Read ${logs}, cure what it names, then use ${restart}.` }
      : { code: 'engine_crashing', cause, cure: `It starts again by itself. If it goes on, read ${logs}.` };
  return /cuda|webgpu|execution provider|libcu/i.test(loadProblem)
    ? {
        code: 'device_missing',
        cause,
        cure: `Install what it names (NVIDIA: "ourvidz setup cuda") or set ORT_DEVICE=auto, then ${restart}.`,
      }
    : {
        code: 'model_unusable',
        cause,
        cure: `Ask "ourvidz models verify", bring the file again ("ourvidz models pull"), then ${restart}.`,
      };
}
