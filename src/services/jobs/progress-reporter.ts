import type { BuildCallback } from '../outbound/index.js';
import type { JobProgress } from '../queue/job-store.js';
import type { EventLog } from './job-events.js';
import type { Attempt } from './attempt.js';
import type { RunnerContext } from './runner-context.js';
import type { ProgressTracker, TimedStage } from './progress-estimator.js';

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
