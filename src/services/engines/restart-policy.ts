import { backoffDelayMs } from '../../lib/retry.js';

interface RestartPolicyOptions {
  restartBaseMs: number;
  restartMaxMs: number;
  /** Share of the delay that is random. */
  restartJitter: number;
  stablePeriodMs: number;
  maxFailedStarts: number;
  /** 0 for never. */
  failedRetryMs: number;
  random?: () => number;
}

type RestartDecision =
  | { action: 'now' }
  | { action: 'wait'; delayMs: number }
  /** Given up for now. Null: until somebody asks. */
  | { action: 'fail'; delayMs: number | null; failedStarts: number };

/**
 * When an engine process starts again after an end nobody asked for.
 *
 * One that dies while it starts is tried again after `baseMs × 2^(n−1)`; after `maxFailedStarts` in a row the
 * engine is given up. One that dies at work is replaced at once the first time (its job is waiting for
 * another attempt), and with the same growing delay when that happens again before a request succeeded or the
 * stable period passed.
 */
export function createRestartPolicy({
  restartBaseMs: baseMs,
  restartMaxMs: maxMs,
  restartJitter: jitter,
  stablePeriodMs,
  maxFailedStarts,
  failedRetryMs,
  random,
}: RestartPolicyOptions) {
  let failedStarts = 0;
  let deathsAtWork = 0;
  const delayOf = (n: number) =>
    backoffDelayMs(n, { baseMs, maxMs, jitter, ...(random === undefined ? {} : { random }) });
  const fail = (): RestartDecision => ({
    action: 'fail',
    delayMs: failedRetryMs > 0 ? failedRetryMs : null,
    failedStarts,
  });

  return {
    /** `hopeless`: trying again changes nothing (no model there). */
    diedStarting({ hopeless }: { hopeless: boolean }): RestartDecision {
      failedStarts += 1;
      return hopeless || failedStarts >= maxFailedStarts
        ? fail()
        : { action: 'wait', delayMs: delayOf(failedStarts) };
    },
    diedAtWork({ readyMs }: { readyMs: number }): RestartDecision {
      failedStarts = 0;
      deathsAtWork = readyMs >= stablePeriodMs ? 1 : deathsAtWork + 1;
      return deathsAtWork === 1 ? { action: 'now' } : { action: 'wait', delayMs: delayOf(deathsAtWork - 1) };
    },
    ready(): void {
      failedStarts = 0;
    },
    succeeded(): void {
      deathsAtWork = 0;
    },
    /** Somebody asked for a restart: a fresh account. */
    reset(): void {
      failedStarts = 0;
      deathsAtWork = 0;
    },
  };
}
