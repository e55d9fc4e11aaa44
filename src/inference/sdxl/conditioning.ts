import type { SdxlModel } from './model.js';
import { frameFragments, type WeightedIds, windowsOfPart } from './prompt.js';
import { concat } from '../diffusion/floats.js';
import {
  type Fragment,
  type ParsedPrompt,
  parsePrompt,
  plainText,
  type WeightSyntax,
} from '../../lib/prompt-weights.js';

/**
 * What the UNet is told about a prompt: rows of both encoders side by side, and the second encoder's pooled
 * vector.
 */
export interface Conditioning {
  /** Row-major [tokens, width], tokens a multiple of CLIP's window. */
  embeds: Float32Array;
  tokens: number;
  /** [projection width]. */
  pooled: Float32Array;
}

/**
 * One encoder's penultimate hidden state `[tokens, width]`, no final layer norm, for framed ids; mask 1
 * attends, 0 does not.
 */
interface HiddenState {
  data: Float32Array;
  tokens: number;
  width: number;
}

type Encoder = SdxlModel['encoders'][number];

/**
 * Runs one encoder on one framed prompt. `mask` needs a graph with `attention_mask`; stock exports have none.
 */
async function encodeHidden(
  encoder: Encoder,
  ids: readonly number[],
  mask?: readonly number[],
): Promise<HiddenState> {
  const name = `hidden_states.${encoder.layers - 1}`;
  const { [name]: hidden } = await encoder.session.run(
    { input_ids: { data: ids, dims: [1, ids.length] }, ...maskFeed(encoder, ids, mask) },
    [name],
  );
  if (hidden === undefined) throw new Error(`the text encoder has no output ${name}`);
  return { data: hidden.data, tokens: ids.length, width: hidden.dims[2] ?? 0 };
}

/** The second encoder's projected end-of-text row. */
async function encodePooled(encoder: Encoder, ids: readonly number[]): Promise<Float32Array> {
  const { text_embeds } = await encoder.session.run(
    { input_ids: { data: ids, dims: [1, ids.length] }, ...maskFeed(encoder, ids) },
    ['text_embeds'],
  );
  return text_embeds.data;
}

function maskFeed(encoder: Encoder, ids: readonly number[], mask?: readonly number[]) {
  if (!encoder.session.hasInput('attention_mask')) return {};
  // SDXL gives no mask: padding is attended to, causally
  return { attention_mask: { data: mask ?? ids.map(() => 1), dims: [1, ids.length] } };
}

/** Joins the two encoders on the feature axis: [tokens, w1] and [tokens, w2] become [tokens, w1 + w2]. */
function joinFeatures(first: HiddenState, second: HiddenState): Float32Array {
  const width = first.width + second.width;
  const joined = new Float32Array(first.tokens * width);
  for (let row = 0; row < first.tokens; row += 1) {
    joined.set(first.data.subarray(row * first.width, (row + 1) * first.width), row * width);
    joined.set(second.data.subarray(row * second.width, (row + 1) * second.width), row * width + first.width);
  }
  return joined;
}

/** All zeros, of the shape of `like`: SDXL's own "no negative prompt". */
export function zeroConditioning(like: Conditioning): Conditioning {
  return {
    embeds: new Float32Array(like.embeds.length),
    tokens: like.tokens,
    pooled: new Float32Array(like.pooled.length),
  };
}

/**
 * Compel's arithmetic for one encoder and one window: rows move linearly from the empty prompt's, `e + w·(z -
 * e)`, and every fragment with w < 1 is in addition averaged with a version of the text in which it is hidden
 * from attention, at tan((1-w)·π/2) to 1. Without an `attention_mask` input only the linear part can be had.
 */
async function encodeWeighted(
  encoder: Encoder,
  { ids, weights, hidden }: WeightedIds,
  empty: () => Promise<HiddenState>,
): Promise<HiddenState> {
  const whole = await encodeHidden(encoder, ids);
  if (weights.every((weight) => weight === 1)) return whole;
  const base = await empty();
  const scale = (state: HiddenState): Float32Array =>
    state.data.map((value, i) => {
      const weight = weights[Math.floor(i / state.width)] as number;
      return weight === 1 ? value : (base.data[i] as number) + weight * (value - (base.data[i] as number));
    });
  const unmasked = scale(whole);
  const sum = unmasked.slice();
  let total = 1;
  if (encoder.session.hasInput('attention_mask')) {
    for (const { weight, positions } of hidden) {
      const share = Math.tan(((1 - Math.max(weight, 1e-5)) * Math.PI) / 2);
      const mask = ids.map((_, i) => (positions.includes(i) ? 0 : 1));
      // a fragment of another window leaves this one as it is, and still has its share of the average
      const without = positions.length === 0 ? unmasked : scale(await encodeHidden(encoder, ids, mask));
      for (let i = 0; i < sum.length; i += 1) sum[i] = (sum[i] as number) + share * (without[i] as number);
      total += share;
    }
  }
  return { ...whole, data: sum.map((value) => value / total) };
}

