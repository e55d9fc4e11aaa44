import { AppError, errors } from '../../lib/errors.js';
import { isJobType, type JobType } from '../catalogue.js';
import { EngineError } from '../engines/engine-error.js';
import type { Reservation } from '../queue/job-store.js';
import { StorageError } from '../storage/storage.js';
import { endWithoutResult, factsWithoutResult, requestOf } from './metadata.js';
import type { PayloadCheck } from './payload.js';
import type { RunnerContext, WriteToStore } from './runner-context.js';

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

/**
 * Ends a reservation that no attempt is made of: its id is another job's, it is no valid job, its payload is
 * gone, or all its attempts are used up.
 */
export function endUnbegun(
  reservation: Reservation,
  checked: PayloadCheck,
  context: RunnerContext,
  write: WriteToStore,
): Promise<void> {
  const { store, log, limits } = context;
  const { lease } = reservation;

  /**
   * A payload with the id of another job: nothing of that job is touched, nor is anything said in its name.
   */
  async function setAside(): Promise<void> {
    const reason = `the id ${lease.writtenId} belongs to another job`;
    log.warn({ job_id: lease.jobId, queue: lease.queue }, 'payload refused: its id belongs to another job');
    context.metrics.invalidPayload(lease.queue);
    await write('dead-letter a payload', () => store.deadLetter(lease, reason));
  }

  /**
   * A payload that is no valid job: dead letter, and a `failed` callback where it has an id that can be read.
   * Only a UUID makes a job with a record.
   */
  async function refuse({ id: readId, summary, known }: Extract<PayloadCheck, { ok: false }>): Promise<void> {
    log.warn({ job_id: readId ?? undefined, reason: summary, queue: lease.queue }, 'payload refused');
    context.metrics.invalidPayload(lease.queue);
    const id = lease.jobId === '' ? readId : lease.jobId;
    const result = id === null ? undefined : failed(id, invalidParameters(summary), reservation.attempt);
    await write('dead-letter a payload', async () => {
      if (id !== null && result !== undefined && lease.jobId !== '')
        return store.deadLetter(lease, summary, { ...result, job: { id, ...known } });
      if (result?.callback !== undefined) await store.outbox.add(result.callback);
      return store.deadLetter(lease, summary);
    });
  }

  /** A job that cannot be tried any more. */
  async function bury(
    job: { id: string; type: JobType; userId: string },
    reason: { type: 'WorkerLost' | 'PayloadLost'; message: string },
    attempts: number,
  ): Promise<void> {
    const message = `Generation failed: ${reason.message}`;
    log.error({ job_id: job.id }, message);
    const result = failed(job.id, { type: reason.type, message }, attempts);
    const written = await write('dead-letter a job', () =>
      store.deadLetter(lease, message, { ...result, job, attempts }),
    );
    if (!written) return;
    context.events.publish(job.id, {
      event: 'state',
      data: { status: 'failed', attempts, assets: [], error_message: message },
    });
    const facts = factsWithoutResult(job, 'failed', reason.type);
    context.metrics.jobFinished(facts);
    context.onFinished(facts);
  }

  function failed(jobId: string, failure: Pick<JobFailure, 'type' | 'message'>, attempts: number) {
    return endWithoutResult('failed', {
      jobId,
      writtenId: lease.writtenId || jobId,
      failure,
      attempts,
      version: context.version,
      callback: context.callback,
      request: requestOf(reservation.read),
    });
  }

  const { read, attempt } = reservation;
  if (reservation.isForeign) return setAside();
  if (read.isGone && isJobType(read.type)) {
    const { id, type, userId } = read;
    const message = 'its payload is gone from the queue';
    return bury({ id, type, userId }, { type: 'PayloadLost', message }, attempt - 1);
  }
  if (!checked.ok) return refuse(checked);
  const { id, type, user_id: userId } = checked.job;
  const { maxAttempts } = limits;
  const message = `the worker was lost in each of ${maxAttempts} attempts`;
  return bury({ id, type, userId }, { type: 'WorkerLost', message }, maxAttempts);
}
