import type { MemoryReport } from '../../inference/engine-protocol.js';
import { mebibyte } from '../../lib/units.js';
import type { EngineProcess } from './engine-process.js';

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
