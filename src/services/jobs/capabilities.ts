import type { Logger } from 'pino';
import { orAborted, wait } from '../../lib/wait.js';
import { catalogue, jobTypesOf, type JobType, type QueueName } from '../catalogue.js';
import type { Engines } from '../engines/engines.js';
import { noVideoEncoder, type VideoEncoder } from '../../lib/video-tools.js';
import type { JobStore } from '../queue/job-store.js';
import { type Storage, StorageError } from '../storage/storage.js';

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
      const isElsewhere = (type: JobType) => now() - (seenAtMs.get(type) ?? -Infinity) <= patienceMs;
      // Before anything is taken here only to fail: another instance may have come a moment ago.
      if (now() - lookedAtMs >= refreshMs || !impossible.every(isElsewhere)) {
        for (const instance of await store.instances()) {
          const possible = instance.status['job_types'];
          if (instance.workerId !== workerId && Array.isArray(possible))
            for (const type of possible) seenAtMs.set(type, now());
        }
        lookedAtMs = now();
      }
      return impossible.filter(isElsewhere);
    },
  };
}
export type Capabilities = ReturnType<typeof createCapabilities>;

export interface FitnessOptions {
  /** Why whoever is told of jobs refuses this worker; null when it does not. */
  refusal: () => string | null;
  /** Why files have no room here; absent: nobody looks. */
  room?: () => string | null;
  log: Pick<Logger, 'error' | 'info'>;
  /** How often a storage that refuses is asked again, milliseconds. */
  probeMs?: number;
  /** The longest rest after a storage that was well when asked refused a job again. */
  longestRestMs?: number;
  /** How often a runner that waits looks. */
  lookMs?: number;
  /** Monotonic, milliseconds. */
  now?: () => number;
}

const probeTimeoutMs = 15_000;

/**
 * Whether this worker may take jobs: not while the storage or the receiver of callbacks refuses the worker as
 * such (an expired key, the wrong role, a function that is not deployed), and not while its disk is full. Such a
 * fault is nobody's job's: jobs go back uncharged, others may take them, and the worker takes none until it is cured.
 */
export function createFitness({
  refusal,
  room = () => null,
  log,
  probeMs = 5000,
  longestRestMs = 300_000,
  lookMs = 500,
  now = () => performance.now(),
}: FitnessOptions) {
  let storage: Storage | undefined;
  /** Nothing is taken before the storage has been asked once. */
  let isKnown = false;
  let fault: string | null = null;
  let relapses = 0;
  let restUntilMs = -Infinity;
  let probeAtMs = -Infinity;
  let probing: Promise<void> | undefined;
  let told = '';
  const listeners = new Set<() => void>();

  const reasons = (): string[] => [fault, refusal(), room()].filter((reason) => reason !== null);

  function tell(): void {
    const text = reasons().join('; ');
    if (text === told) return;
    if (text !== '') log.error({ event: 'unfit', reasons: reasons() }, `no jobs are taken: ${text}`);
    else log.info({ event: 'fit' }, 'jobs are taken again');
    told = text;
  }

  function note(message: string): void {
    const isNew = fault === null;
    fault = message;
    tell();
    if (isNew) for (const listener of listeners) listener();
  }

  /** The storage refused what a job needs, though it may have been well when asked. */
  function relapse(message: string): void {
    if (fault === null) {
      relapses += 1;
      const restMs = relapses === 1 ? 0 : Math.min(longestRestMs, probeMs * 2 ** (relapses - 1));
      restUntilMs = now() + restMs;
    }
    note(message);
  }

  async function probe(): Promise<void> {
    probeAtMs = now() + probeMs;
    try {
      await storage?.ping(AbortSignal.timeout(probeTimeoutMs));
      if (now() >= restUntilMs) fault = null;
    } catch {
      // A fault of the worker is noted by `watch`; a storage that does not answer is waited for by uploads.
    }
    isKnown = true;
    tell();
  }

  function watching<Args extends unknown[], T>(
    call: (...args: Args) => Promise<T>,
    onFault: (message: string) => void,
    onSuccess = () => {},
  ) {
    return async (...args: Args): Promise<T> => {
      try {
        const answer = await call(...args);
        onSuccess();
        return answer;
      } catch (error) {
        if (isWorkersFault(error)) onFault(error.message);
        throw error;
      }
    };
  }

  return {
    reasons,
    /** Why the storage refuses this worker; null while it does not. */
    fault: () => fault,
    isFit: () => reasons().length === 0,
    /** Resolves when jobs may be taken. */
    async whenFit(signal: AbortSignal): Promise<void> {
      for (;;) {
        signal.throwIfAborted();
        if (!isKnown || (fault !== null && now() >= probeAtMs)) {
          probing ??= probe().finally(() => {
            probing = undefined;
          });
          await orAborted(probing, signal);
        }
        tell();
        if (reasons().length === 0) return;
        await wait(lookMs, signal);
      }
    },
    /** Called when a storage that was well refuses. Returns the unsubscribe function. */
    onFault(listener: () => void): () => void {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
    /** The same storage, with an eye on what it says of this worker, whoever asks it. */
    watch(watched: Storage): Storage {
      storage = {
        ...watched,
        put: watching(watched.put, relapse, () => {
          relapses = 0;
        }),
        // A bucket closed to this key may be one that the job had no business to name: the probe decides.
        read: watching(
          (...request: Parameters<Storage['read']>) =>
            watched.read(...request).catch(async (error: unknown) => {
              if (!isWorkersFault(error)) throw error;
              await watched.ping(AbortSignal.timeout(probeTimeoutMs)).catch((fault: unknown) => {
                if (isWorkersFault(fault)) throw fault;
              });
              throw new StorageError(error.message, error.code, false, { origin: 'job', cause: error });
            }),
          note,
        ),
        addressOf: watching(watched.addressOf, relapse),
        ping: watching(watched.ping, note),
      };
      return storage;
    },
  };
}
export type Fitness = ReturnType<typeof createFitness>;

export const isWorkersFault = (error: unknown): error is StorageError =>
  error instanceof StorageError && error.origin === 'worker';
