import { setTimeout as sleep } from 'node:timers/promises';

/**
 * Polls until `probe` gives something other than undefined, null or false, and returns it.
 * Throws with `what` (a text, or a function that says what was seen last) after `timeoutMs`.
 */
export async function waitFor<T>(
  probe: () => T | Promise<T>,
  options: { what: string | (() => string); timeoutMs?: number; intervalMs?: number },
): Promise<NonNullable<Exclude<T, false>>> {
  const { what, timeoutMs = 60_000, intervalMs = 50 } = options;
  const deadline = performance.now() + timeoutMs;
  for (;;) {
    const value = await probe();
    if (value !== undefined && value !== null && value !== false)
      return value as NonNullable<Exclude<T, false>>;
    if (performance.now() > deadline)
      throw new Error(`Waited ${timeoutMs} ms for ${typeof what === 'string' ? what : what()}`);
    await sleep(intervalMs);
  }
}
