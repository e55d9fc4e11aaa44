import type { Logger } from 'pino';
import type { BackoffOptions } from '../../lib/retry.js';
import type { Engines } from '../engines/engines.js';
import type { GpuReading } from '../card/gpu-reading.js';
import type { Callback, CallbackEvent, JobStore } from '../queue/job-store.js';
import type { Storage } from '../storage/storage.js';
import type { QueueName } from '../catalogue.js';
import type { EventLog } from './job-events.js';
import type { EnhancementOutcome } from './metadata.js';
import type { PayloadCheck, ValidJob } from './valid-job.js';
import type { EnhancementType, GenerationPlan, PlannedReference } from './plan.js';
import type { ProgressEstimator } from './progress-estimator.js';
import type { WorkFolders } from './work-folders.js';

export interface CallbackContent {
  jobId: string;
  assets: string[];
  errorMessage?: string;
  metadata: Record<string, unknown>;
}
/** Builds a callback; undefined when no callback URL is configured. */
export type BuildCallback = (event: CallbackEvent, content: CallbackContent) => Callback | undefined;

export interface EnhanceRequest {
  userId: string;
  jobId: string;
  prompt: string;
  type: EnhancementType;
  target: 'image' | 'video';
  sessionId?: string;
  context?: string;
}

/** What a finished job leaves for the usage records and metrics. */
export interface FinishedJobFacts {
  job: { id: string; type: ValidJob['type']; userId: string };
  outcome: 'completed' | 'failed' | 'cancelled';
  /** `error_type`, or `completed`. */
  reason: string;
  generationSeconds: number;
  assets: number;
  totalBytes: number;
  deviceBytes: number | null;
  stageSeconds: Record<string, number>;
}

export interface RunnerMetrics {
  jobFinished(facts: FinishedJobFacts): void;
  attemptFailed(type: ValidJob['type'], errorType: string): void;
  leaseLost(): void;
  invalidPayload(queue: QueueName): void;
}

/** Everything an attempt needs beside its reservation. */
export interface RunnerParts {
  workerId: string;
  store: JobStore;
  storage: Storage;
  engines: Engines;
  events: EventLog;
  estimator: ProgressEstimator;
  workFolders: WorkFolders;
  validate: (payload: string, queue: QueueName) => PayloadCheck;
  plan: (job: ValidJob) => GenerationPlan;
  /** Those of the types whose jobs are to be left to another instance. */
  possibleElsewhere: (types: readonly ValidJob['type'][]) => Promise<Array<ValidJob['type']>>;
  /**
   * Fetches a reference into the folder and returns the file's path; throws `invalidParameters` naming the
   * field.
   */
  fetchReference: (reference: PlannedReference, folder: string, signal: AbortSignal) => Promise<string>;
  /** Never throws for a failed enhancement: it then answers with the original prompt. */
  enhance: (request: EnhanceRequest, signal: AbortSignal) => Promise<EnhancementOutcome>;
  callback: BuildCallback;
  readGpu: () => Promise<GpuReading | null>;
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
  progressIntervalMs: number;
  /** A `progress` callback at most this often; 0 for none. */
  progressCallbackMs: number;
  /** Hand-backs without counting the attempt when the engine died under another job's request. */
  maxBystanderReleases: number;
}

export const defaultLimits: RunnerLimits = {
  leaseMs: 30_000,
  maxAttempts: 3,
  retryBackoff: { baseMs: 2000, maxMs: 60_000, jitter: 0.2 },
  uploadPatienceMs: 300_000,
  uploadBackoff: { baseMs: 500, maxMs: 15_000, jitter: 0.3 },
  progressIntervalMs: 500,
  progressCallbackMs: 0,
  maxBystanderReleases: 3,
};
