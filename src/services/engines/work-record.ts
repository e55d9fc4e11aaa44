import type { EngineMethod } from '../../inference/engine-protocol.js';
import type { EngineOperation } from './engine-status.js';
import type { EngineError } from './engine-error.js';

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

  const operated = (ok: boolean, message: string | null) => {
    lastOperation = { ok, atMs: Date.now(), message };
  };

  return {
    processStarted(): void {
      jobsOfProcess = 0;
      failuresInRow = 0;
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
    died(why: string): void {
      errorCount += 1;
      operated(false, why);
    },
    works: () => lastOperation?.ok !== false,
    failuresInRow: () => failuresInRow,
    jobsOfProcess: () => jobsOfProcess,
    view: () => ({ jobsProcessed, lastJobAtMs, errorCount, failuresInRow, lastOperation }),
  };
}
export type WorkRecord = ReturnType<typeof createWorkRecord>;
