import type { Logger } from 'pino';
import { backoffDelayMs } from '../../lib/retry.js';
import { catalogue } from '../catalogue.js';
import { EngineError } from '../engines/engine-error.js';
import type { BuildCallback } from '../outbound/index.js';
import type { FinishedJobFacts } from '../outbound/usage-reporter.js';
import type { FinishedJob } from '../queue/job-store.js';
import type { Attempt } from './attempt.js';
import { isWorkersFault } from './capabilities.js';
import { cancelledFailure, failureFrom, type JobFailure, JobInterrupt } from './failure.js';
import { completionMetadata, endWithoutResult, factsWithoutResult, requestOf } from './metadata.js';
import type { EnhancementOutcome, GenerateOutcome, GenerationPlan } from './plan.js';
import type { RunnerContext, WriteToStore } from './runner-context.js';
import { removeStored } from './job-files.js';

/**
 * Jobs handed back because the engine died under another request, with how often: an endless series must end.
 */
export interface HandBackCounts {
  get(jobId: string): number | undefined;
  has(jobId: string): boolean;
  set(jobId: string, count: number): unknown;
  delete(jobId: string): unknown;
}

export interface Completion {
  plan: GenerationPlan;
  outcome: GenerateOutcome;
  assets: string[];
  /** `bucket/path` of each. */
  assetPaths: string[];
  poster?: string;
  prompt: string;
  enhancement: EnhancementOutcome | null;
  generationSeconds: number;
  stageSeconds: Record<string, number>;
}

interface OutcomeOptions {
  attempt: Attempt;
  context: RunnerContext;
  handBacks: HandBackCounts;
  buildCallback: BuildCallback;
  write: WriteToStore;
  log: Logger;
}

/**
 * What becomes of a job after one attempt, written once, fenced by its lease: completed, ended, tried again,
 * handed back.
 */
