import type { FinishedJob } from '../queue/types.js';
import type { JobFailure } from './failure.js';
import { failureMetadata } from './metadata.js';
import type { BuildCallback, FinishedJobFacts } from './runner-parts.js';

/** What is recorded, and told by the `failed` callback, of a job that ends without a result. */
export function endWithoutResult(status: 'failed' | 'cancelled', { jobId, failure, attempts, version, callback }: { jobId: string; failure: Pick<JobFailure, 'type' | 'message'>; attempts: number; version: string; callback: BuildCallback }): FinishedJob {
  const metadata = failureMetadata({ type: failure.type, attempts, workerVersion: version });
  const entry = callback('failed', { jobId, assets: [], errorMessage: failure.message, metadata });
  return { status, assets: [], errorMessage: failure.message, metadata, ...(entry === undefined ? {} : { callback: entry }) };
}

/** Facts of such a job: nothing was made. */
export function factsWithoutResult(job: FinishedJobFacts['job'], outcome: 'failed' | 'cancelled', reason: JobFailure['type']): FinishedJobFacts {
  return { job, outcome, reason, generationSeconds: 0, assets: 0, totalBytes: 0, deviceBytes: null, stageSeconds: {} };
}
