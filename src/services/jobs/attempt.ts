import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { cancelledFailure, failureFrom, type JobFailure, JobInterrupt } from './failure.js';
import { keepLease } from './lease-keeper.js';
import {
  completionMetadata,
  endWithoutResult,
  type EnhancementOutcome,
  factsWithoutResult,
} from './metadata.js';
import type { GenerateOutcome, GenerationPlan, PlannedReference } from './plan.js';
import { createProgressReporter } from './progress-reporter.js';
import type { BuildCallback, FinishedJobFacts, RunnerParts } from './runner-parts.js';
import { traceAttempt } from './trace.js';
import { placesOf, removeStored, uploadFiles } from './upload.js';
import type { ValidJob } from './valid-job.js';
import { catalogue } from '../catalogue.js';
import { EngineError } from '../engines/engine-error.js';
import type { Callback, FinishedJob, JobProgress, Reservation } from '../queue/job-store.js';
import type { EngineEvent } from '../../inference/engine-protocol.js';
import { backoffDelayMs, persistently } from '../../lib/retry.js';
import { orAborted } from '../../lib/wait.js';

/** The permits of the pipeline a job passes through; each function may be called more than once. */
export interface AttemptGates {
  /**
   * Waits for the engine to be free; the next job may be prepared from then on. Returns the function that
   * frees it.
   */
  enterCompute: (signal: AbortSignal) => Promise<() => void>;
  onEngineProgress: (etaSeconds: number | null) => void;
}

export interface Attempt {
  reservation: Reservation;
  job: ValidJob;
  /** Aborted with a `JobInterrupt`. */
  controller: AbortController;
  phase: 'preparing' | 'computing' | 'finishing';
}

/**
 * Jobs handed back because the engine died under another request, with how often: an endless series must end
 * somewhere.
 */
export type BystanderCounts = Map<string, number>;

/**
 * One attempt at one valid job, from its first callback to its terminal write, its retry or its hand-back.
 * Never throws. Every step can run twice with the same result; every write is fenced by the lease.
 */
