import type { JobStore } from '../queue/job-store.js';
import type { JobType } from '../catalogue.js';

export interface PossibleElsewhereOptions {
  store: Pick<JobStore, 'instances'>;
  workerId: string;
  /** Why jobs of a type cannot be run here; null when they can. */
  obstacle: (type: JobType) => string | null;
  /** How often the other instances are looked at, milliseconds. */
  refreshMs?: number;
  /** How long an instance that has gone is waited for: it may only be restarting. */
  patienceMs?: number;
  now?: () => number;
}

/**
 * Finds the job types that are not possible here but are at another instance on the same queue, by what that
 * one announces (`status.job_types`): their jobs are left to it. What nobody else can run is taken here, and
 * fails with its reason.
 */
export function createPossibleElsewhere({
  store,
  workerId,
  obstacle,
  refreshMs = 10_000,
  patienceMs = 300_000,
  now = Date.now,
}: PossibleElsewhereOptions) {
  const seenAtMs = new Map<unknown, number>();
  let lookedAtMs = -Infinity;

  return async (types: readonly JobType[]): Promise<JobType[]> => {
    const impossible = types.filter((type) => obstacle(type) !== null);
    if (impossible.length === 0) return [];
    if (now() - lookedAtMs >= refreshMs) {
      for (const instance of await store.instances()) {
        const possible = instance.status['job_types'];
        if (instance.workerId !== workerId && Array.isArray(possible))
          for (const type of possible) seenAtMs.set(type, now());
      }
      lookedAtMs = now();
    }
    return impossible.filter((type) => now() - (seenAtMs.get(type) ?? -Infinity) <= patienceMs);
  };
}
