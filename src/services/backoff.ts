export interface BackoffOptions {
  baseMs: number;
  maxMs: number;
  /** Share of the delay that is random, 0–1: 0.25 spreads a delay of 10 s over 7.5–12.5 s. */
  jitter: number;
  /** Uniform in [0, 1); tests pass their own. */
  random?: () => number;
}

/** Delay before the n-th retry in a row (n from 1): `base × 2^(n−1)`, capped, then spread by the jitter. Milliseconds. */
export function backoffDelayMs(n: number, { baseMs, maxMs, jitter, random = Math.random }: BackoffOptions): number {
  const plain = Math.min(maxMs, baseMs * 2 ** Math.max(0, n - 1));
  return Math.round(plain * (1 + jitter * (2 * random() - 1)));
}
