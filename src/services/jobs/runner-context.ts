import type { Logger } from 'pino';
import { retry, type BackoffOptions } from '../../lib/retry.js';
import type { SharedLock } from '../../lib/semaphore.js';
import type { GpuReading } from '../card/gpu-monitor.js';
import type { JobType, QueueName } from '../catalogue.js';
import type { Engines } from '../engines/engines.js';
import type { BuildCallback } from '../outbound/index.js';
import type { FinishedJobFacts } from '../outbound/usage-reporter.js';
import type { JobStore, Reservation } from '../queue/job-store.js';
import type { PayloadRead } from '../queue/read-payload.js';
import type { Storage } from '../storage/storage.js';
import type { Capabilities, Fitness } from './capabilities.js';
import type { EventLog } from './event-log.js';
import type { EnhancementOutcome, EnhancementType, GenerationPlan, PlannedReference } from './plan.js';
import type { ProgressEstimator } from './progress-estimator.js';
import type { PayloadCheck, ValidJob } from './payload.js';
import type { WorkFolders } from './job-files.js';

export interface EnhanceRequest {
  userId: string;
  jobId: string;
  prompt: string;
  type: EnhancementType;
  target: 'image' | 'video';
  sessionId?: string;
  context?: string;
}

export interface RunnerMetrics {
  jobBegun(type: JobType, reservation: Pick<Reservation, 'lease' | 'attempt' | 'queuedAtMs'>): void;
  jobFinished(facts: FinishedJobFacts): void;
  attemptFailed(type: JobType, errorType: string): void;
  leaseLost(): void;
  invalidPayload(queue: QueueName): void;
}

/** What runners and their attempts share. */
export interface RunnerContext {
  workerId: string;
  store: JobStore;
  storage: Storage;
  engines: Engines;
  events: EventLog;
  estimator: ProgressEstimator;
  workFolders: WorkFolders;
  validate: (payload: PayloadRead, queue: QueueName) => PayloadCheck;
  /** Throws `NotPossibleHere` for a type that needs what this instance lacks. */
  plan: (job: ValidJob) => GenerationPlan;
  capabilities: Pick<Capabilities, 'leftToOthers'>;
  fitness: Pick<Fitness, 'isFit' | 'whenFit' | 'onFault'>;
  /**
   * Fetches a reference into the folder and returns the file's path; throws `invalidParameters` naming the
   * field. `onWaiting`: other downloads have to end first.
   */
  fetchReference: (
    reference: PlannedReference & { userId: string },
    folder: string,
    signal: AbortSignal,
    onWaiting: () => void,
  ) => Promise<string>;
  /** Never throws for a failed enhancement: it then answers with the original prompt. */
  enhance: (request: EnhanceRequest, signal: AbortSignal) => Promise<EnhancementOutcome>;
  callback: BuildCallback;
  readGpu: () => Promise<GpuReading | null>;
  /** Every attempt of this process holds it. */
  running: SharedLock;
  /** Called after the terminal state is written; must not throw. */
  onFinished: (facts: FinishedJobFacts) => void;
  metrics: RunnerMetrics;
  log: Logger;
  version: string;
  limits: RunnerLimits;
}

export interface RunnerLimits {
  leaseMs: number;
  maxAttempts: number;
  retryBackoff: BackoffOptions;
  uploadPatienceMs: number;
  uploadBackoff: BackoffOptions;
  /** What a job leaves behind is written to the store through an outage of this length. */
  storePatienceMs: number;
  progressIntervalMs: number;
  /** A `progress` callback at most this often; 0 for none. */
  progressCallbackMs: number;
  /** Hand-backs without counting the attempt when the engine died under another job's request. */
  maxUncountedHandBacks: number;
}

export const defaultLimits: Omit<RunnerLimits, 'leaseMs' | 'maxAttempts'> = {
  retryBackoff: { baseMs: 2000, maxMs: 60_000, jitter: 0.2 },
  uploadPatienceMs: 300_000,
  uploadBackoff: { baseMs: 500, maxMs: 15_000, jitter: 0.3 },
  storePatienceMs: 600_000,
  progressIntervalMs: 500,
  progressCallbackMs: 0,
  maxUncountedHandBacks: 3,
};

/**
 * Writes to the store until it answers. When it is away for too long the lease runs out and the job is run
 * again, which is safe.
 */
export type WriteToStore = <T>(what: string, action: () => Promise<T>, limitMs?: number) => Promise<T>;

export function createStoreWriter(limits: RunnerLimits, log: Logger): WriteToStore {
  return (what, action, limitMs = limits.storePatienceMs) =>
    retry(action, {
      backoff: limits.uploadBackoff,
      limitMs,
      onRetry: (err, tries) => log.warn({ err, tries }, `could not ${what}; trying again`),
    });
}
