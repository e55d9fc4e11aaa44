export type CallbackEvent = 'processing' | 'progress' | 'completed' | 'failed';

/** What is to be said of a job. `id` is stable over retries and re-runs: receivers drop duplicates by it. */
export interface Callback {
  /**
   * `{jobId}:{event}`, or with a suffix for events that repeat (`{jobId}:progress:{n}`); doubles as
   * `webhook-id` and idempotency key.
   */
  id: string;
  jobId: string;
  event: CallbackEvent;
  url: string;
  /** The exact bytes to send. */
  body: string;
  /** By the clock of the process that made it; only its age in hours is looked at. */
  createdAtMs: number;
  /** Trace that its delivery belongs to. */
  traceparent?: string;
  tracestate?: string;
}

/** A callback waiting to be delivered. */
export interface OutboxEntry extends Callback {
  /** By the store's clock. */
  nextAttemptAtMs: number;
  attempts: number;
  lastError?: string;
}

/** Callbacks on their way: recorded with what they tell of, delivered at least once, in order by job. */
export interface Outbox {
  /**
   * Adds an entry, due at once, outside a job's terminal write (progress callbacks). Same id replaces.
   * Dropped silently once the job is terminal.
   */
  add(callback: Callback): Promise<void>;
  /**
   * Takes up to `limit` due entries for this relay for `leaseMs`. Entries of one job come in order: never a
   * later one while an earlier is undelivered.
   */
  claimDue(workerId: string, limit: number, leaseMs: number): Promise<OutboxEntry[]>;
  delivered(id: string): Promise<void>;
  /** The delivery failed; the next attempt is due `delayMs` from now. */
  reschedule(id: string, delayMs: number, error: string): Promise<void>;
  /** Gives up; the entry is kept for inspection and `retry`. */
  deadLetter(id: string, reason: string): Promise<void>;
  pending(): Promise<number>;
  listDead(limit: number): Promise<OutboxEntry[]>;
  /** Puts dead entries back in line (all, or one). Returns how many. */
  retryDead(id?: string): Promise<number>;
}
