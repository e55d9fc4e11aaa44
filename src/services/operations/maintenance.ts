import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Engines } from '../engines/engines.js';
import type { Health } from '../engines/engine-status.js';
import type { Capabilities } from '../jobs/capabilities.js';
import type { Outlook } from '../jobs/outlook.js';
import type { Runner } from '../jobs/runner.js';
import type { ReferenceUploads } from '../references/uploads.js';
import type { JobStore } from '../queue/job-store.js';

interface MaintenanceOptions {
  store: Pick<JobStore, 'reclaimExpired' | 'announce'>;
  engines: Pick<Engines, 'statuses'>;
  health: () => Health;
  runners: ReadonlyArray<Pick<Runner, 'queue' | 'engine' | 'inFlight'>>;
  capabilities: Pick<Capabilities, 'possible'>;
  outlook: Pick<Outlook, 'announced'>;
  workerId: string;
  leaseMs: number;
  announceMs?: number;
  /** Removes references whose time is over. */
  uploads: Pick<ReferenceUploads, 'clean'>;
  log: Logger;
}

/** A store that does not answer holds nobody up. */
const goodbyeMs = 1000;
const uploadsMs = 600_000;

/**
 * What every instance does beside running jobs: takes back jobs whose runner is gone, and says that it is
 * there.
 */
export function createMaintenance({
  store,
  engines,
  runners,
  capabilities,
  outlook,
  health,
  workerId,
  leaseMs,
  announceMs = 10_000,
  uploads,
  log,
}: MaintenanceOptions) {
  const timers: NodeJS.Timeout[] = [];
  const startedAtMs = Date.now();
  const busy = new Set<string>();

  async function reclaim(): Promise<void> {
    const ids = await store.reclaimExpired();
    if (ids.length > 0)
      log.warn({ job_ids: ids.slice(0, 20), count: ids.length }, 'requeued jobs whose worker is gone');
  }

  async function announce(knownForMs = 3 * announceMs): Promise<void> {
    await store.announce(
      {
        workerId,
        host: hostname(),
        pid: process.pid,
        startedAtMs,
        seenAtMs: Date.now(),
        status: {
          health: health(),
          engines: Object.fromEntries(
            engines
              .statuses()
              .map(({ kind, state, jobsProcessed, errorCount }) => [
                kind,
                { state, jobs_processed: jobsProcessed, error_count: errorCount },
              ]),
          ),
          ...outlook.announced(),
          job_types: runners.flatMap(({ queue }) => capabilities.possible(queue)),
          jobs: runners.flatMap((runner) =>
            runner.inFlight().map(({ id, type, phase }) => ({ id, type, phase, worker: runner.engine })),
          ),
        },
      },
      knownForMs,
    );
  }

  /** A round that is still waiting for the store is not joined by another one. */
  function every(ms: number, name: string, action: () => Promise<void>): void {
    const round = () => {
      if (busy.has(name)) return;
      busy.add(name);
      action()
        .catch((error: unknown) => log.warn({ err: error }, `${name} failed`))
        .finally(() => busy.delete(name));
    };
    round();
    timers.push(setInterval(round, ms).unref());
  }

  return {
    start(): void {
      every(Math.max(1000, leaseMs / 3), 'requeueing jobs with expired leases', reclaim);
      every(announceMs, 'announcing this instance', () => announce());
      every(uploadsMs, 'removing old references', () => uploads.clean(AbortSignal.timeout(uploadsMs)));
    },
    /** Nobody is to count on it any more, nor wait for its announcement to run out. */
    async stop(): Promise<void> {
      timers.forEach((timer) => clearInterval(timer));
      await Promise.race([
        announce(0).catch((error: unknown) =>
          log.debug({ err: error }, 'could not remove this instance from the list'),
        ),
        sleep(goodbyeMs, undefined, { ref: false }),
      ]);
    },
  };
}
