import { errors } from '../../errors/codes.js';

export interface LineOptions {
  /** Requests at the model together. */
  places: number;
  /** Requests that may wait for a place. */
  maxWaiting: number;
}

/** Before any request has been measured. */
const firstGuessSeconds = 2;
/** Weight of the newest duration in the running mean. */
const newestWeight = 0.2;

/** First come, first served. Beyond the limit a request is turned away at once, with the time after which another try makes sense. */
export function createLine({ places, maxWaiting }: LineOptions) {
  const waiting: Array<() => void> = [];
  let taken = 0;
  let meanSeconds = firstGuessSeconds;

  function leave(startedMs: number): void {
    const seconds = (performance.now() - startedMs) / 1000;
    meanSeconds += (seconds - meanSeconds) * newestWeight;
    const next = waiting.shift();
    if (next === undefined) taken -= 1;
    else next();
  }

  /** Resolves with the function that gives the place back. `patient` requests (of jobs) are never turned away. Rejects with the signal's reason. */
  function enter(signal: AbortSignal, { patient }: { patient: boolean }): Promise<() => void> {
    if (signal.aborted) return Promise.reject(signal.reason as Error);
    if (taken < places) {
      taken += 1;
      return Promise.resolve(once(performance.now()));
    }
    if (!patient && waiting.length >= maxWaiting) {
      const retryAfterSeconds = Math.max(1, Math.ceil((meanSeconds * waiting.length) / places));
      return Promise.reject(errors.tooManyRequests.with({ retryAfterSeconds }, 'Too many prompts wait for the model; try again later'));
    }
    return new Promise((resolve, reject) => {
      const go = () => {
        signal.removeEventListener('abort', giveUp);
        resolve(once(performance.now()));
      };
      const giveUp = () => {
        waiting.splice(waiting.indexOf(go), 1);
        reject(signal.reason as Error);
      };
      waiting.push(go);
      signal.addEventListener('abort', giveUp, { once: true });
    });
  }

  function once(startedMs: number): () => void {
    let left = false;
    return () => {
      if (left) return;
      left = true;
      leave(startedMs);
    };
  }

  return { enter, busy: () => taken, waiting: () => waiting.length };
}
export type Line = ReturnType<typeof createLine>;
