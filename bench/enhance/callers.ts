import { percentile } from '../statistics.js';
import type { Harness } from './harness.js';
import type { EnhancePromptRequest } from '../../src/services/enhancement/enhancement-types.js';

export const callers = 8;

/** One round: so many requests by one caller, then the same by eight at once. */
export interface Round {
  tokensPerSecond: { alone: number; together: number };
  /** Milliseconds of each request. */
  alone: number[];
  /** The same requests, in the same order, by caller. */
  together: number[][];
}

type Ask = (index: number) => EnhancePromptRequest;

/**
 * Each caller asks its next prompt as soon as it has its answer. Tokens and not answers are counted: their
 * length varies.
 */
export async function measureRound({ ask }: Harness, each: number, request: Ask): Promise<Round> {
  const phase = async (count: number, perCaller: number) => {
    const startedMs = performance.now();
    let tokens = 0;
    const times = await Promise.all(
      Array.from({ length: count }, async (_, caller) => {
        const own: number[] = [];
        for (let turn = 0; turn < perCaller; turn += 1) {
          const { ms, completionTokens } = await ask(request(caller * perCaller + turn));
          own.push(ms);
          tokens += completionTokens;
        }
        return own;
      }),
    );
    return { times, tokensPerSecond: (tokens * 1000) / (performance.now() - startedMs) };
  };
  const alone = await phase(1, callers * each);
  const together = await phase(callers, each);
  return {
    alone: alone.times.flat(),
    together: together.times,
    tokensPerSecond: { alone: alone.tokensPerSecond, together: together.tokensPerSecond },
  };
}

const sum = (values: readonly number[]) => values.reduce((total, value) => total + value, 0);
const median = (values: readonly number[]) => percentile(values, 0.5);

/**
 * `throughput`: together ÷ alone, median of the rounds. A caller's share of a model that eight ask is an
 * eighth: its answer may take as long as that answer eight times alone. `wait`: the answer of a round that is
 * latest by this, ÷ eight times the same answer alone; `slowestCaller`: the mean of the slowest caller ÷ the
 * mean of all. Medians of the rounds.
 */
export function summarise(rounds: readonly Round[]) {
  return {
    throughput: median(rounds.map(({ tokensPerSecond: { alone, together } }) => together / alone)),
    wait: median(
      rounds.map(({ alone, together }) =>
        Math.max(...together.flat().map((ms, index) => ms / (callers * (alone[index] as number)))),
      ),
    ),
    slowestCaller: median(
      rounds.map(({ together }) => (Math.max(...together.map(sum)) * together.length) / sum(together.flat())),
    ),
    tokensAlone: median(rounds.map(({ tokensPerSecond }) => tokensPerSecond.alone)),
    tokensTogether: median(rounds.map(({ tokensPerSecond }) => tokensPerSecond.together)),
    msAlone: median(rounds.flatMap(({ alone }) => alone)),
    msTogether: median(rounds.flatMap(({ together }) => together.flat())),
  };
}
