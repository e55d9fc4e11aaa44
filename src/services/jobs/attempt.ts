import { mkdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import type { EngineEvent } from '../../inference/engine-protocol.js';
import { orAborted } from '../../lib/wait.js';
import { catalogue } from '../catalogue.js';
import type { BuildCallback } from '../outbound/index.js';
import type { Reservation } from '../queue/job-store.js';
import { JobInterrupt } from './failure.js';
import { createJobOutcome, type HandBackCounts } from './job-outcome.js';
import { requestOf } from './metadata.js';
import type { EnhancementOutcome, GenerateOutcome, GenerationPlan, PlannedReference } from './plan.js';
import type { Permits } from './pipeline-permits.js';
import { createProgressReporter, createProgressWriter, keepLease, traceAttempt } from './while-running.js';
import { createStoreWriter, type RunnerContext } from './runner-context.js';
import { storedFilesOf, uploadFiles } from './job-files.js';
import type { ValidJob } from './payload.js';

/** The permits of the pipeline a job passes through; each function may be called more than once. */
export interface AttemptGates {
  /** Waits for the engine to be free; the next job may be prepared from then on. Returns what frees it. */
  enterCompute: (signal: AbortSignal) => Promise<() => void>;
  lettingOthersPass: Permits['lettingOthersPass'];
  onEngineProgress: (etaSeconds: number | null) => void;
}

export interface Attempt {
  reservation: Reservation;
  job: ValidJob;
  /** Aborted with a `JobInterrupt`. */
  controller: AbortController;
  phase: 'preparing' | 'computing' | 'finishing';
}

type References = Map<PlannedReference['role'], string>;
type Report = ReturnType<typeof createProgressReporter>['report'];

/**
 * One attempt at one valid job, from its first callback to its terminal write, its retry or its hand-back.
 * Never throws. Every step can run twice with the same result; every write is fenced by the lease.
 */
export async function runAttempt(
  attempt: Attempt,
  gates: AttemptGates,
  context: RunnerContext,
  handBacks: HandBackCounts,
): Promise<void> {
  const { reservation, job, controller } = attempt;
  const { lease } = reservation;
  const { signal } = controller;
  const { store, events, limits, version } = context;
  const spec = catalogue[job.type];
  let stage = 'begin';
  const log = context.log.child(
    { job_id: job.id, job_type: job.type, worker: spec.engine, attempt: reservation.attempt },
    { formatters: { log: (fields) => ({ stage, ...fields }) } },
  );
  const traced = traceAttempt({ job, reservation, engine: spec.engine });
  const request = requestOf(reservation.read);
  const buildCallback: BuildCallback = (event, content) => {
    const entry = context.callback(event, {
      ...content,
      metadata: { ...content.metadata, ...request },
      writtenId: lease.writtenId || content.jobId,
    });
    return entry === undefined ? undefined : { ...entry, ...traced.carrier() };
  };
  const write = createStoreWriter(limits, log);
  const outcome = createJobOutcome({ attempt, context, handBacks, buildCallback, write, log });
  /** One stage of the pipeline: named in the log and in the trace. */
  const inStage = <T>(name: string, work: () => Promise<T>) => {
    stage = name;
    return traced.stage(name, work);
  };

  let begun: Awaited<ReturnType<typeof begin>>;
  try {
    // A queue that fails over at this moment costs the job no attempt.
    begun = await write('begin the job', begin, limits.leaseMs);
  } catch (error) {
    log.error({ err: error }, 'the job could not be begun; its lease will run out and it is taken again');
    return;
  }
  if (begun !== 'begun') return log.info({ outcome: begun }, 'reservation dropped');

  context.metrics.jobBegun(job.type, reservation);
  events.publish(job.id, {
    event: 'state',
    data: { status: 'processing', attempts: reservation.attempt, assets: [] },
  });
  const keeper = keepLease({ store, lease, leaseMs: limits.leaseMs, job: controller, log });
  if (reservation.cancelRequested) controller.abort(new JobInterrupt('cancelled'));
  let reporter: ReturnType<typeof createProgressReporter> | null = null;
  let folder: string | null = null;
  let generation: Promise<unknown> = Promise.resolve();

  try {
    signal.throwIfAborted();
    const plan = context.plan(job);
    const tracker = context.estimator.track(plan.estimateKey, plan.stages, plan.takingTurns, job.type);
    const sendProgress = createProgressWriter({ attempt, context, buildCallback });
    reporter = createProgressReporter({
      jobId: job.id,
      tracker,
      events,
      intervalMs: limits.progressIntervalMs,
      write: (progress) =>
        sendProgress(progress).catch((err: unknown) => log.debug({ err }, 'progress not written')),
    });
    const { report } = reporter;
    folder = await context.workFolders.create(job.id, reservation.attempt);
    // Two folders: the engine finds its own empty.
    const [incoming, outputDir] = [path.join(folder, 'references'), path.join(folder, 'pictures')];
    await Promise.all([mkdir(incoming), mkdir(outputDir)]);

    log.info({ prompt: job.prompt }, 'job begun');
    const references = await fetchReferences(plan.references, incoming, report);
    const words = plan.prompt ?? job.prompt;
    const enhancement = await enhance(plan.enhancement, words, report);
    const prompt = enhancement?.prompt ?? words;

    stage = 'waiting';
    report('waiting');
    const releaseCompute = await gates.enterCompute(signal);
    attempt.phase = 'computing';
    const startedMs = performance.now();
    const expectedStageSeconds = context.estimator.stageSeconds(plan.estimateKey);
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
    const generated = await inStage('generate', () => orAborted(generating, signal));
    const generationSeconds = (performance.now() - startedMs) / 1000;
    attempt.phase = 'finishing';
    const uploaded = await upload(generated, report);
    signal.throwIfAborted();
    stage = 'done';
    const stageSeconds = { ...tracker.timings(), ...generated.timings };
    await outcome.complete({
      plan,
      outcome: generated,
      ...uploaded,
      prompt,
      enhancement,
      generationSeconds,
      stageSeconds,
    });
    tracker.succeeded();
    traced.end('completed');
  } catch (error) {
    await reporter?.stop();
    await outcome.settle(error);
    traced.end('ended without a result', error);
  } finally {
    keeper.stop();
    await reporter?.stop();
    const leftOver = folder;
    // The engine may still be writing for a job that was abandoned: its folder goes once it has noticed.
    if (leftOver !== null)
      void generation
        .then(() => context.workFolders.remove(leftOver))
        .catch((err: unknown) => log.warn({ err }, 'work folder not removed'));
  }

  /** `reserve` has begun the job; that it is being processed is all that is left to say. */
  async function begin(): Promise<'begun' | 'duplicate' | 'foreign' | 'lost'> {
    const processing = reservation.cancelRequested
      ? undefined
      : buildCallback('processing', {
          jobId: job.id,
          assets: [],
          metadata: { worker_version: version, attempt: reservation.attempt },
        });
    const identity = { id: job.id, type: job.type, userId: job.user_id };
    if (!reservation.begun) return store.begin(lease, identity, processing);
    if (processing !== undefined) await store.outbox.add(processing);
    return 'begun';
  }

  async function fetchReferences(
    planned: PlannedReference[],
    target: string,
    report: Report,
  ): Promise<References> {
    const files: References = new Map();
    if (planned.length === 0) return files;
    const fetchAll = async (stepAside: () => void) => {
      report('references', 0, planned.length);
      for (const reference of planned) {
        files.set(
          reference.role,
          await context.fetchReference({ ...reference, userId: job.user_id }, target, signal, stepAside),
        );
        report('references', files.size, planned.length);
      }
    };
    await inStage('references', () => gates.lettingOthersPass(signal, fetchAll));
    return files;
  }

  async function enhance(
    asked: GenerationPlan['enhancement'],
    prompt: string,
    report: Report,
  ): Promise<EnhancementOutcome | null> {
    if (asked === undefined) return null;
    const request = { jobId: job.id, userId: job.user_id, prompt, target: spec.output, ...asked };
    return inStage('enhance', async () => {
      report('enhance');
      const { success, seconds, source, ...rest } = await orAborted(context.enhance(request, signal), signal);
      log.info({ success, seconds, source }, 'prompt enhanced');
      return { success, seconds, source, ...rest };
    });
  }

  function upload(generated: GenerateOutcome, report: Report) {
    const files = storedFilesOf(job, generated).length;
    const onFile = (done: number) => report('upload', done, files);
    onFile(0);
    return inStage('upload', () => uploadFiles(job, generated, { context, signal, log, onFile }));
  }

  function onEngineEvent(event: EngineEvent, report: Report, releaseCompute: () => void): void {
    if (signal.aborted) return;
    traced.engineEvent(event);
    if (event.kind === 'computeDone') {
      attempt.phase = 'finishing';
      // Once it lost an attempt to somebody else's computing it has the engine to itself, to its end.
      if (!handBacks.has(job.id)) releaseCompute();
    } else if (event.kind === 'progress') {
      stage = event.stage;
      const { etaSeconds } = report(event.stage, event.step, event.steps);
      // Once it let the next job compute, its own time says nothing of when the engine is free.
      if (attempt.phase === 'computing' || handBacks.has(job.id)) gates.onEngineProgress(etaSeconds);
    } else if (event.kind === 'preview') {
      void publishPreview(event);
    }
  }

  async function publishPreview({
    path: file,
    image,
    images,
    step,
    contentType,
  }: Extract<EngineEvent, { kind: 'preview' }>) {
    // A preview is a courtesy; the next one replaces it.
    const bytes = await readFile(file).catch(() => null);
    if (bytes === null || signal.aborted || attempt.phase === 'finishing') return;
    const data = { image, images, step, content_type: contentType, base64: bytes.toString('base64') };
    events.publish(job.id, { event: 'preview', data });
  }
}
