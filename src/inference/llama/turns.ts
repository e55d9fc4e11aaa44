import type { Llama } from 'node-llama-cpp';
import { manyTokens, type ThreadChoice } from './threads.js';

/** A step so much slower than its threads were at the choice has met other work on their cores. */
const slow = 5;
/** For so long afterwards one thread computes alone. */
const restMs = 5000;

/** llama.cpp's limit of threads, which holds for all models of a process. */
export function createThreadLimit(llama: Pick<Llama, 'maxThreads'>) {
  let opening = 0;
  return {
    /**
     * Returns what holds: no limit while a model is opened, because its measurements and its contexts would
     * be cut to it.
     */
    set(threads: number): number {
      llama.maxThreads = opening > 0 ? 0 : threads;
      return llama.maxThreads;
    },
    async lift<T>(open: () => Promise<T>): Promise<T> {
      opening += 1;
      llama.maxThreads = 0;
      try {
        return await open();
      } finally {
        opening -= 1;
      }
    },
  };
}
export type ThreadLimit = ReturnType<typeof createThreadLimit>;

/**
 * Gives each evaluation its number of threads. Threads of an evaluation wait for one another without
 * sleeping: when other work takes one of their cores, a step can last hundreds of times longer than on one
 * thread. Such a step is noticed, and one thread goes on alone until the cores may be free again.
 */
export function createPace(
  limit: Pick<ThreadLimit, 'set'>,
  { one, many }: ThreadChoice,
  now: () => number = () => performance.now(),
) {
  let restUntilMs = 0;
  let step: { startedMs: number; expectedMs: number } | undefined;

  return {
    /** Before an evaluation of so many tokens. */
    begin(tokens: number): void {
      const { threads, measured } = tokens * 2 >= manyTokens ? many : one;
      const startedMs = now();
      const held = limit.set(startedMs < restUntilMs ? 1 : threads);
      const expectedMs = measured[threads];
      step =
        held <= 1 || expectedMs === undefined
          ? undefined
          : { startedMs, expectedMs: expectedMs * Math.max(1, tokens / manyTokens) };
    },
    /** After it. */
    end(): void {
      if (step !== undefined && now() - step.startedMs > step.expectedMs * slow) restUntilMs = now() + restMs;
      step = undefined;
    },
  };
}
export type Pace = ReturnType<typeof createPace>;

interface Waiting {
  place: number;
  tokens: number;
  go: () => void;
}

/**
 * Lets all running requests ask for their next token at the same moment, so that one evaluation answers them
 * all. Left to itself the last of them to see its token misses the next evaluation: two requests would take
 * turns instead of sharing. They go in the order of their sequences, because llama.cpp evaluates together
 * only what stands side by side.
 */
export function createStepTogether(pace: Pick<Pace, 'begin' | 'end'>) {
  let members = 0;
  let waiting: Waiting[] = [];

  function openWhenAllAreHere(): void {
    if (waiting.length < members) return;
    pace.end();
    if (waiting.length === 0) return;
    const all = waiting.sort((a, b) => a.place - b.place);
    waiting = [];
    // The evaluation that just answered must be over, or it would go on with whoever asks first.
    setImmediate(() => {
      pace.begin(all.reduce((sum, { tokens }) => sum + tokens, 0));
      for (const { go } of all) go();
    });
  }

  return {
    enter: () => {
      members += 1;
    },
    leave: () => {
      members -= 1;
      openWhenAllAreHere();
    },
    /** Resolves when every member waits here. `tokens`: how many of this member's the step evaluates. */
    wait: (place: number, tokens: number): Promise<void> =>
      new Promise((go) => {
        waiting.push({ place, tokens, go });
        openWhenAllAreHere();
      }),
  };
}
export type StepTogether = ReturnType<typeof createStepTogether>;
