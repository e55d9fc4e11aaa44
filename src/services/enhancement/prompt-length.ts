import { lostWords } from './keep-words.js';
import type { Engines } from '../engines/engines.js';
import { clipWindow } from '../../inference/generation.js';

/** Tokens of a prompt with start and end token; null when nobody can count now. */
export type CountTokens = (prompt: string, signal: AbortSignal) => Promise<number | null>;

export type Fit =
  | { fits: true; text: string; tokens: number; shortened: boolean }
  /** `hopeless`: the original prompt alone fills the window; no other answer would fit either. */
  | { fits: false; hopeless: boolean };

/**
 * Drops clauses from the end of an answer until it is within the window. What the user wrote is not dropped:
 * an answer that loses a word of it by fitting does not fit.
 */
export async function fitToWindow(
  answer: string,
  original: string,
  count: CountTokens,
  signal: AbortSignal,
): Promise<Fit> {
  const tokensOf = async (text: string) => (await count(text, signal)) ?? estimateTokens(text);
  const all = await tokensOf(answer);
  if (all <= clipWindow) return { fits: true, text: answer, tokens: all, shortened: false };
  const lostBefore = lostWords(original, answer).length;
  const ends = clauseEnds(answer).filter((end) => end < answer.length);
  // Fewer clauses never have more tokens: the longest beginning that fits is found by halving.
  let low = 0;
  let high = ends.length;
  let best: { text: string; tokens: number } | null = null;
  while (low < high) {
    const middle = (low + high) >> 1;
    const text = answer.slice(0, ends[middle]).trim();
    const tokens = await tokensOf(text);
    if (tokens <= clipWindow) {
      best = { text, tokens };
      low = middle + 1;
    } else high = middle;
  }
  if (best !== null && lostWords(original, best.text).length <= lostBefore)
    return { fits: true, ...best, shortened: true };
  return { fits: false, hopeless: (await tokensOf(original)) > clipWindow };
}

/** Positions in the text where a clause ends, before its punctuation; a full stop stays with its sentence. */
function clauseEnds(text: string): number[] {
  const ends = [...text.matchAll(/[.!?](?=\s)|[,;:](?=\s)|[。！？，；]/g)].map(({ 0: sign, index }) =>
    /[.!?。！？]/.test(sign) ? index + sign.length : index,
  );
  return ends.filter((end) => end > 0);
}

/**
 * A count that is rather too high, for when the tokenizer is not at hand: CLIP's byte-pair pieces hold three
 * letters or more in nearly every English word; digits and signs are single tokens; in other scripts a piece
 * may be one byte.
 */
export function estimateTokens(text: string): number {
  let tokens = 2;
  for (const piece of text.match(/[A-Za-z]+|\s+|[\s\S]/gu) ?? []) {
    if (/^\s/.test(piece)) continue;
    tokens += /^[A-Za-z]/.test(piece) ? Math.ceil(piece.length / 3) : Buffer.byteLength(piece);
  }
  return tokens;
}

/** A picture that is being drawn comes first: a count that is not here by then is estimated. */
const defaultPatienceMs = 2000;

/** CLIP's own count from the SDXL engine, while that one can answer. */
export function createTokenCounter(
  engines: Pick<Engines, 'has' | 'status' | 'describePrompt'>,
  { patienceMs = defaultPatienceMs } = {},
): CountTokens {
  /**
   * A count that came too late is not called off (a cancelled request that cannot end costs the engine its
   * process) but nobody else queues behind it.
   */
  let late = 0;

  return async function countTokens(prompt) {
    if (late > 0 || !engines.has('sdxl') || !['ready', 'busy'].includes(engines.status('sdxl').state))
      return null;
    const counted = engines
      .describePrompt({ prompt, weights: [], parseWeights: false }, new AbortController().signal)
      .then(
        ({ tokenCount }) => tokenCount,
        () => null,
      );
    let timer: NodeJS.Timeout | undefined;
    const outOfPatience = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), patienceMs);
    });
    const first = await Promise.race([counted, outOfPatience]);
    clearTimeout(timer);
    if (first !== 'late') return first;
    late += 1;
    void counted.then(() => {
      late -= 1;
    });
    return null;
  };
}