export async function runAttempt(
  attempt: Attempt,
  gates: AttemptGates,
  parts: RunnerParts,
  bystanders: BystanderCounts,
): Promise<void> {
  const { reservation, job, controller } = attempt;
  const { lease } = reservation;
  const { signal } = controller;
  const spec = catalogue[job.type];
  let stage = 'begin';
  const log = parts.log.child(
    { job_id: job.id, job_type: job.type, worker: spec.engine, attempt: reservation.attempt },
    { formatters: { log: (fields) => ({ stage, ...fields }) } },
  );
  const traced = traceAttempt({ job, reservation, engine: spec.engine });
  const buildCallback: BuildCallback = (event, content) => {
    const entry = parts.callback(event, content);
    return entry === undefined ? undefined : { ...entry, ...traced.carrier() };
  };
  /** One stage of the pipeline: named in the log and in the trace. */
  const inStage = <T>(name: string, work: () => Promise<T>) => {
    stage = name;
    return traced.stage(name, work);
  };
  const identity = { id: job.id, type: job.type, userId: job.user_id };
  const write = <T>(what: string, action: () => Promise<T>) =>
    persistently(action, { what, log, backoff: parts.limits.uploadBackoff });

  const processing = reservation.cancelRequested
    ? undefined
    : buildCallback('processing', {
        jobId: job.id,
        assets: [],
        metadata: { worker_version: parts.version, attempt: reservation.attempt },
      });
  let begun: 'begun' | 'duplicate' | 'lost';
  try {
    begun = await begin(processing);
  } catch (error) {
    log.error({ err: error }, 'the job could not be begun; its lease will run out and it is taken again');
    return;
  }
  if (begun !== 'begun') return log.info({ outcome: begun }, 'reservation dropped');

  parts.events.publish(job.id, {
    event: 'state',
    data: { status: 'processing', attempts: reservation.attempt, assets: [] },
  });
  const keeper = keepLease({
    store: parts.store,
    lease,
    leaseMs: parts.limits.leaseMs,
    job: controller,
    log,
  });
  if (reservation.cancelRequested) controller.abort(new JobInterrupt('cancelled'));
  let reporter: ReturnType<typeof createProgressReporter> | null = null;
  let folder: string | null = null;
  let calledBackAtMs = Date.now();
  let progressCalls = 1;
  let generation: Promise<unknown> = Promise.resolve();

  try {
    signal.throwIfAborted();
    const plan = parts.plan(job);
    const tracker = parts.estimator.track(plan.estimateKey, plan.stages, plan.takingTurns);
    const expectedStageSeconds = parts.estimator.stageSeconds(plan.estimateKey);
    reporter = createProgressReporter({
      jobId: job.id,
      tracker,
      events: parts.events,
      intervalMs: parts.limits.progressIntervalMs,
      write: async (progress) =>
        writeProgress(progress).catch((error: unknown) => log.debug({ err: error }, 'progress not written')),
    });
    const { report } = reporter;
    folder = await parts.workFolders.create(job.id, reservation.attempt);

    // Two folders: the engine finds its own empty.
    const [incoming, outputDir] = [path.join(folder, 'references'), path.join(folder, 'pictures')];
    await Promise.all([mkdir(incoming), mkdir(outputDir)]);
    log.info({ prompt: job.prompt }, 'job begun');
    const references =
      plan.references.length === 0
        ? new Map<PlannedReference['role'], string>()
        : await inStage('references', () =>
            fetchReferences(plan.references, incoming, (step, steps) => report('references', step, steps)),
          );
    const { enhancement: wish } = plan;
    const enhancement =
      wish === undefined ? null : await inStage('enhance', () => enhance(wish, () => report('enhance')));
    const prompt = enhancement?.prompt ?? job.prompt;

    stage = 'waiting';
    report('waiting');
    const releaseCompute = await gates.enterCompute(signal);
    attempt.phase = 'computing';
    const startedMs = performance.now();
    const generating = plan
      .generate({
        outputDir,
        prompt,
        references,
        attempt: reservation.attempt,
        signal,
        onEvent: (event) => onEngineEvent(event, report, releaseCompute),
        ...(expectedStageSeconds === undefined ? {} : { expectedStageSeconds }),
      })
      .finally(releaseCompute);
    generation = generating.catch(() => {});
    const outcome: GenerateOutcome = await inStage('generate', () => orAborted(generating, signal));
    const generationSeconds = (performance.now() - startedMs) / 1000;
    attempt.phase = 'finishing';

    const uploads = placesOf(job, outcome).length;
    report('upload', 0, uploads);
    const uploaded = await inStage('upload', () =>
      uploadFiles({
        storage: parts.storage,
        bucket: spec.bucket,
        job,
        outcome,
        signal,
        log,
        patienceMs: parts.limits.uploadPatienceMs,
        backoff: parts.limits.uploadBackoff,
        onFile: (done) => report('upload', done, uploads),
      }),
    );
    signal.throwIfAborted();
    stage = 'done';
    await complete({
      plan,
      outcome,
      ...uploaded,
      prompt,
      enhancement,
      generationSeconds,
      stageSeconds: { ...tracker.timings(), ...outcome.timings },
    });
    tracker.succeeded();
    traced.end('completed');
  } catch (error) {
    await settle(error);
    traced.end('ended without a result', error);
  } finally {
    keeper.stop();
    await reporter?.stop();
    const leftOver = folder;
    // The engine may still be writing for a job that was abandoned: its folder goes once it has noticed.
    if (leftOver !== null)
      void generation
        .then(() => parts.workFolders.remove(leftOver))
        .catch((error: unknown) => log.warn({ err: error }, 'work folder not removed'));
  }

  async function writeProgress(progress: JobProgress): Promise<void> {
    await parts.store.updateProgress(lease, progress);
    const everyMs = parts.limits.progressCallbackMs;
    if (everyMs === 0 || Date.now() - calledBackAtMs < everyMs || signal.aborted) return;
    calledBackAtMs = Date.now();
    const { stage, step, steps, fraction, etaSeconds } = progress;
    const entry = buildCallback('progress', {
      jobId: job.id,
      assets: [],
      metadata: {
        stage,
        step,
        steps,
        fraction,
        eta_seconds: etaSeconds,
        attempt: reservation.attempt,
        worker_version: parts.version,
      },
    });
    if (entry !== undefined)
      await parts.store.outbox.add({ ...entry, id: `${entry.id}:${reservation.attempt}.${progressCalls++}` });
  }

  /**
   * `reserve` began the job already unless its type was unknown to the store; the callback is then all that
   * is left to write.
   */
  async function begin(processing: Callback | undefined): Promise<'begun' | 'duplicate' | 'lost'> {
    if (!reservation.begun) return parts.store.begin(lease, identity, processing);
    if (processing !== undefined) await parts.store.outbox.add(processing);
    return 'begun';
  }

  async function fetchReferences(
    references: PlannedReference[],
    target: string,
    report: (step: number, steps: number) => void,
  ): Promise<Map<PlannedReference['role'], string>> {
    const files = new Map<PlannedReference['role'], string>();
    report(0, references.length);
    for (const reference of references) {
      files.set(reference.role, await parts.fetchReference(reference, target, signal));
      report(files.size, references.length);
    }
    return files;
  }

  async function enhance(
    wish: NonNullable<GenerationPlan['enhancement']>,
    report: () => void,
  ): Promise<EnhancementOutcome> {
    report();
    const outcome = await orAborted(
      parts.enhance(
        { jobId: job.id, userId: job.user_id, prompt: job.prompt, target: spec.output, ...wish },
        signal,
      ),
      signal,
    );
    log.info(
      { success: outcome.success, seconds: outcome.seconds, source: outcome.source },
      'prompt enhanced',
    );
    return outcome;
  }

  function onEngineEvent(
    event: EngineEvent,
    report: ReturnType<typeof createProgressReporter>['report'],
    releaseCompute: () => void,
  ): void {
    if (signal.aborted) return;
    traced.engineEvent(event);
    if (event.kind === 'computeDone') {
      attempt.phase = 'finishing';
      // Once it lost an attempt to somebody else's computing it has the engine to itself, to its end.
      if (!bystanders.has(job.id)) releaseCompute();
    } else if (event.kind === 'progress') {
      stage = event.stage;
      const { etaSeconds } = report(event.stage, event.step, event.steps);
      // Once it let the next job compute, its own time says nothing of when the engine is free.
      if (attempt.phase === 'computing' || bystanders.has(job.id)) gates.onEngineProgress(etaSeconds);
    } else if (event.kind === 'preview') {
      void publishPreview(event);
    }
  }

  async function publishPreview(event: Extract<EngineEvent, { kind: 'preview' }>): Promise<void> {
    try {
      const bytes = await readFile(event.path);
      if (!signal.aborted && attempt.phase !== 'finishing')
        parts.events.publish(job.id, {
          event: 'preview',
          data: { step: event.step, content_type: event.contentType, base64: bytes.toString('base64') },
        });
    } catch {
      // A preview is a courtesy; the next one replaces it.
    }
  }

  async function complete(done: {
    plan: GenerationPlan;
    outcome: GenerateOutcome;
    assets: string[];
    poster?: string;
    prompt: string;
    enhancement: EnhancementOutcome | null;
    generationSeconds: number;
    stageSeconds: Record<string, number>;
  }): Promise<void> {
    const gpu = await parts.readGpu().catch(() => null);
    const engineBytes = parts.engines.status(spec.engine).memory?.deviceBytes ?? null;
    const images = done.outcome.files.length;
    const metadata = completionMetadata({
      originalPrompt: job.prompt,
      prompt: done.prompt,
      enhancement: done.enhancement,
      generationSeconds: done.generationSeconds,
      expectedSeconds:
        job.config?.expected_time ?? spec.expectedSeconds[1] * (spec.output === 'image' ? images : 1),
      gpu,
      engineBytes,
      attempts: reservation.attempt,
      workerVersion: parts.version,
      timings: done.stageSeconds,
      generation: {
        ...done.plan.metadata,
        ...done.outcome.metadata,
        ...(done.poster === undefined ? {} : { poster: done.poster }),
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
    if (!(await write('finish the job', () => parts.store.finish(lease, result))))
      throw new JobInterrupt('lease_lost');
    finished(result, {
      job: identity,
      outcome: 'completed',
      reason: 'completed',
      generationSeconds: done.generationSeconds,
      stageSeconds: done.stageSeconds,
      deviceBytes: gpu?.usedBytes ?? engineBytes,
      assets: images,
      totalBytes: done.outcome.files.reduce((sum, file) => sum + file.bytes, 0),
    });
    log.info({ assets: done.assets.length, generation_seconds: done.generationSeconds }, 'job completed');
  }

  /** Decides what becomes of a job whose attempt did not end in its completion. */
  async function settle(error: unknown): Promise<void> {
    await reporter?.stop();
    try {
      if (
        isInterrupt(signal, 'lease_lost') ||
        (error instanceof JobInterrupt && error.kind === 'lease_lost')
      ) {
        parts.metrics.leaseLost();
        return log.warn('the lease was lost; the job belongs to another runner now');
      }
      if (isInterrupt(signal, 'cancelled')) {
        if (await end('finish', cancelledFailure, 'cancelled'))
          await removeStored(identity, { storage: parts.storage, log });
        return;
      }
      if (isInterrupt(signal, 'shutdown')) return await handBack('shutdown');
      if (error instanceof EngineError && isNobodysFault(error)) return await handBack(error.message);
      const failure = failureFrom(error);
      parts.metrics.attemptFailed(job.type, failure.type);
      log.warn({ err: error, error_type: failure.type, retryable: failure.retryable }, 'attempt failed');
      if (!failure.retryable || reservation.attempt >= parts.limits.maxAttempts)
        return void (await end('deadLetter', failure, 'failed'));
      const delayMs = backoffDelayMs(reservation.attempt, parts.limits.retryBackoff);
      if (
        await write('put the job back for its next attempt', () =>
          parts.store.retryLater(lease, delayMs, failure.message),
        )
      )
        publishQueued();
    } catch (problem) {
      log.error(
        { err: problem },
        'the end of an attempt could not be written; its lease will run out and it is taken again',
      );
    }
  }

  function isNobodysFault(error: EngineError): boolean {
    if (error.code === 'engine_unavailable') return true;
    if (!error.bystander) return false;
    const count = (bystanders.get(job.id) ?? 0) + 1;
    bystanders.set(job.id, count);
    return count <= parts.limits.maxBystanderReleases;
  }

  async function handBack(reason: string): Promise<void> {
    log.info({ reason }, 'job handed back');
    if (await write('hand the job back', () => parts.store.release(lease))) publishQueued();
  }

  function publishQueued(): void {
    parts.events.publish(job.id, {
      event: 'state',
      data: { status: 'queued', attempts: reservation.attempt, assets: [] },
    });
  }

  async function end(
    how: 'finish' | 'deadLetter',
    failure: JobFailure,
    status: 'failed' | 'cancelled',
  ): Promise<boolean> {
    const result = endWithoutResult(status, {
      jobId: job.id,
      failure,
      attempts: reservation.attempt,
      version: parts.version,
      callback: buildCallback,
    });
    const written = await write('record the failure', () =>
      how === 'finish'
        ? parts.store.finish(lease, result)
        : parts.store.deadLetter(lease, failure.message, { ...result, job: identity }),
    );
    if (!written) return false;
    log.info({ status, error_type: failure.type }, 'job ended without a result');
    finished(result, factsWithoutResult(identity, status, failure.type));
    return true;
  }

  function finished(result: FinishedJob, facts: FinishedJobFacts): void {
    bystanders.delete(job.id);
    parts.events.publish(job.id, {
      event: 'state',
      data: {
        status: result.status,
        attempts: reservation.attempt,
        assets: result.assets,
        ...(result.errorMessage === undefined ? {} : { error_message: result.errorMessage }),
      },
    });
    parts.metrics.jobFinished(facts);
    parts.onFinished(facts);
  }
}

function isInterrupt(signal: AbortSignal, kind: JobInterrupt['kind']): boolean {
  return signal.aborted && signal.reason instanceof JobInterrupt && signal.reason.kind === kind;
}
