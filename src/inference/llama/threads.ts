import { availableParallelism } from 'node:os';
import type { Llama, LlamaModel, Token } from 'node-llama-cpp';

/**
 * Evaluations timed for each number of threads, fewer once `budgetMs` is used up. The first few also read the
 * weights and build the graph.
 */
const timedEvaluations = 12;
const fewestEvaluations = 3;
const budgetMs = 400;
/** More threads must be worth it: they are taken from whatever else computes on this machine. */
const leastGain = 1.1;
/**
 * So much slower, higher numbers are not tried any more; a single evaluation so much slower ends its number's
 * turn.
 */
const hopeless = 1.5;
const hopelessEvaluation = 10;
/** Tokens of the evaluation that stands for prompts and for steps of several requests. */
const manyTokens = 8;

interface ThreadTimes {
  threads: number;
  /** Milliseconds of an evaluation for each number that was tried. */
  measured: Record<number, number>;
}

interface ThreadChoice {
  /** For a token of one request. */
  one: ThreadTimes;
  /** For `manyTokens` tokens in one evaluation. */
  many: ThreadTimes;
}

/**
 * The number of threads that evaluates fastest on this machine as it is now. A small model loses by every
 * thread beyond the first, a large one gains up to the number of cores that are free: no rule knows which. A
 * single token waits for the memory, several for the arithmetic: they gain by threads where one does not, and
 * never want fewer.
 */
export async function chooseThreads(model: LlamaModel, most = availableParallelism()): Promise<ThreadChoice> {
  const one = await fastest(model, candidatesUpTo(most), 1);
  const many =
    one.threads >= most
      ? { threads: one.threads, measured: {} }
      : await fastest(
          model,
          candidatesUpTo(most).filter((threads) => threads >= one.threads),
          manyTokens,
        );
  return { one, many };
}

async function fastest(
  model: LlamaModel,
  candidates: readonly number[],
  tokens: number,
): Promise<ThreadTimes> {
  const measured: Record<number, number> = {};
  let threads = candidates[0] as number;
  let best = Infinity;
  for (const candidate of candidates) {
    const ms = await timeOf(model, candidate, tokens, best * hopelessEvaluation);
    measured[candidate] = Math.round(ms * 1000) / 1000;
    if (ms * leastGain < best) {
      best = ms;
      threads = candidate;
    } else if (ms > best * hopeless) break;
  }
  return { threads, measured };
}

/** 1, 2, 4, … and the highest itself. */
function candidatesUpTo(most: number): number[] {
  const candidates: number[] = [];
  for (let threads = 1; threads < most; threads *= 2) candidates.push(threads);
  return [...candidates, most];
}

/** Median milliseconds of one evaluation after another, until one takes longer than `limitMs`. */
async function timeOf(model: LlamaModel, threads: number, tokens: number, limitMs: number): Promise<number> {
  const context = await model.createContext({ contextSize: 256, batchSize: 256, sequences: 1, threads });
  try {
    const sequence = context.getSequence();
    const [token] = model.tokenize('a', false) as [Token];
    const evaluated = Array.from({ length: tokens }, () => token);
    const times: number[] = [];
    const startedMs = performance.now();
    for (
      let last = 0;
      times.length < timedEvaluations &&
      last <= limitMs &&
      (times.length < fewestEvaluations || performance.now() - startedMs < budgetMs);
    ) {
      const before = performance.now();
      await sequence.evaluateWithoutGeneratingNewTokens(evaluated);
      last = performance.now() - before;
      times.push(last);
    }
    return times.sort((a, b) => a - b)[times.length >> 1] as number;
  } finally {
    await context.dispose();
  }
}

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