/** Rows of the encoders side by side: a whole number of windows. */
type Rows = Pick<Conditioning, 'embeds' | 'tokens'>;

/**
 * Conditioning of a prompt in one of the weight syntaxes. `pooledText` is what the pooled vector is taken of.
 */
export async function conditionPrompt(
  model: SdxlModel,
  parsed: ParsedPrompt,
  pooledText: string,
): Promise<Conditioning> {
  const [first, second] = model.encoders as [Encoder, Encoder];
  const mostWindows = windowsOfPart(model, parsed);
  const empties = new Map<Encoder, Promise<HiddenState>>();
  const encode = (encoder: Encoder, framed: WeightedIds) =>
    encodeWeighted(encoder, framed, () => {
      const state = empties.get(encoder) ?? encodeHidden(encoder, encoder.tokenizer.frame([]));
      empties.set(encoder, state);
      return state;
    });
  /**
   * Window after window; both encoders share their vocabulary, and with it the places where a text is split.
   */
  const embed = async (fragments: readonly Fragment[]): Promise<Rows> => {
    const windows: Rows[] = [];
    const others = frameFragments(second, fragments, mostWindows);
    for (const [i, framed] of frameFragments(first, fragments, mostWindows).entries()) {
      const other = others[i];
      if (other === undefined) throw new Error('the two tokenizers split this text differently');
      windows.push({
        tokens: framed.ids.length,
        embeds: joinFeatures(await encode(first, framed), await encode(second, other)),
      });
    }
    return joinRows(windows);
  };
  const pooled = await encodePooled(second, second.tokenizer.frame(second.tokenizer.encode(pooledText)));
  if (parsed.kind === 'prompt') return { ...(await embed(parsed.fragments)), pooled };
  const parts: Rows[] = [];
  for (const [i, fragments] of parsed.prompts.entries()) {
    // in a conjunction a part's own weight acts on each of its words
    const own = parsed.kind === 'and' ? (parsed.weights[i] as number) : 1;
    parts.push(await embed(fragments.map(({ text, weight }) => ({ text, weight: weight * own }))));
  }
  return {
    ...(parsed.kind === 'and' ? joinRows(parts) : blend(await padToLongest(model, parts), parsed)),
    pooled,
  };
}

function joinRows(parts: readonly Rows[]): Rows {
  return {
    tokens: parts.reduce((sum, { tokens }) => sum + tokens, 0),
    embeds: concat(parts.map(({ embeds }) => embeds)),
  };
}

function blend(
  parts: readonly Rows[],
  { weights, normalise }: Extract<ParsedPrompt, { kind: 'blend' }>,
): Rows {
  const sum = weights.reduce((all, weight) => all + weight, 0);
  // weights that cancel out have no mean
  const total = normalise && Math.abs(sum) > 1e-3 ? sum : 1;
  const blended = new Float32Array(parts[0]?.embeds.length ?? 0);
  for (const [i, { embeds }] of parts.entries()) {
    const share = (weights[i] as number) / total;
    for (let k = 0; k < blended.length; k += 1)
      blended[k] = (blended[k] as number) + share * (embeds[k] as number);
  }
  return { tokens: parts[0]?.tokens ?? 0, embeds: blended };
}

/**
 * Reads the syntax, or takes the text as it is. Compel takes the pooled vector of the raw text, we of its
 * words.
 */
export async function conditionText(
  model: SdxlModel,
  text: string,
  options: { parseWeights: boolean; syntax?: WeightSyntax },
): Promise<Conditioning> {
  if (!options.parseWeights)
    return conditionPrompt(model, { kind: 'prompt', fragments: [{ text, weight: 1 }] }, text);
  const parsed = parsePrompt(text, options.syntax);
  return conditionPrompt(model, parsed, options.syntax === 'compel' ? text : plainText(parsed));
}

/**
 * Gives conditionings the same number of tokens by appending the empty prompt's window to the shorter ones
 * (compel, pad_conditioning_tensors_to_same_length).
 */
export async function padToLongest<T extends Rows>(
  model: SdxlModel,
  conditionings: readonly T[],
): Promise<T[]> {
  const longest = Math.max(...conditionings.map(({ tokens }) => tokens));
  if (conditionings.every(({ tokens }) => tokens === longest)) return [...conditionings];
  const empty = await conditionText(model, '', { parseWeights: false });
  return conditionings.map((shorter) => {
    const missing = new Array<Rows>((longest - shorter.tokens) / empty.tokens).fill(empty);
    return { ...shorter, ...joinRows([shorter, ...missing]) };
  });
}
