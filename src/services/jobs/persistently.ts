import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { backoffDelayMs, type BackoffOptions } from '../backoff.js';

/**
 * Tries a write to the store until it answers, for up to `limitMs`. What a job leaves behind must reach the store through
 * an outage of it; when that lasts too long the lease runs out and the job is run again, which is safe.
 */
export async function persistently<T>(action: () => Promise<T>, { what, log, backoff, limitMs = 600_000 }: { what: string; log: Logger; backoff: BackoffOptions; limitMs?: number }): Promise<T> {
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
