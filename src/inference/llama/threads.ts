import { availableParallelism } from 'node:os';
import type { LlamaModel, Token } from 'node-llama-cpp';

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
export const manyTokens = 8;

export interface ThreadTimes {
  threads: number;
  /** Milliseconds of an evaluation for each number that was tried. */
  measured: Record<number, number>;
}

export interface ThreadChoice {
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
