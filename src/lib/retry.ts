import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';

export interface BackoffOptions {
  baseMs: number;
  maxMs: number;
  /** Share of the delay that is random, 0–1: 0.25 spreads a delay of 10 s over 7.5–12.5 s. */
  jitter: number;
  /** Uniform in [0, 1); tests pass their own. */
  random?: () => number;
}

/**
 * Delay before the n-th retry in a row (n from 1): `base × 2^(n−1)`, capped, then spread by the jitter.
 * Milliseconds.
 */
export function backoffDelayMs(
  n: number,
  { baseMs, maxMs, jitter, random = Math.random }: BackoffOptions,
): number {
  const plain = Math.min(maxMs, baseMs * 2 ** Math.max(0, n - 1));
  return Math.round(plain * (1 + jitter * (2 * random() - 1)));
}

/**
 * Tries a write to the store until it answers, for up to `limitMs`. What a job leaves behind must reach the
 * store through an outage of it; when that lasts too long the lease runs out and the job is run again, which
 * is safe.
 */
export async function persistently<T>(
  action: () => Promise<T>,
  {
    what,
    log,
    backoff,
    limitMs = 600_000,
  }: { what: string; log: Logger; backoff: BackoffOptions; limitMs?: number },
): Promise<T> {
  const deadlineMs = Date.now() + limitMs;
  for (let tries = 1; ; tries += 1) {
    try {
      return await action();
    } catch (error) {
      const delayMs = backoffDelayMs(tries, backoff);
      if (Date.now() + delayMs > deadlineMs) throw error;
      log.warn({ err: error, tries }, `could not ${what}; trying again`);
      await sleep(delayMs, undefined, { ref: false });
    }
  }
}
