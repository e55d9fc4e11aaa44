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
