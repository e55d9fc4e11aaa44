import type { EngineMethod, MemoryReport } from '../../inference/engine-protocol.js';
import { mebibyte } from '../../lib/units.js';
import type { EngineError } from './engine-error.js';
import type { EngineProcess } from './engine-process.js';
import type { EngineOperation } from './engine-status.js';

/** Requests that are a job's computing, and so tell whether the device still works. */
export const isJob = (method: EngineMethod): boolean => method.endsWith('.generate');

/** What one engine has done, over all of its processes. */
export function createWorkRecord() {
  let jobsProcessed = 0;
  let jobsOfProcess = 0;
  let lastJobAtMs: number | null = null;
  let errorCount = 0;
  let failuresInRow = 0;
  let lastOperation: EngineOperation | null = null;
  let loadProblem: string | null = null;
  let nextStartAtMs: number | null = null;

  const operated = (ok: boolean, message: string | null) => {
    lastOperation = { ok, atMs: Date.now(), message };
  };

  return {
    processStarted(): void {
      jobsOfProcess = 0;
      failuresInRow = 0;
    },
    becameReady(): void {
      loadProblem = null;
    },
    /** The warm-up is a small job: the device works. */
    warmedUp: () => operated(true, null),
    jobSucceeded(): void {
      jobsProcessed += 1;
      jobsOfProcess += 1;
      lastJobAtMs = Date.now();
      failuresInRow = 0;
      operated(true, null);
    },
    /** An answer that is an error; the death of the process is told by `died`. */
    requestFailed(method: EngineMethod, error: EngineError): void {
      if (error.code === 'cancelled' || error.code === 'invalid_parameters' || error.code === 'engine_died')
        return;
      errorCount += 1;
      if (!isJob(method)) return;
      failuresInRow += 1;
      operated(false, error.message);
    },
    /** `problem`: what it said itself while it started; null when it died at work, or without a word. */
    died(why: string, problem: string | null): void {
      errorCount += 1;
      loadProblem = problem;
      operated(false, why);
    },
    /** After an end nobody asked for; null: it starts when somebody asks, or has started. */
    waitsUntil(ms: number | null): void {
      nextStartAtMs = ms;
    },
    works: () => lastOperation?.ok !== false,
    failuresInRow: () => failuresInRow,
    jobsOfProcess: () => jobsOfProcess,
    view: () => ({
      jobsProcessed,
      lastJobAtMs,
      errorCount,
      failuresInRow,
      lastOperation,
      loadProblem,
      nextStartAtMs,
    }),
  };
}
export type WorkRecord = ReturnType<typeof createWorkRecord>;

/**
 * Main memory of an engine's process: asked for while it is idle, told by its heartbeat in between. A process
 * that has grown by more than `growthLimitBytes` since it was ready is to be replaced; 0 for never.
 */
export function createMemoryWatch({ growthLimitBytes }: { growthLimitBytes: number }) {
  const limit = growthLimitBytes > 0 ? growthLimitBytes : Infinity;
  let report: MemoryReport | null = null;
  let rssAtReady: number | null = null;
  let paused = false;

  const growth = () => (report === null || rssAtReady === null ? 0 : report.rssBytes - rssAtReady);
  const mebibytes = (bytes: number) => Math.round(bytes / mebibyte);

  return {
    report: () => report,
    /** Nothing new may begin until the idle process has been measured. */
    paused: () => paused,
    beat(rssBytes: number): void {
      if (report !== null) report = { ...report, rssBytes };
    },
    /**
     * Under steady load one request begins before the last has ended, and the process would never be idle to
     * be measured. A beat includes what a request works with.
     */
    pauseIfGrown(): void {
      paused = growth() > limit;
    },
    /** Asks the idle process. Resolves with the reason to replace it, if there is one. */
    async measure(process: EngineProcess): Promise<string | null> {
      try {
        report = await process.call('memory', {});
        rssAtReady ??= report.rssBytes;
        return growth() > limit
          ? `its memory grew by ${mebibytes(growth())} MiB to ${mebibytes(report.rssBytes)} MiB`
          : null;
      } finally {
        paused = false;
      }
    },
    processEnded(): void {
      report = null;
      rssAtReady = null;
      paused = false;
    },
  };
}
export type MemoryWatch = ReturnType<typeof createMemoryWatch>;
