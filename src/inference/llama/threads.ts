import { availableParallelism } from 'node:os';
import type { LlamaModel, Token } from 'node-llama-cpp';

/** Tokens timed for each number of threads, fewer once `budgetMs` is used up. The first few also read the weights and build the graph. */
const timedTokens = 12;
const fewestTokens = 3;
const budgetMs = 400;
/** More threads must be worth it: they are taken from whatever else computes on this machine. */
const leastGain = 1.1;
/** So much slower, higher numbers are not tried any more; a single token so much slower ends its number's turn. */
const hopeless = 1.5;
const hopelessToken = 10;

export interface ThreadChoice {
  threads: number;
  /** Milliseconds a token for each number that was tried. */
  measured: Record<number, number>;
}

/**
 * The number of threads that writes a token fastest on this machine as it is now. A small model loses by every thread beyond
 * the first, a large one gains up to the number of cores that are free: no rule knows which.
 */
export async function chooseThreads(model: LlamaModel, most = availableParallelism()): Promise<ThreadChoice> {
  const measured: Record<number, number> = {};
  let threads = 1;
  let best = Infinity;
  for (const candidate of candidatesUpTo(most)) {
    const ms = await timeOf(model, candidate, best * hopelessToken);
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

/** Median milliseconds of one token after another, until one takes longer than `limitMs`. */
async function timeOf(model: LlamaModel, threads: number, limitMs: number): Promise<number> {
  const context = await model.createContext({ contextSize: 256, batchSize: 256, sequences: 1, threads });
  try {
    const sequence = context.getSequence();
    const [token] = model.tokenize('a', false) as [Token];
    const times: number[] = [];
    const startedMs = performance.now();
    for (let last = 0; times.length < timedTokens && last <= limitMs && (times.length < fewestTokens || performance.now() - startedMs < budgetMs);) {
      const before = performance.now();
      await sequence.evaluateWithoutGeneratingNewTokens([token]);
      last = performance.now() - before;
      times.push(last);
    }
    return times.sort((a, b) => a - b)[times.length >> 1] as number;
  } finally {
    await context.dispose();
  }
}
