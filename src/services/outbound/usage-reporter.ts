import type { Logger } from 'pino';
import type { CallbackSender, Delivery } from './sender.js';
import type { JobType } from '../catalogue.js';
import { retry, type BackoffOptions } from '../../lib/retry.js';
import { wait } from '../../lib/wait.js';
import { gigabytes, rounded } from '../../lib/units.js';

/** What a finished job leaves for the usage records and metrics. */
export interface FinishedJobFacts {
  job: { id: string; type: JobType; userId: string };
  outcome: 'completed' | 'failed' | 'cancelled';
  /** `error_type`, or `completed`. */
  reason: string;
  generationSeconds: number;
  assets: number;
  totalBytes: number;
  deviceBytes: number | null;
  stageSeconds: Record<string, number>;
}

export interface UsageReporterOptions {
  url: string;
  sender: CallbackSender;
  workerId: string;
  log: Logger;
  backoff?: BackoffOptions;
  maxAttempts?: number;
  /** Records kept while the endpoint does not answer; beyond that the oldest are dropped. */
  maxWaiting?: number;
  now?: () => number;
}

class NotDelivered extends Error {
  constructor(readonly delivery: Exclude<Delivery, { outcome: 'accepted' }>) {
    super(delivery.reason);
  }
}

export type UsageReporter = ReturnType<typeof createUsageReporter>;

interface WaitingRecord {
  id: string;
  url: string;
  body: string;
}

/** A record that its receiver refuses does not hold up the others. */
function mayPass(delivery: NotDelivered['delivery']): boolean {
  if (delivery.outcome === 'refused') return false;
  const { status = 500 } = delivery;
  return status < 400 || status >= 500 || [408, 425, 429].includes(status);
}

/**
 * Sends the usage records of finished jobs, one at a time, in the background. Best effort with retries: what
 * matters of a job is in its record and its callback, so statistics never take a place in the outbox and
 * never hold a job up. Lost with the process.
 */
export function createUsageReporter({
  url,
  sender,
  workerId,
  log,
  backoff = { baseMs: 1000, maxMs: 60_000, jitter: 0.3 },
  maxAttempts = 12,
  maxWaiting = 2000,
  now = Date.now,
}: UsageReporterOptions) {
  const waiting: WaitingRecord[] = [];
  const stopping = new AbortController();
  let dropped = 0;
  let sending: Promise<void> | null = null;

  async function send(record: WaitingRecord): Promise<void> {
    const attempt = async () => {
      const delivery = await sender.send(record);
      if (delivery.outcome !== 'accepted') throw new NotDelivered(delivery);
    };
    await retry(attempt, {
      backoff,
      attempts: maxAttempts,
      signal: stopping.signal,
      isRetryable: (error) => !(error instanceof NotDelivered) || mayPass(error.delivery),
      afterMs: (error) =>
        error instanceof NotDelivered && error.delivery.outcome === 'again'
          ? (error.delivery.afterMs ?? 0)
          : 0,
    }).catch((error: unknown) => {
      stopping.signal.throwIfAborted();
      dropped += 1;
      log.warn({ record: record.id, reason: (error as Error).message, dropped }, 'usage record dropped');
    });
  }

  async function sendAll(): Promise<void> {
    for (let record = waiting[0]; record !== undefined; record = waiting[0]) {
      await send(record);
      if (waiting[0] === record) waiting.shift();
    }
  }

  /** After what is on its way now; an endpoint that never answers may hold that up beyond the grace. */
  async function sendOnceMore(grace: AbortSignal): Promise<void> {
    await sending;
    if (grace.aborted) return;
    start();
    await sending;
  }

  function start(): void {
    sending ??= sendAll()
      .catch(() => {})
      .finally(() => {
        sending = null;
      });
  }

  return {
    /** Never throws, never waits. */
    report(facts: FinishedJobFacts): void {
      for (const { id, record } of buildUsageRecords(facts, { workerId, atMs: now() })) {
        if (waiting.length >= maxWaiting) {
          // The first one may be on its way.
          waiting.splice(1, 1);
          dropped += 1;
          if (dropped % 100 === 1)
            log.warn({ dropped }, 'the usage endpoint does not answer; the oldest records are dropped');
        }
        waiting.push({ id, url, body: JSON.stringify(record) });
      }
      start();
    },
    pending: () => waiting.length,
    dropped: () => dropped,
    /** Tries once more what waits, within `graceMs`; the rest is lost and counted in the log. */
    async stop(graceMs: number): Promise<void> {
      stopping.abort(new Error('the service ends'));
      const grace = new AbortController();
      await Promise.race([sendOnceMore(grace.signal), wait(graceMs, grace.signal).catch(() => {})]);
      grace.abort();
      if (waiting.length > 0)
        log.warn({ records: waiting.length }, 'usage records lost: their endpoint did not answer');
      await sender.close();
    },
  };
}

/**
 * Spec section 4. Times in seconds, memory in GB (GiB); both as in the job's callback, null where nothing
 * can be measured.
 */
export interface WorkerMetricsRecord {
  worker_id: string;
  job_type: string;
  generation_time: number;
  vram_used: number | null;
  success: boolean;
  timestamp: string;
}

export interface CompletionStatisticsRecord {
  job_id: string;
  user_id: string;
  job_type: string;
  assets_generated: number;
  /** Megabytes of 10⁶ bytes. */
  total_size_mb: number;
  completion_timestamp: string;
}

/** The two records of one finished job, with the id each is sent under however often. */
export function buildUsageRecords(
  facts: FinishedJobFacts,
  { workerId, atMs }: { workerId: string; atMs: number },
): Array<{ id: string; record: WorkerMetricsRecord | CompletionStatisticsRecord }> {
  const { job } = facts;
  const timestamp = new Date(atMs).toISOString();
  return [
    {
      id: `${job.id}:worker_metrics`,
      record: {
        worker_id: workerId,
        job_type: job.type,
        generation_time: rounded(facts.generationSeconds),
        vram_used: gigabytes(facts.deviceBytes),
        success: facts.outcome === 'completed',
        timestamp,
      },
    },
    {
      id: `${job.id}:completion_statistics`,
      record: {
        job_id: job.id,
        user_id: job.userId,
        job_type: job.type,
        assets_generated: facts.assets,
        total_size_mb: rounded(facts.totalBytes / 1e6),
        completion_timestamp: timestamp,
      },
    },
  ];
}
