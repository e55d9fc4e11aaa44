import type { Logger } from 'pino';
import type { Engines } from '../engines/engines.js';
import { errors } from '../../lib/errors.js';
import { createSemaphore } from '../../lib/semaphore.js';

export interface WaitingRoomOptions {
  /** Requests at the model together. */
  places: number;
  /** Requests that may wait for a place. */
  maxWaiting: number;
}

/** Before any request has been measured. */
const firstGuessSeconds = 2;
/** Weight of the newest duration in the running mean. */
const newestWeight = 0.2;

/**
 * First come, first served. Beyond the limit a request is turned away at once, with the time after which
 * another try makes sense.
 */
export function createWaitingRoom({ places, maxWaiting }: WaitingRoomOptions) {
  const semaphore = createSemaphore(places);
  let meanSeconds = firstGuessSeconds;

  /**
   * Resolves with the function that gives the place back. `patient` requests (of jobs) are never turned away.
   * Rejects with the signal's reason.
   */
  async function enter(signal: AbortSignal, { patient }: { patient: boolean }): Promise<() => void> {
    signal.throwIfAborted();
    if (!patient && semaphore.free() === 0 && semaphore.waiting() >= maxWaiting) {
      const retryAfterSeconds = Math.max(1, Math.ceil((meanSeconds * semaphore.waiting()) / places));
      throw errors.tooManyRequests.with(
        { retryAfterSeconds },
        'Too many prompts wait for the model; try again later',
      );
    }
    const release = await semaphore.acquire(signal);
    const startedMs = performance.now();
    let left = false;
    return () => {
      if (left) return;
      left = true;
      meanSeconds += ((performance.now() - startedMs) / 1000 - meanSeconds) * newestWeight;
      release();
    };
  }

  return { enter, busy: () => places - semaphore.free(), waiting: semaphore.waiting };
}

export interface ResidencyOptions {
  engines: Pick<Engines, 'has' | 'release' | 'status' | 'whenReady'>;
  log: Logger;
  /** The model is unloaded when nobody has asked it for this long; 0 for never. */
  idleMs: number;
}

/**
 * Keeps the model in memory while it is asked, and no longer: its process is ended, which gives all of its
 * memory back.
 */
export function createResidency({ engines, log, idleMs }: ResidencyOptions) {
  let inUse = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  function restTimer(): void {
    clearTimeout(timer);
    if (idleMs === 0 || inUse > 0 || stopped) return;
    timer = setTimeout(
      () => void unload(`nobody asked it for ${Math.round(idleMs / 1000)} s`),
      idleMs,
    ).unref();
  }

  /** Ends the process after its requests. */
  async function unload(why: string): Promise<void> {
    if (['stopped', 'failed', 'backing_off'].includes(engines.status('qwen').state)) return;
    log.info({ engine: 'qwen', why }, 'qwen model unloaded');
    try {
      await engines.release('qwen', { force: false });
    } catch (error) {
      log.warn({ engine: 'qwen', err: error }, 'qwen model not unloaded');
    }
  }

  return {
    /** While `work` runs the model stays. */
    async during<T>(work: () => Promise<T>): Promise<T> {
      inUse += 1;
      clearTimeout(timer);
      try {
        return await work();
      } finally {
        inUse -= 1;
        restTimer();
      }
    },
    /** Starts loading; whoever needs the model a moment later waits less. */
    preload(): void {
      if (stopped || !engines.has('qwen')) return;
      void engines
        .whenReady('qwen', {})
        .then(restTimer, (error: unknown) =>
          log.debug({ engine: 'qwen', err: error }, 'qwen model not preloaded'),
        );
    },
    stop(): void {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