export function createJobOutcome({ attempt, context, handBacks, buildCallback, write, log }: OutcomeOptions) {
  const { reservation, job } = attempt;
  const { signal } = attempt.controller;
  const { lease } = reservation;
  const { store, limits, version } = context;
  const identity = { id: job.id, type: job.type, userId: job.user_id };
  const request = requestOf(reservation.read);

  async function complete(done: Completion): Promise<void> {
    const { engine, expectedSeconds, output } = catalogue[job.type];
    const gpu = await context.readGpu().catch(() => null);
    const engineBytes = context.engines.status(engine).memory?.deviceBytes ?? null;
    const images = done.outcome.files.length;
    const metadata = completionMetadata({
      originalPrompt: job.prompt,
      prompt: done.prompt,
      enhancement: done.enhancement,
      generationSeconds: done.generationSeconds,
      expectedSeconds: job.config?.expected_time ?? expectedSeconds[1] * (output === 'image' ? images : 1),
      gpu,
      engineBytes,
      attempts: reservation.attempt,
      workerVersion: version,
      timings: done.stageSeconds,
      generation: {
        ...done.plan.metadata,
        ...done.outcome.metadata,
        asset_paths: done.assetPaths,
        ...(done.poster === undefined ? {} : { poster: done.poster }),
        ...request,
      },
    });
    // What `explain` asked for is for the one who looks at the job, not for the receiver of its callback.
    const callback = buildCallback('completed', {
      jobId: job.id,
      assets: done.assets,
      metadata: { ...metadata, explain: undefined },
    });
    const result: FinishedJob = {
      status: 'completed',
      assets: done.assets,
      metadata,
      ...(callback === undefined ? {} : { callback }),
    };
    if (!(await write('finish the job', () => store.finish(lease, result))))
      throw new JobInterrupt('lease_lost');
    tell(result, {
      job: identity,
      outcome: 'completed',
      reason: 'completed',
      generationSeconds: done.generationSeconds,
      stageSeconds: done.stageSeconds,
      deviceBytes: engineBytes,
      assets: images,
      totalBytes: done.outcome.files.reduce((sum, file) => sum + file.bytes, 0),
    });
    if (metadata['enhancement_strategy'] === 'fallback')
      log.warn({ reason: metadata['compel_error'] }, 'compel_weights were not applied');
    log.info({ assets: done.assets.length, generation_seconds: done.generationSeconds }, 'job completed');
  }

  /** Decides what becomes of a job whose attempt did not end in its completion. Never throws. */
  async function settle(error: unknown): Promise<void> {
    try {
      await decide(error);
    } catch (problem) {
      log.error(
        { err: problem },
        'the end of an attempt could not be written; its lease will run out and it is taken again',
      );
    }
  }

  async function decide(error: unknown): Promise<void> {
    const interrupt = interruptOf(signal) ?? (error instanceof JobInterrupt ? error.kind : null);
    if (interrupt === 'lease_lost') {
      context.metrics.leaseLost();
      return log.warn('the lease was lost; the job belongs to another runner now');
    }
    if (interrupt === 'cancelled') {
      if (await end('finish', cancelledFailure, 'cancelled')) await removeStored(identity, context);
      return;
    }
    if (interrupt === 'shutdown' || interrupt === 'unfit') return handBack(interrupt);
    if (isWorkersFault(error)) return handBack(error.message);
    if (error instanceof EngineError && isNobodysFault(error)) return handBack(error.message);

    const failure = failureFrom(error);
    context.metrics.attemptFailed(job.type, failure.type);
    log.warn({ err: error, error_type: failure.type, retryable: failure.retryable }, 'attempt failed');
    if (!failure.retryable || reservation.attempt >= limits.maxAttempts) {
      await end('deadLetter', failure, 'failed');
      return;
    }
    const delayMs = backoffDelayMs(reservation.attempt, limits.retryBackoff);
    const putBack = () => store.retryLater(lease, delayMs, failure.message);
    if (await write('put the job back for its next attempt', putBack)) publishQueued(reservation.attempt);
  }

  function isNobodysFault(error: EngineError): boolean {
    if (error.code === 'engine_unavailable') return true;
    if (!error.bystander) return false;
    const count = (handBacks.get(job.id) ?? 0) + 1;
    handBacks.set(job.id, count);
    return count <= limits.maxUncountedHandBacks;
  }

  async function handBack(reason: string): Promise<void> {
    log.info({ reason }, 'job handed back');
    if (await write('hand the job back', () => store.release(lease, reason)))
      publishQueued(reservation.attempt - 1);
  }

  function publishQueued(attempts: number): void {
    context.events.publish(job.id, { event: 'state', data: { status: 'queued', attempts, assets: [] } });
  }

  /** @returns false when the job is another runner's by now */
  async function end(
    how: 'finish' | 'deadLetter',
    failure: JobFailure,
    status: 'failed' | 'cancelled',
  ): Promise<boolean> {
    const result = endWithoutResult(status, {
      jobId: job.id,
      failure,
      attempts: reservation.attempt,
      version,
      callback: buildCallback,
      request,
    });
    const written = await write('record the failure', () =>
      how === 'finish'
        ? store.finish(lease, result)
        : store.deadLetter(lease, failure.message, { ...result, job: identity }),
    );
    if (!written) return false;
    log.info({ status, error_type: failure.type }, 'job ended without a result');
    tell(result, factsWithoutResult(identity, status, failure.type));
    return true;
  }

  function tell(result: FinishedJob, facts: FinishedJobFacts): void {
    handBacks.delete(job.id);
    context.events.publish(job.id, {
      event: 'state',
      data: {
        status: result.status,
        attempts: reservation.attempt,
        assets: result.assets,
        ...(result.errorMessage === undefined ? {} : { error_message: result.errorMessage }),
      },
    });
    context.metrics.jobFinished(facts);
    context.onFinished(facts);
  }

  return { complete, settle };
}

function interruptOf(signal: AbortSignal): JobInterrupt['kind'] | null {
  return signal.aborted && signal.reason instanceof JobInterrupt ? signal.reason.kind : null;
}
