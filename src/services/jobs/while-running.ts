import { context, propagation, ROOT_CONTEXT, SpanKind, trace, type Span } from '@opentelemetry/api';
import type { Logger } from 'pino';
import type { EngineEvent } from '../../inference/engine-protocol.js';
import { markFailed, tracer, type TraceCarrier } from '../../lib/trace.js';
import type { BuildCallback } from '../outbound/index.js';
import type { JobProgress, JobStore, Lease, Reservation } from '../queue/job-store.js';
import type { Attempt } from './attempt.js';
import type { EventLog } from './event-log.js';
import { JobInterrupt } from './failure.js';
import type { ValidJob } from './payload.js';
import type { ProgressTracker, TimedStage } from './progress-estimator.js';
import type { RunnerContext } from './runner-context.js';

export interface ProgressReporterOptions {
  jobId: string;
  tracker: ProgressTracker;
  events: EventLog;
  /** Writes to the store; errors are the caller's to log. */
  write: (progress: JobProgress) => Promise<void>;
  /** At most one write to the store per this many milliseconds; followers of the events see every step. */
  intervalMs: number;
}

/**
 * Tells followers of every step at once, and the store now and then: a write per step would cost more than
 * the step.
 */
export function createProgressReporter({
  jobId,
  tracker,
  events,
  write,
  intervalMs,
}: ProgressReporterOptions) {
  let latest: JobProgress | null = null;
  let writtenStage = '';
  let writtenAtMs = -Infinity;
  let timer: NodeJS.Timeout | null = null;
  let writing: Promise<void> = Promise.resolve();
  let stopped = false;

  function flush(): void {
    if (timer !== null) clearTimeout(timer);
    timer = null;
    if (latest === null || stopped) return;
    const progress = latest;
    latest = null;
    writtenStage = progress.stage;
    writtenAtMs = performance.now();
    writing = writing.then(() => (stopped ? undefined : write(progress)));
  }

  return {
    report(stage: TimedStage, step = 0, steps = 0): JobProgress {
      const progress = tracker.at(stage, step, steps);
      if (stopped) return progress;
      events.publish(jobId, { event: 'progress', data: progress });
      latest = progress;
      const dueInMs = writtenAtMs + intervalMs - performance.now();
      if (stage !== writtenStage || dueInMs <= 0) flush();
      else timer ??= setTimeout(flush, dueInMs).unref();
      return progress;
    },
    /** No write starts after this; resolves when the running one is done. */
    async stop(): Promise<void> {
      stopped = true;
      if (timer !== null) clearTimeout(timer);
      await writing;
    },
  };
}

/** Writes an attempt's progress to the store, and now and then into a callback. */
export function createProgressWriter({
  attempt: { job, reservation, controller },
  context: { store, limits, version },
  buildCallback,
}: {
  attempt: Attempt;
  context: Pick<RunnerContext, 'store' | 'limits' | 'version'>;
  buildCallback: BuildCallback;
}) {
  let calledBackAtMs = performance.now();
  let calls = 0;
  return async (progress: JobProgress): Promise<void> => {
    await store.updateProgress(reservation.lease, progress);
    const everyMs = limits.progressCallbackMs;
    if (everyMs === 0 || performance.now() - calledBackAtMs < everyMs || controller.signal.aborted) return;
    calledBackAtMs = performance.now();
    calls += 1;
    const { etaSeconds, ...rest } = progress;
    const { attempt } = reservation;
    const metadata = { ...rest, eta_seconds: etaSeconds, attempt, worker_version: version };
    const entry = buildCallback('progress', { jobId: job.id, assets: [], metadata });
    if (entry !== undefined) await store.outbox.add({ ...entry, id: `${entry.id}:${attempt}.${calls}` });
  };
}

/**
 * Renews a lease at a third of its time while the job runs, and aborts the job when the lease is lost or a
 * cancellation shows up. A store that does not answer is no lost lease: whoever takes the job over is fenced
 * off by the lease itself, so the work goes on and the last write decides.
 */
export function keepLease({
  store,
  lease,
  leaseMs,
  job,
  log,
}: {
  store: JobStore;
  lease: Lease;
  leaseMs: number;
  job: AbortController;
  log: Logger;
}) {
  let stopped = false;
  let timer: NodeJS.Timeout;

  function schedule(delayMs: number): void {
    if (stopped) return;
    timer = setTimeout(() => void renew(), delayMs);
    timer.unref();
  }

  async function renew(): Promise<void> {
    try {
      const { held, cancelRequested } = await store.renew(lease, leaseMs);
      if (stopped) return;
      if (!held) return job.abort(new JobInterrupt('lease_lost'));
      if (cancelRequested) job.abort(new JobInterrupt('cancelled'));
      schedule(leaseMs / 3);
    } catch (error) {
      log.warn({ err: error }, 'the lease could not be renewed; trying again');
      schedule(leaseMs / 10);
    }
  }

  schedule(leaseMs / 3);
  return {
    stop(): void {
      stopped = true;
      clearTimeout(timer);
    },
  };
}

/**
 * One attempt as a span under its producer's (the payload's `traceparent`), its stages as spans under that.
 * Does nothing while tracing is off.
 */
export function traceAttempt({
  job,
  reservation,
  engine,
}: {
  job: ValidJob;
  reservation: Reservation;
  engine: string;
}) {
  const parent = propagation.extract(ROOT_CONTEXT, carrierOf(job));
  const span = tracer().startSpan(
    `job ${job.type}`,
    {
      kind: SpanKind.CONSUMER,
      attributes: {
        'job.id': job.id,
        'job.type': job.type,
        'job.attempt': reservation.attempt,
        'job.queue': reservation.lease.queue,
        'job.worker': engine,
        'job.queued_seconds': (Date.now() - reservation.queuedAtMs) / 1000,
      },
    },
    parent,
  );
  const own = trace.setSpan(parent, span);
  let engineSpan: Span | undefined;
  let engineStage: string | undefined;

  function endEngineStage(): void {
    engineSpan?.end();
    engineSpan = engineStage = undefined;
  }

  return {
    /** `work` and the requests it makes, as one stage. */
    async stage<T>(name: string, work: () => Promise<T>): Promise<T> {
      const stage = tracer().startSpan(name, {}, own);
      try {
        return await context.with(trace.setSpan(own, stage), work);
      } catch (error) {
        markFailed(stage, error);
        throw error;
      } finally {
        endEngineStage();
        stage.end();
      }
    },
    /** The engine tells its stages as they begin. */
    engineEvent(event: EngineEvent): void {
      if (event.kind !== 'progress' || event.stage === engineStage) return;
      endEngineStage();
      engineStage = event.stage;
      engineSpan = tracer().startSpan(`engine ${event.stage}`, {}, own);
    },
    /** For what goes on after the attempt: its callbacks. */
    carrier(): TraceCarrier {
      const carrier: TraceCarrier = {};
      propagation.inject(own, carrier);
      return carrier;
    },
    end(outcome: string, error?: unknown): void {
      span.setAttribute('job.outcome', outcome);
      if (error !== undefined) markFailed(span, error);
      span.end();
    },
  };
}

/** Unchecked text of a producer: what is no trace context is none. */
function carrierOf({ traceparent, tracestate }: ValidJob): TraceCarrier {
  if (typeof traceparent !== 'string') return {};
  return { traceparent, ...(typeof tracestate === 'string' ? { tracestate } : {}) };
}
