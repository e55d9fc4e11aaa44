import type { Llama } from 'node-llama-cpp';
import { manyTokens, type ThreadChoice } from './threads.js';

/** A step so much slower than its threads were at the choice has met other work on their cores. */
const slow = 5;
/** For so long afterwards one thread computes alone. */
const restMs = 5000;

/**
 * Gives each evaluation its number of threads. Threads of an evaluation wait for one another without sleeping: when other work
 * takes one of their cores, a step can last hundreds of times longer than on one thread. Such a step is noticed, and one
 * thread goes on alone until the cores may be free again.
 * @param llama its thread limit is read at each evaluation
 */
export function createPace(llama: Pick<Llama, 'maxThreads'>, { one, many }: ThreadChoice, now: () => number = () => performance.now()) {
  let restUntilMs = 0;
  let step: { startedMs: number; expectedMs: number } | undefined;

  return {
    /** Before an evaluation of so many tokens. */
    begin(tokens: number): void {
      const { threads, measured } = tokens * 2 >= manyTokens ? many : one;
      const startedMs = now();
      llama.maxThreads = startedMs < restUntilMs ? 1 : threads;
      const expectedMs = measured[threads];
      step = llama.maxThreads === 1 || expectedMs === undefined ? undefined : { startedMs, expectedMs: expectedMs * Math.max(1, tokens / manyTokens) };
    },
    /** After it. */
    end(): void {
      if (step !== undefined && now() - step.startedMs > step.expectedMs * slow) restUntilMs = now() + restMs;
      step = undefined;
    },
  };
}
export type Pace = ReturnType<typeof createPace>;
