import type { Test } from 'tap';
import type { JobStore } from '../../src/services/queue/job-store.js';
import { testCallbacks } from './suite/callbacks.js';
import { testCancellation } from './suite/cancellation.js';
import { testDeadLetters } from './suite/dead-letters.js';
import { testHousekeeping } from './suite/housekeeping.js';
import { testIdentity } from './suite/identity.js';
import { testLeases } from './suite/leases.js';
import { testOperating } from './suite/operating.js';
import { testSubmission } from './suite/submission.js';

/**
 * An empty store and the clock it reads; `reopen` gives another store on the same data, as a process started
 * later would.
 */
export interface Harness {
  store: JobStore;
  clock: Clock;
  reopen(): Promise<JobStore>;
}
export type OpenHarness = (t: Test, options?: { retentionMs?: number }) => Promise<Harness>;

export interface Clock {
  now(): number;
  advance(ms: number): void;
}

export function createClock(): Clock {
  let nowMs = 1_764_000_000_000;
  return {
    now: () => nowMs,
    advance: (ms) => {
      nowMs += ms;
    },
  };
}

/** What every `JobStore` must do, whatever it is made of. `open` is called for each test. */
export async function runStoreSuite(t: Test, open: OpenHarness): Promise<void> {
  await testSubmission(t, open);
  await testLeases(t, open);
  await testIdentity(t, open);
  await testDeadLetters(t, open);
  await testCancellation(t, open);
  await testCallbacks(t, open);
  await testHousekeeping(t, open);
  await testOperating(t, open);
}
