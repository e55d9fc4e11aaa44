import type { EngineErrorBody, EngineErrorCode } from '../../inference/engine-protocol.js';

/**
 * How an engine process ended. `reason` is ours: why the supervisor killed it, null when it went by itself.
 */
export interface EngineExit {
  code: number | null;
  signal: NodeJS.Signals | null;
  reason: string | null;
  /** What it was doing for the oldest request, e.g. `denoise 3/15`; null when idle. */
  lastStage: string | null;
  /** The oldest request's job. */
  jobId: string | null;
  atMs: number;
}

type EngineFailureCode = EngineErrorCode | 'engine_died' | 'engine_unavailable';

/** Codes for which the same request may well succeed on another attempt (perhaps in a fresh process). */
const retryableCodes: ReadonlySet<EngineFailureCode> = new Set([
  'out_of_memory',
  'engine_failed',
  'device_lost',
  'not_loaded',
  'engine_died',
  'engine_unavailable',
]);

/** A request to an engine that did not end in a result: refused by the engine, or lost with its process. */
export class EngineError extends Error {
  readonly retryable: boolean;
  readonly field: string | undefined;
  readonly exit: EngineExit | undefined;
  /**
   * The process ended, but most likely not because of this request: another one was computing, or the end was
   * ordered.
   */
  readonly bystander: boolean;

  constructor(
    readonly code: EngineFailureCode,
    message: string,
    options: { field?: string | undefined; exit?: EngineExit; bystander?: boolean; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'EngineError';
    this.retryable = retryableCodes.has(code);
    this.field = options.field;
    this.exit = options.exit;
    this.bystander = options.bystander ?? false;
  }
}

export function engineErrorFrom(body: EngineErrorBody): EngineError {
  return new EngineError(body.code, body.message, { field: body.field });
}

/** One sentence for people: `was killed (heartbeat lost for 15 s) during denoise 3/15`. */
export function describeExit(exit: EngineExit): string {
  const how =
    exit.reason !== null
      ? `was killed (${exit.reason})`
      : exit.signal !== null
        ? `died from ${exit.signal}`
        : `ended with exit code ${exit.code ?? 'unknown'}`;
  return exit.lastStage === null ? how : `${how} during ${exit.lastStage}`;
}

export function engineDied(kind: string, exit: EngineExit, bystander = false): EngineError {
  return new EngineError('engine_died', `The ${kind} engine ${describeExit(exit)}`, { exit, bystander });
}

/** fork itself fails where memory or descriptors are short. */
export const neverStarted = (why: string): EngineExit => ({
  code: null,
  signal: null,
  reason: why,
  lastStage: null,
  jobId: null,
  atMs: Date.now(),
});

/** A missing or invalid model folder: trying again changes nothing. */
export const isHopeless = (error: EngineError | null): boolean =>
  ['model_missing', 'model_invalid', 'invalid_parameters'].includes(error?.code ?? '');
