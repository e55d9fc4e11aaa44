import {
  type Fragment,
  type ParsedPrompt,
  parsePrompt,
  partsOf,
  plainText,
} from '../../lib/prompt-weights.js';
import { EngineFailure } from '../engine.js';
import { clipWindow, type WeightedPhrase } from '../generation.js';
import type { SdxlModel } from './model.js';

type Encoder = SdxlModel['encoders'][number];

/**
 * What one prompt may cost: the UNet attends to every window at every step, and each fragment that is
 * weighted down is another run of both encoders.
 */
const mostParts = 16;
const mostWindows = 16;
const mostWeightedDown = 64;

/** A prompt with the job's weights worked in, and what became of each. */
export interface CombinedPrompt {
  parsed: ParsedPrompt;
  /** Words alone; what the pooled vector is taken of. */
  plain: string;
  used: WeightedPhrase[];
  dropped: Array<WeightedPhrase & { reason: string }>;
  /** Tokens of the longer of the two tokenizations, start and end of each part included. */
  tokenCount: number;
  truncated: boolean;
  /** The words that no window had room for. */
  cut: string;
}

/**
 * Works weights into a prompt: a phrase the prompt contains is weighted where it stands, any other is
 * appended (`prompt, phrase`). Appended ones that would overrun the window are dropped from the end; the
 * prompt itself is never cut to make room (spec section 5). In place, because a phrase said twice is drawn
 * twice.
 * @param field what the prompt is called where it is refused
 * @throws EngineFailure `invalid_parameters` for more parts or weights than one prompt may have
 */
export function combinePrompt(
  model: SdxlModel,
  prompt: string,
  weights: readonly WeightedPhrase[],
  parseWeights: boolean,
  field = 'prompt',
): CombinedPrompt {
  const base: ParsedPrompt = parseWeights
    ? parsePrompt(prompt)
    : { kind: 'prompt', fragments: [{ text: prompt.trim(), weight: 1 }] };
  requireBounds(base, field);
  const { parsed, used, dropped } =
    base.kind === 'prompt'
      ? placeWeights(model, base.fragments, weights)
      : {
          parsed: base,
          used: [],
          dropped: weights.map((phrase) => ({ ...phrase, reason: 'the prompt is a blend or conjunction' })),
        };
  const parts = partsOf(parsed);
  const windows = windowsOfPart(model, parsed);
  const cut = parts.map((fragments) => cutText(model, fragments, windows)).join('');
  return {
    parsed,
    plain: plainText(parsed),
    used,
    dropped,
    tokenCount: parts.reduce((sum, fragments) => sum + countTokens(model, fragments), 0),
    truncated: cut !== '',
    cut: cut.trim(),
  };
}

/** Chunked prompts get as many windows as they need, within what all parts may have together. */
export function windowsOfPart({ longPrompts }: SdxlModel, parsed: ParsedPrompt): number {
  return longPrompts === 'chunk' ? Math.max(1, Math.floor(mostWindows / partsOf(parsed).length)) : 1;
}

function requireBounds(parsed: ParsedPrompt, field: string): void {
  const parts = partsOf(parsed);
  const own = (i: number) => (parsed.kind === 'and' ? (parsed.weights[i] as number) : 1);
  const weightedDown = parts.flatMap((part, i) => part.filter(({ weight }) => weight * own(i) < 1)).length;
  const refuse = (rule: string) => {
    throw new EngineFailure('invalid_parameters', `${field} ${rule}`, field);
  };
  if (parts.length > mostParts)
    refuse(`may have at most ${mostParts} parts in .and() or .blend(), not ${parts.length}`);
  if (weightedDown > mostWeightedDown)
    refuse(`may have at most ${mostWeightedDown} pieces with a weight below 1, not ${weightedDown}`);
}

function placeWeights(
  model: SdxlModel,
  prompt: Fragment[],
  weights: readonly WeightedPhrase[],
): Pick<CombinedPrompt, 'parsed' | 'used' | 'dropped'> {
  const window = model.encoders[0]?.tokenizer.maxLength ?? clipWindow;
  const limit = model.longPrompts === 'chunk' ? mostWindows * (window - 2) : window;
  let fragments = prompt;
  const used: WeightedPhrase[] = [];
  const dropped: CombinedPrompt['dropped'] = [];
  const appended: WeightedPhrase[] = [];
  for (const phrase of weights) {
    const placed = weighInPlace(fragments, phrase);
    if (placed === null) appended.push(phrase);
    else {
      fragments = placed;
      used.push(phrase);
    }
  }
  let full = false;
  for (const phrase of appended) {
    const longer = [...fragments, { text: ',', weight: 1 }, { text: phrase.text, weight: phrase.weight }];
    full ||= countTokens(model, longer) > limit;
    if (full) dropped.push({ ...phrase, reason: `the prompt would have more than ${limit} tokens` });
    else {
      fragments = longer;
      used.push(phrase);
    }
  }
  return {
    parsed: { kind: 'prompt', fragments },
    used: weights.filter((phrase) => used.includes(phrase)),
    dropped,
  };
}

