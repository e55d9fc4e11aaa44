import { randomUUID } from 'node:crypto';
import type { Clock } from '../store-suite.js';
import { catalogue, type JobType } from '../../../src/services/catalogue.js';
import type {
  FinishedJob,
  JobRecord,
  JobStore,
  ReserveRequest,
  Reservation,
} from '../../../src/services/queue/job-store.js';
import type { CallbackEvent, OutboxEntry } from '../../../src/services/queue/store-parts.js';

export const leaseMs = 30_000;
export const userId = '5b0f7a52-6f0c-4f2b-9a3c-0d9f2f6a1b11';

export interface SomeJob {
  id: string;
  type: JobType;
  userId: string;
}
export const someJob = (type: JobType = 'sdxl_image_fast'): SomeJob => ({ id: randomUUID(), type, userId });
export const payloadOf = (job: SomeJob) =>
  JSON.stringify({
    id: job.id,
    type: job.type,
    prompt: 'a red circle',
    user_id: job.userId,
    config: { seed: 1 },
  });

export async function submit(store: JobStore, job: SomeJob = someJob()): Promise<SomeJob> {
  await store.submit({ queue: catalogue[job.type].queue, payload: payloadOf(job), job });
  return job;
}

export async function reserve(store: JobStore, options: Partial<ReserveRequest> = {}): Promise<Reservation> {
  const reservation = await tryReserve(store, options);
  if (reservation === null) throw new Error('the queue was expected to hold a job');
  return reservation;
}
export const tryReserve = (store: JobStore, options: Partial<ReserveRequest> = {}) =>
  store.reserve({ queue: 'sdxl_queue', workerId: 'worker-1', leaseMs, ...options });

/** Reserves the next job and begins it. */
export async function start(store: JobStore, job: SomeJob, callback?: OutboxEntry): Promise<Reservation> {
  const reservation = await reserve(store);
  const begun = await store.begin(reservation.lease, job, callback);
  if (begun !== 'begun') throw new Error(`the job was expected to begin, not: ${begun}`);
  return reservation;
}

export function callbackOf(
  clock: Clock,
  jobId: string,
  event: CallbackEvent,
  change: Partial<OutboxEntry> = {},
): OutboxEntry {
  return {
    id: `${jobId}:${event}`,
    jobId,
    event,
    url: 'http://127.0.0.1/callback',
    body: JSON.stringify({ job_id: jobId, status: event, text: 'ä\u0000"' }),
    createdAtMs: clock.now(),
    nextAttemptAtMs: clock.now(),
    attempts: 0,
    ...change,
  };
}

export const completed = (clock: Clock, jobId: string): FinishedJob => ({
  status: 'completed',
  assets: [`${userId}/${jobId}/0.png`],
  metadata: { seed: 1, nothing: [] },
  callback: callbackOf(clock, jobId, 'completed'),
});
export const failed = (clock: Clock, jobId: string): FinishedJob => ({
  status: 'failed',
  assets: [],
  errorMessage: 'Generation failed: test',
  metadata: { error_type: 'Test' },
  callback: callbackOf(clock, jobId, 'failed'),
});
export const cancelled =
  (clock: Clock) =>
  (record: JobRecord): FinishedJob => ({
    status: 'cancelled',
    assets: [],
    errorMessage: 'Cancelled',
    metadata: { error_type: 'Cancelled' },
    callback: callbackOf(clock, record.id, 'failed'),
  });

/** Ids of what a relay gets now. */
export const claimed = async (store: JobStore, limit = 100) =>
  (await store.outbox.claimDue('relay-1', limit, 10_000)).map((entry) => entry.id);
