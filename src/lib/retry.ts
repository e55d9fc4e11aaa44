import { setTimeout as sleep } from 'node:timers/promises';
import { wait } from './wait.js';

export interface BackoffOptions {
  baseMs: number;
  maxMs: number;
  /** Share of the delay that is random, 0–1: 0.25 spreads a delay of 10 s over 7.5–12.5 s. */
  jitter: number;
  /** Uniform in [0, 1); tests pass their own. */
  random?: () => number;
}

/** Delay before the n-th retry in a row (n from 1): `base × 2^(n−1)`, capped, then spread. Milliseconds. */
export function backoffDelayMs(
  n: number,
  { baseMs, maxMs, jitter, random = Math.random }: BackoffOptions,
): number {
  const plain = Math.min(maxMs, baseMs * 2 ** Math.max(0, n - 1));
  return Math.round(plain * (1 + jitter * (2 * random() - 1)));
}

interface RetryOptions {
  backoff: BackoffOptions;
  /** No retry begins later than this after the first try. */
  limitMs?: number;
  /** Tries at most. */
  attempts?: number;
  /** Ends the wait for the next try; what is thrown then is its reason. */
  signal?: AbortSignal;
  isRetryable?: (error: unknown) => boolean;
  /** What the failure itself asks to wait at least, milliseconds. */
  afterMs?: (error: unknown) => number;
  onRetry?: (error: unknown, tries: number, delayMs: number) => void;
  /** Monotonic, milliseconds. */
  now?: () => number;
}

/** Repeats an action until it succeeds. @throws what its last try threw */
export async function retry<T>(action: () => Promise<T>, options: RetryOptions): Promise<T> {
  const { backoff, limitMs = Infinity, attempts = Infinity, signal, now = () => performance.now() } = options;
  const deadlineMs = now() + limitMs;
  for (let tries = 1; ; tries += 1) {
    try {
      return await action();
    } catch (error) {
      signal?.throwIfAborted();
      const delayMs = Math.max(options.afterMs?.(error) ?? 0, backoffDelayMs(tries, backoff));
      if (tries >= attempts || options.isRetryable?.(error) === false || now() + delayMs > deadlineMs)
        throw error;
      options.onRetry?.(error, tries, delayMs);
      await (signal === undefined ? sleep(delayMs, undefined, { ref: false }) : wait(delayMs, signal));
    }
  }
}

/**
 * What a `Retry-After` header asks to wait, seconds or a date, in milliseconds; null when it says nothing.
 */
export function retryAfterMs(header: unknown, nowMs = Date.now()): number | null {
  if (typeof header !== 'string' || header.trim() === '') return null;
  const seconds = Number(header);
  const ms = Number.isFinite(seconds) ? seconds * 1000 : Date.parse(header) - nowMs;
  return Number.isNaN(ms) ? null : Math.max(0, ms);
}