/** Splits the neutral fragment that holds the phrase as whole words; null when none does. */
function weighInPlace(fragments: readonly Fragment[], phrase: WeightedPhrase): Fragment[] | null {
  const words = phrase.text
    .trim()
    .split(/\s+/u)
    .map((word) => word.replace(/[\\^$.*+?()[\]{}|]/gu, '\\$&'));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])${words.join('\\s+')}(?![\\p{L}\\p{N}])`, 'iu');
  for (const [i, fragment] of fragments.entries()) {
    const match = fragment.weight === 1 ? pattern.exec(fragment.text) : null;
    if (match === null) continue;
    const parts: Fragment[] = [
      { text: fragment.text.slice(0, match.index).trim(), weight: 1 },
      { text: match[0], weight: phrase.weight },
      { text: fragment.text.slice(match.index + match[0].length).trim(), weight: 1 },
    ];
    return [...fragments.slice(0, i), ...parts.filter(({ text }) => text !== ''), ...fragments.slice(i + 1)];
  }
  return null;
}

/** Ids of one fragment, all of one weight. */
interface Piece {
  weight: number;
  ids: readonly number[];
}

/**
 * Ids of the fragments end to end, with the weight of every position; framed by start, end and padding
 * (weight 1).
 */
export interface WeightedIds {
  ids: number[];
  weights: number[];
  /**
   * Every down-weighted fragment of the text with its positions in this window, none where it stands in
   * another.
   */
  hidden: Array<{ weight: number; positions: number[] }>;
  /** Words' ids, without start, end and padding. */
  length: number;
}

/** Words beyond the windows, of whichever encoder has less room. */
function cutText({ encoders }: SdxlModel, fragments: readonly Fragment[], windows: number): string {
  for (const encoder of encoders) {
    const { tokenizer } = encoder;
    const kept = frameFragments(encoder, fragments, windows).reduce((sum, { length }) => sum + length, 0);
    const ids = fragments.flatMap(({ text }) => tokenizer.encode(text));
    if (kept < ids.length)
      return ids
        .slice(kept)
        .map((id) => `${tokenizer.tokenText(id)}${tokenizer.endsWord(id) ? ' ' : ''}`)
        .join('');
  }
  return '';
}

/** Tokens before truncation, start and end included, where the two tokenizers differ the larger number. */
function countTokens({ encoders }: SdxlModel, fragments: readonly Fragment[]): number {
  return (
    2 +
    Math.max(
      ...encoders.map(({ tokenizer }) =>
        fragments.reduce((sum, { text }) => sum + tokenizer.encode(text).length, 0),
      ),
    )
  );
}

/**
 * The windows a part is encoded in, at least one and at most `most`; what is left over is cut. Each fragment
 * is tokenised by itself; a single window takes as many of the joined ids as fit (compel,
 * embeddings_provider.py).
 */
export function frameFragments(
  encoder: Encoder,
  fragments: readonly Fragment[],
  most: number,
): WeightedIds[] {
  const room = encoder.tokenizer.maxLength - 2;
  const windows: WeightedIds[] = [];
  let rest: Piece[] = fragments
    .map(({ text, weight }) => ({ weight, ids: encoder.tokenizer.encode(text) }))
    .filter(({ ids }) => ids.length > 0);
  do {
    const ids = rest.flatMap((piece) => piece.ids);
    const { taken, left } = takeIds(rest, most === 1 ? room : splitPoint(encoder, ids, room));
    windows.push(frameWindow(encoder, taken));
    rest = left;
  } while (windows.length < most && rest.some(({ ids }) => ids.length > 0));
  return windows;
}

/**
 * How many ids the next window takes: all that are left, else up to the last full stop, else the last of `, ;
 * :`, else the last end of a word, else as many as fit (compel's default of splitting at sentences).
 */
function splitPoint({ tokenizer }: Encoder, ids: readonly number[], room: number): number {
  if (ids.length <= room) return ids.length;
  const window = ids.slice(0, room);
  const after = (matches: (id: number) => boolean) => window.findLastIndex(matches) + 1;
  const isMark = (marks: string) => (id: number) =>
    tokenizer.endsWord(id) && Array.from(marks).includes(tokenizer.tokenText(id));
  return after(isMark('.')) || after(isMark(',;:')) || after((id) => tokenizer.endsWord(id)) || room;
}

function takeIds(pieces: readonly Piece[], count: number): { taken: Piece[]; left: Piece[] } {
  let room = count;
  const split = pieces.map(({ weight, ids }) => {
    const [first, second] = [ids.slice(0, room), ids.slice(room)];
    room -= first.length;
    return { first: { weight, ids: first }, second: { weight, ids: second } };
  });
  return { taken: split.map(({ first }) => first), left: split.map(({ second }) => second) };
}

function frameWindow({ tokenizer }: Encoder, pieces: readonly Piece[]): WeightedIds {
  const ids = tokenizer.frame(pieces.flatMap((piece) => piece.ids));
  const weights = ids.map(() => 1);
  const hidden: WeightedIds['hidden'] = [];
  let start = 1;
  for (const { weight, ids: piece } of pieces) {
    const positions = piece.map((_, i) => start + i);
    for (const position of positions) weights[position] = weight;
    if (weight < 1) hidden.push({ weight, positions });
    start += piece.length;
  }
  return { ids, weights, hidden, length: start - 1 };
}
