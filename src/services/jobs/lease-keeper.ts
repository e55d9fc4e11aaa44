import type { Logger } from 'pino';
import type { JobStore, Lease } from '../queue/job-store.js';
import { JobInterrupt } from './failure.js';

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
