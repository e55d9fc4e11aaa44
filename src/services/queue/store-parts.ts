import { LRUCache } from 'lru-cache';
import type { QueueName } from '../catalogue.js';
import type { JobProgress, JobRecord } from './job-store.js';
import type { DeadLetter } from './records.js';

/** Parts of a `JobStore` beside its jobs: callbacks on their way, what operators see and hold, what changes. */

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

export interface EndedAttempt {
  attempt: number;
  /** `handed_back`: by a worker that could not go on, uncounted; `lost`: its worker was gone. */
  outcome: 'completed' | 'failed' | 'cancelled' | 'retried' | 'handed_back' | 'lost';
  workerId?: string;
  startedAtMs: number;
  endedAtMs: number;
  error?: string;
}

/** Payloads that were given up. */
export interface DeadLetterCalls {
  deadLetters(queue: QueueName | undefined, limit: number): Promise<DeadLetter[]>;
  /** All of them, without their payloads, newest first. */
  deadLetterIndex(): Promise<Array<Pick<DeadLetter, 'id' | 'queue' | 'reason' | 'atMs'>>>;
  /**
   * Puts the payload back at the end of its queue with a fresh attempt count. The job that ended with it is
   * `queued` again, its callbacks of that ending are dropped; a job that ended otherwise stays as it is.
   * `incomplete`: it was too large to be kept.
   */
  requeueDeadLetter(id: string): Promise<'requeued' | 'incomplete' | 'unknown'>;
  dropDeadLetter(id: string): Promise<boolean>;
}

export interface QueueDepth {
  waiting: number;
  /** Waiting for a retry's backoff. */
  delayed: number;
  running: number;
  /** Age of the oldest waiting job, when the store can tell. */
  oldestAgeSeconds: number | null;
}

/** One service process that shares the store; what `/worker/status?scope=cluster` lists. */
export interface InstanceInfo {
  workerId: string;
  host: string;
  pid: number;
  startedAtMs: number;
  seenAtMs: number;
  /** Free-form status for display: engines, running jobs. */
  status: Record<string, unknown>;
}

export interface InstanceCalls {
  /** Says this process is alive; forgotten after `ttlMs` without another call. */
  announce(instance: InstanceInfo, ttlMs: number): Promise<void>;
  instances(): Promise<InstanceInfo[]>;
}

/** That nothing is taken from a queue, by anybody, or from no queue by one instance. What runs goes on to its end. */
export interface Hold {
  sinceMs: number;
  /** Name of the key it was asked with. */
  by: string;
  reason?: string;
}
export type HoldTarget = { queue: QueueName } | { workerId: string };

/** What an operator keeps from being taken, over restarts of everybody. */
export interface Holds {
  /** Begins, or goes on as it began. */
  hold(target: HoldTarget, asked: Omit<Hold, 'sinceMs'>): Promise<void>;
  release(target: HoldTarget): Promise<void>;
  list(): Promise<{ queues: Partial<Record<QueueName, Hold>>; workers: ReadonlyMap<string, Hold> }>;
}

/** A job's new state, as told to whoever follows all jobs. */
export interface JobChange {
  /** `{ms}-{n}`, growing; of this store, not of the job. */
  id: string;
  job: Pick<
    JobRecord,
    'id' | 'writtenId' | 'type' | 'userId' | 'queue' | 'status' | 'attempts' | 'assets' | 'errorMessage'
  >;
}
export interface ChangeListener {
  onChange(change: JobChange): void;
  /** Of a job that runs in another process; told at most once a second, and never again. */
  onProgress(job: Pick<JobRecord, 'id' | 'writtenId' | 'userId'>, progress: JobProgress): void;
}

/** What becomes of all jobs, whoever runs them. A bounded number of changes is kept. */
export interface Changes {
  /**
   * Each change after the call has resolved, in order, until the function it gives is called. `lastId` is of the last
   * one before that.
   */
  follow(listener: ChangeListener): Promise<{ lastId: string; stop: () => void }>;
  /** Those kept after an id, oldest first; null when it can no longer be told which they are. */
  since(id: string): Promise<JobChange[] | null>;
}

/** Changes that are kept. */
export const mostChanges = 5000;
/** Orders ids of changes. */
export function compareChanges(a: string, b: string): number {
  const [[aMs = 0, aNumber = 0], [bMs = 0, bNumber = 0]] = [a, b].map((id) => id.split('-').map(Number)) as [
    number[],
    number[],
  ];
  return aMs - bMs || aNumber - bNumber;
}

/** What becomes of all jobs, in memory: whoever comes back after a restart is told that it cannot be told. */
export function createChangesInMemory() {
  const kept: JobChange[] = [];
  const listeners = new Set<ChangeListener>();
  /** What was told of each job last: progress is written, too. */
  const told = new LRUCache<string, string>({ max: 2 * mostChanges });
  let [lastMs, number] = [Date.now(), 0];
  const lastId = () => `${lastMs}-${number}`;

  const changes: Changes = {
    async follow(listener) {
      listeners.add(listener);
      return { lastId: lastId(), stop: () => void listeners.delete(listener) };
    },
    async since(id) {
      const oldest = kept[0];
      if (oldest === undefined || compareChanges(oldest.id, id) > 0) return null;
      return kept.filter((change) => compareChanges(change.id, id) > 0);
    },
  };

  return {
    changes,
    note(record: JobRecord): void {
      const { id, writtenId, type, userId, queue, status, attempts, assets, errorMessage } = record;
      const state = JSON.stringify([status, attempts, assets]);
      if (told.get(id) === state) return;
      told.set(id, state);
      const nowMs = Date.now();
      [lastMs, number] = nowMs > lastMs ? [nowMs, 0] : [lastMs, number + 1];
      const job = { id, type, userId, queue, status, attempts, assets };
      const change: JobChange = {
        id: lastId(),
        job: {
          ...job,
          ...(writtenId === undefined ? {} : { writtenId }),
          ...(errorMessage === undefined ? {} : { errorMessage }),
        },
      };
      kept.push(change);
      if (kept.length > mostChanges) kept.shift();
      for (const { onChange } of listeners) onChange(change);
    },
  };
}

/** Metadata of a finished job whose files were deleted. */
export function withoutAssets(metadata: Record<string, unknown>, nowMs: number): Record<string, unknown> {
  const { poster: _, ...rest } = metadata;
  return { ...rest, asset_paths: [], assets_deleted_at: new Date(nowMs).toISOString() };
}
