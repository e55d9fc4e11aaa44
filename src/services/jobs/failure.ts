import { AppError, errors } from '../../lib/errors.js';
import { EngineError } from '../engines/engine-error.js';
import { StorageError } from '../storage/storage.js';

/** Why a running attempt was stopped from outside; the abort reason of its signal. */
export class JobInterrupt extends Error {
  constructor(readonly kind: 'cancelled' | 'lease_lost' | 'shutdown' | 'unfit') {
    super(`job interrupted: ${kind}`);
    this.name = 'JobInterrupt';
  }
}

/** This machine lacks what the job needs; another attempt here would end the same. */
export class NotPossibleHere extends Error {}

export type ErrorType =
  | 'InvalidParameters'
  | 'OutOfMemory'
  | 'GenerationFailed'
  | 'StorageFailed'
  | 'WorkerLost'
  | 'PayloadLost'
  | 'Cancelled';

export interface JobFailure {
  /** `error_type` of the callback. */
  type: ErrorType;
  /** `error_message` of the callback: one of the contract's three forms. */
  message: string;
  /** Another attempt may succeed. */
  retryable: boolean;
}

export const cancelledFailure: JobFailure = {
  type: 'Cancelled',
  message: 'Generation failed: cancelled on request',
  retryable: false,
};

export function invalidParameters(summary: string): JobFailure {
  return { type: 'InvalidParameters', message: `Invalid parameters: ${summary}`, retryable: false };
}

/** What is wrong with the request itself; whatever else an attempt meets, another one may be spared. */
const requestFaults: ReadonlySet<string> = new Set([
  errors.invalidParameters.code,
  errors.promptRejected.code,
]);

/** Maps whatever an attempt threw to what the contract says of it. */
export function failureFrom(error: unknown): JobFailure {
  if (error instanceof EngineError) {
    if (error.code === 'out_of_memory')
      return { type: 'OutOfMemory', message: 'Insufficient VRAM for generation', retryable: true };
    if (error.code === 'invalid_parameters')
      return invalidParameters(
        error.field === undefined ? error.message : naming(error.field, error.message),
      );
    return generationFailed(error.message, error.retryable);
  }
  if (error instanceof AppError && requestFaults.has(error.code)) {
    const detail = error.details[0];
    if (detail === undefined) return invalidParameters(error.message.replace(/^Invalid parameters: /, ''));
    return invalidParameters(naming(detail.field, detail.message));
  }
  if (error instanceof StorageError)
    return {
      type: 'StorageFailed',
      message: `Generation failed: storage: ${error.message}`,
      retryable: error.retryable,
    };
  return generationFailed(
    error instanceof Error ? error.message : String(error),
    !(error instanceof NotPossibleHere),
  );
}

/** The message with the field it is about, which some messages begin with already. */
function naming(field: string, message: string): string {
  return message.includes(field) ? message : `${field} ${message}`;
}

function generationFailed(message: string, retryable: boolean): JobFailure {
  return { type: 'GenerationFailed', message: `Generation failed: ${message}`, retryable };
}
