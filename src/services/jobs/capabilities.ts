import { catalogue, jobTypesOf, type JobType, type QueueName } from '../catalogue.js';
import type { Engines } from '../engines/engines.js';
import { noVideoEncoder, type VideoEncoder } from '../../lib/video-tools.js';
import type { JobStore } from '../queue/job-store.js';

export interface CapabilitiesOptions {
  engines: Pick<Engines, 'has' | 'status'>;
  videoEncoder: Pick<VideoEncoder, 'available'>;
  store: Pick<JobStore, 'instances'>;
  workerId: string;
  /** How often the other instances are looked at, milliseconds. */
  refreshMs?: number;
  /** How long an instance that has gone is waited for: it may only be restarting. */
  patienceMs?: number;
  /** Monotonic, milliseconds. */
  now?: () => number;
}

/**
 * What this instance can do: the one place that decides it, for submitting, planning, taking and announcing
 * jobs.
 */
export function createCapabilities({
  engines,
  videoEncoder,
  store,
  workerId,
  refreshMs = 10_000,
  patienceMs = 300_000,
  now = () => performance.now(),
}: CapabilitiesOptions) {
  const seenAtMs = new Map<unknown, number>();
  let lookedAtMs = -Infinity;

  /** Why jobs of a type cannot be run here; null when they can. */
  function whyNot(type: JobType): string | null {
    const { engine, output } = catalogue[type];
    if (!engines.has(engine))
      return `there is no ${engine} engine: ${engines.status(engine).reason ?? 'it is not configured'}`;
    return output === 'video' && !videoEncoder.available() ? noVideoEncoder : null;
  }

  return {
    whyNot,
    /** Types of a queue that this instance announces to the others. */
    possible: (queue: QueueName): JobType[] => jobTypesOf(queue).filter((type) => whyNot(type) === null),
    /**
     * Types not possible here but at another instance on the same queue, by what that one announces
     * (`status.job_types`): their jobs are left to it. What nobody else can run is taken here, and fails with
     * its reason.
     */
    async leftToOthers(queue: QueueName): Promise<JobType[]> {
      const impossible = jobTypesOf(queue).filter((type) => whyNot(type) !== null);
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
    },
  };
}
export type Capabilities = ReturnType<typeof createCapabilities>;
