import type { JobType, QueueName } from '../catalogue.js';
import type {
  Callback,
  Changes,
  DeadLetterCalls,
  EndedAttempt,
  Holds,
  InstanceCalls,
  Outbox,
  QueueDepth,
} from './store-parts.js';
import type { PayloadRead } from './read-payload.js';

/**
 * One interface, two queues: embedded (LevelDB, one process) and Redis (shared by any number of processes).
 * A job store keeps payloads, records, leases, the dead letters and the outbox in one place, because the
 * promises need steps that touch several of them at once: "finished" and "its callback is recorded" are one
 * atomic write.
 */

export type JobStatus = 'queued' | 'processing' | 'completed' | 'failed' | 'cancelled';
export const terminalStatuses: ReadonlySet<JobStatus> = new Set(['completed', 'failed', 'cancelled']);

export interface JobProgress {
  /** `queued`, `enhance`, `references`, an engine stage, `upload`, `done`. */
  stage: string;
  step: number;
  steps: number;
  /** 0–1 over the whole job. */
  fraction: number;
  etaSeconds: number | null;
}

/** What is known of a job; outlives it by `JOB_RETENTION_SECONDS`. */
export interface JobRecord {
  /** A UUID in lower case. */
  id: string;
  /** As the producer wrote it, where that differs. */
  writtenId?: string;
  type: JobType;
  userId: string;
  queue: QueueName;
  status: JobStatus;
  progress: JobProgress;
  /** Attempts begun, the running one included; hand-backs at shutdown do not count. */
  attempts: number;
  /** Storage paths or URLs of the finished assets. */
  assets: string[];
  errorMessage?: string;
  /** Of the terminal callback; empty before that. */
  metadata: Record<string, unknown>;
  cancelRequested: boolean;
  createdAtMs: number;
  startedAtMs?: number;
  finishedAtMs?: number;
  /** Instance that runs or ran it. */
  workerId?: string;
  /** Why the previous attempt ended; for people, never sent to the producer. */
  lastError?: string;
  /** Since when it is in its state; absent in records of older versions. */
  sinceMs?: number;
  /** When the next attempt may begin, while it waits for that. */
  retryAtMs?: number;
  /** What is asked for, as `PayloadRead.request` says; absent in records of older versions. */
  request?: string;
  /** The last attempts that have ended, oldest first. */
  history?: EndedAttempt[];
}

/** Proof of ownership of a running job: every write of a runner carries it, and is refused once it is lost. */
export interface Lease {
  queue: QueueName;
  /** The store's own key of the reservation; unique per claim, never the payload's bytes. */
  token: string;
  /** The payload's `id` in lower case; empty when it has no UUID that can be read. */
  jobId: string;
  /** What `readPayload` says of the payload: its id alone does not prove whose it is. */
  identity: string;
  writtenId: string;
  /** As `PayloadRead` says. */
  request: string;
  workerId: string;
  expiresAtMs: number;
}

/** What `reserve` hands out, be it a valid job or not: only the runner knows the rules (`deadLetter`). */
export interface Reservation {
  lease: Lease;
  /** For people: bytes that are no text are replaced. */
  payload: string;
  read: PayloadRead;
  attempt: number;
  /** When the payload was first seen by the store; producers that LPUSH leave no time of their own. */
  queuedAtMs: number;
  cancelRequested: boolean;
  /** `begin` was asked for and done. */
  begun: boolean;
  /** Its id belongs to another job: another queue, type, user or payload. Found out with `begin`. */
  isForeign: boolean;
}

export interface ReserveRequest {
  queue: QueueName;
  workerId: string;
  leaseMs: number;
  /** Job types that may not be taken now (only another instance can run them); skipped over, order kept. */
  excludeTypes?: readonly JobType[];
  /** Also begins the job where id and type can be read; duplicates are dropped and passed over. */
  begin?: boolean;
  /** A job that had as many is handed out, but not begun again. */
  maxAttempts?: number;
}

export interface FinishedJob {
  status: 'completed' | 'failed' | 'cancelled';
  assets: string[];
  errorMessage?: string;
  metadata: Record<string, unknown>;
  /** Absent when no callback URL is configured. Drops a pending `processing` entry of the job. */
  callback?: Callback;
}

export interface SubmitRequest {
  queue: QueueName;
  /** JSON text, as a producer would LPUSH it. */
  payload: string;
  job: { id: string; type: JobType; userId: string };
  idempotencyKey?: string;
  /** What "the same payload" means for the key; default: a digest of it. For payloads with a generated id. */
  fingerprint?: string;
  /** Refuse (`full`) when this many jobs wait already; 0 for no limit. */
  maxWaiting?: number;
}

export type SubmitResult =
  | { outcome: 'created' | 'exists'; record: JobRecord; queuePosition: number }
  /** The idempotency key was used before with another payload. */
  | { outcome: 'key_reused' }
  /** The id belongs to another job: another queue, type, user or payload. */
  | { outcome: 'conflict' }
  | { outcome: 'full' };

