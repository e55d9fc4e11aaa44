import { isJobType, type JobType } from '../catalogue.js';
import type { Reservation } from '../queue/job-store.js';
import { invalidParameters, type JobFailure } from './failure.js';
import { endWithoutResult, factsWithoutResult, requestOf } from './metadata.js';
import type { RunnerContext, WriteToStore } from './runner-context.js';
import type { PayloadCheck } from './payload.js';

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
