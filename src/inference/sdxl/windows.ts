import type { Fragment } from '../../lib/prompt-weights.js';
import type { LongPrompts, SdxlModel } from './model.js';

type Encoder = SdxlModel['encoders'][number];

/** Ids of one fragment, all of one weight. */
interface Piece {
  weight: number;
  ids: number[];
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

/** Tokens of the fragments before truncation, start and end included. */
export function countTokens({ tokenizer }: Encoder, fragments: readonly Fragment[]): number {
  return fragments.reduce((sum, { text }) => sum + tokenizer.encode(text).length, 2);
}

/**
 * The windows a prompt is encoded in, at least one. Each fragment is tokenised by itself; `truncate` cuts the
 * joined ids to one window (compel, embeddings_provider.py).
 */
export function frameFragments(
  encoder: Encoder,
  fragments: readonly Fragment[],
  longPrompts: LongPrompts,
): WeightedIds[] {
  const room = encoder.tokenizer.maxLength - 2;
  const pieces = fragments
    .map(({ text, weight }) => ({ weight, ids: encoder.tokenizer.encode(text) }))
    .filter(({ ids }) => ids.length > 0);
  if (longPrompts === 'truncate') return [frameWindow(encoder, takeIds(pieces, room).taken)];
  const windows: WeightedIds[] = [];
  let rest: Piece[] = pieces;
  do {
    const { taken, left } = takeIds(
      rest,
      splitPoint(
        encoder,
        rest.flatMap(({ ids }) => ids),
        room,
      ),
    );
    windows.push(frameWindow(encoder, taken));
    rest = left;
  } while (rest.some(({ ids }) => ids.length > 0));
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