export type CancelResult =
  /** Was still waiting: now terminal, its `failed` callback recorded. */
  | { outcome: 'cancelled'; record: JobRecord }
  /** Runs somewhere: its runner has been told through the record and will end it. */
  | { outcome: 'requested'; record: JobRecord }
  | { outcome: 'already_finished'; record: JobRecord }
  | { outcome: 'unknown' };

export interface JobFilter {
  status?: JobStatus;
  type?: JobType;
  queue?: QueueName;
  userId?: string;
  /** Of the id, in any case. */
  idPrefix?: string;
  /** Somewhere in the prompt, in any case. */
  text?: string;
}
export interface JobPage {
  jobs: JobRecord[];
  /** Opaque; absent on the last page. A page may be short, even empty: a search looks at so many jobs at a time. */
  nextCursor?: string;
}

/** What a runner does with a reservation. */
export interface LeaseCalls {
  /** Takes the next job atomically and leases it, or null; nothing that is held. Due retries come before new jobs. */
  reserve(request: ReserveRequest): Promise<Reservation | null>;
  /**
   * First write of a runner that found the payload valid: creates or updates the record as `processing`. A
   * job that is already terminal or running elsewhere is not begun: the reservation is dropped. `foreign`:
   * the id is another job's; the reservation stays.
   */
  begin(
    lease: Lease,
    job: { id: string; type: JobType; userId: string },
    callback?: Callback,
  ): Promise<'begun' | 'duplicate' | 'foreign' | 'lost'>;
  /** Extends the lease. `cancelRequested` reaches the runner here and through `onCancel`. */
  renew(lease: Lease, leaseMs: number): Promise<{ held: boolean; cancelRequested: boolean }>;
  /** Records progress; ignored when the lease is lost or the job is terminal. */
  updateProgress(lease: Lease, progress: JobProgress): Promise<void>;
  /**
   * Terminal state, asset list, callback and acknowledgement in one atomic write. False: the lease was lost,
   * nothing was written.
   */
  finish(lease: Lease, result: FinishedJob): Promise<boolean>;
  /** Back to the queue after a failed attempt, not before `delayMs`. False when the lease was lost. */
  retryLater(lease: Lease, delayMs: number, reason: string): Promise<boolean>;
  /** Hand-back without counting the attempt (shutdown); goes to the front of its queue. */
  release(lease: Lease, reason?: string): Promise<boolean>;
  /**
   * Acknowledges and moves the payload to the dead letters, with the terminal record and callback where there
   * is an id whose job is this one and neither finished already nor running elsewhere. One atomic write.
   * `attempts`: where fewer were made than it was handed out.
   */
  deadLetter(
    lease: Lease,
    reason: string,
    result?: FinishedJob & { job: { id: string; type?: JobType; userId?: string }; attempts?: number },
  ): Promise<boolean>;
  /**
   * Housekeeping, to be called every few seconds; also forgets records past their retention. Takes back jobs
   * whose lease ran out, whoever held it: back to the front of the queue. Jobs over `maxAttempts` are handed
   * out once more by `reserve` with `attempt > maxAttempts`; the runner dead-letters them. Returns job ids.
   */
  reclaimExpired(): Promise<string[]>;
}

export interface JobStore extends LeaseCalls, DeadLetterCalls, InstanceCalls {
  readonly kind: 'embedded' | 'redis';

  /**
   * Puts a job on its queue. The same id twice, or the same idempotency key with the same payload, is one
   * job.
   */
  submit(request: SubmitRequest): Promise<SubmitResult>;
  /** As a producer's LPUSH does: no checks, no record before a runner begins it. */
  push(queue: QueueName, payload: string): Promise<void>;

  /** Until there may be work on one of the queues, for `timeoutMs`, or until abort. Takes nothing. */
  waitForWork(queues: readonly QueueName[], timeoutMs: number, signal: AbortSignal): Promise<void>;
  /**
   * `resultFor` gives the terminal state and callback of a job that still waits, by its record and its payload
   * (null where that is gone); a running one is ended by its runner.
   */
  cancel(
    id: string,
    resultFor: (record: JobRecord, read: PayloadRead | null) => FinishedJob,
  ): Promise<CancelResult>;
  get(id: string): Promise<JobRecord | null>;
  /** Position from the front (0 is next) while queued, else null. */
  position(id: string): Promise<number | null>;
  /** Of many at once. */
  positions(ids: readonly string[]): Promise<Map<string, number>>;
  /** Newest first. What was pushed to a shared queue and nobody has begun stands first: it carries no time. */
  list(filter: JobFilter, limit: number, cursor?: string): Promise<JobPage>;
  depth(queue: QueueName): Promise<QueueDepth>;

  /** Says in a job's record that its files are gone, once it is over. */
  forgetAssets(id: string): Promise<JobRecord | null>;

  readonly outbox: Outbox;
  readonly holds: Holds;
  readonly changes: Changes;

  /** Cancellation of a job running in this process. Returns the unsubscribe function. */
  onCancel(listener: (jobId: string) => void): () => void;

  /** Round trip to the store, for readiness. Throws when it does not answer. */
  ping(): Promise<void>;
  /** What the server takes for the time, milliseconds since 1970; absent where there is none. */
  clock?(): Promise<number>;
  close(): Promise<void>;
}
