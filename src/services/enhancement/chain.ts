import type { QwenGenerateResult } from '../../inference/generation.js';
import { wait } from '../../lib/wait.js';
import type { Strategy } from './templates.js';

/** Why an attempt gave no prompt that can be used. */
export interface AttemptFailure {
  /** A sentence for the caller, after "Enhancement failed: ". */
  reason: string;
  /**
   * `wait`: time may heal it. `at_once`: another sample may be better. `next_strategy`: this one cannot do
   * it. `stop`: no strategy can.
   */
  then: 'wait' | 'at_once' | 'next_strategy' | 'stop';
  /** For the log. */
  cause?: unknown;
}

export interface AttemptSuccess {
  text: string;
  result: QwenGenerateResult;
}

export type AttemptOutcome = ({ ok: true } & AttemptSuccess) | ({ ok: false } & AttemptFailure);

export type ChainOutcome =
  | ({ ok: true; strategy: Strategy; attempts: number; failures: string[] } & AttemptSuccess)
  | { ok: false; attempts: number; reason: string };

export interface ChainOptions {
  /** In the order they are tried. */
  strategies: readonly Strategy[];
  attempt: (strategy: Strategy, attempt: number) => Promise<AttemptOutcome>;
  /** Of each strategy. */
  maxAttempts: number;
  waitMs: number;
  signal: AbortSignal;
  onFailure?: (failure: AttemptFailure & { strategy: Strategy; attempt: number }) => void;
}

/** Tries strategies and attempts until one gives a prompt. Rejects with the signal's reason. */
export async function runChain({
  strategies,
  attempt,
  maxAttempts,
  waitMs,
  signal,
  onFailure,
}: ChainOptions): Promise<ChainOutcome> {
  const failures: string[] = [];
  let attempts = 0;
  for (const strategy of strategies) {
    for (let number = 1; number <= maxAttempts; number += 1) {
      signal.throwIfAborted();
      attempts += 1;
      const outcome = await attempt(strategy, number);
      if (outcome.ok) return { ...outcome, strategy, attempts, failures };
      failures.push(outcome.reason);
      onFailure?.({ ...outcome, strategy, attempt: number });
      if (outcome.then === 'stop') return { ok: false, attempts, reason: outcome.reason };
      if (outcome.then === 'next_strategy') break;
      if (outcome.then === 'wait' && number < maxAttempts) await wait(waitMs, signal);
    }
  }
  return { ok: false, attempts, reason: failures.at(-1) ?? 'Model not available' };
}
