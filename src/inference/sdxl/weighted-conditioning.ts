import { parsePrompt, plainText, type Fragment, type ParsedPrompt, type WeightSyntax } from '../diffusion/prompt-weights.js';
import { concat, encodeHidden, encodePooled, joinFeatures, type Conditioning, type HiddenState } from './conditioning.js';
import type { SdxlModel } from './model.js';

type Encoder = SdxlModel['encoders'][number];

/** Ids of the fragments end to end, with the weight of every position; framed by start, end and padding (weight 1). */
export interface WeightedIds {
  ids: number[];
  weights: number[];
  /** Positions of each down-weighted fragment. */
  hidden: Array<{ weight: number; positions: number[] }>;
  /** Tokens before truncation, start and end included. */
  tokenCount: number;
}

/** Each fragment is tokenised by itself, the joined ids are cut to the window (compel, embeddings_provider.py). */
export function frameFragments(encoder: Encoder, fragments: readonly Fragment[]): WeightedIds {
  const room = encoder.tokenizer.maxLength - 2;
  const pieces = fragments.map(({ text, weight }) => ({ weight, ids: encoder.tokenizer.encode(text).slice(0, room) }));
  const all = pieces.flatMap(({ ids, weight }) => ids.map((id) => ({ id, weight })));
  const kept = all.slice(0, room);
  const ids = encoder.tokenizer.frame(kept.map(({ id }) => id));
  const hidden: WeightedIds['hidden'] = [];
  let start = 1;
  for (const { weight, ids: piece } of pieces) {
    const positions = piece.map((_, i) => start + i).filter((position) => position <= kept.length);
    if (weight < 1 && positions.length > 0) hidden.push({ weight, positions });
    start += piece.length;
  }
  return { ids, weights: ids.map((_, i) => (i >= 1 && i <= kept.length ? (kept[i - 1]?.weight ?? 1) : 1)), hidden, tokenCount: all.length + 2 };
}

/**
 * Compel's arithmetic for one encoder: rows move linearly from the empty prompt's, `e + w·(z - e)`, and every fragment
 * with w < 1 is in addition averaged with a version of the text in which it is hidden from attention, at
 * tan((1-w)·π/2) to 1. Without an `attention_mask` input only the linear part can be had.
 */
async function encodeWeighted(encoder: Encoder, fragments: readonly Fragment[], empty: () => Promise<HiddenState>): Promise<HiddenState> {
  const { ids, weights, hidden } = frameFragments(encoder, fragments);
  const whole = await encodeHidden(encoder, ids);
  if (weights.every((weight) => weight === 1)) return whole;
  const base = await empty();
  const scale = (state: HiddenState): Float32Array => state.data.map((value, i) => {
    const weight = weights[Math.floor(i / state.width)] as number;
    return weight === 1 ? value : (base.data[i] as number) + weight * (value - (base.data[i] as number));
  });
  const sum = scale(whole);
  let total = 1;
  if (encoder.session.hasInput('attention_mask')) {
    for (const { weight, positions } of hidden) {
      const mask = ids.map((_, i) => (positions.includes(i) ? 0 : 1));
      const share = Math.tan(((1 - Math.max(weight, 1e-5)) * Math.PI) / 2);
      const without = scale(await encodeHidden(encoder, ids, mask));
      for (let i = 0; i < sum.length; i += 1) sum[i] = (sum[i] as number) + share * (without[i] as number);
      total += share;
    }
  }
  return { ...whole, data: sum.map((value) => value / total) };
}

/** Conditioning of a prompt in one of the weight syntaxes. `pooledText` is what the pooled vector is taken of. */
export async function conditionPrompt(model: SdxlModel, parsed: ParsedPrompt, pooledText: string): Promise<Conditioning> {
  const [first, second] = model.encoders as [Encoder, Encoder];
  const empties = new Map<Encoder, Promise<HiddenState>>();
  const emptyOf = (encoder: Encoder) => () => {
    const state = empties.get(encoder) ?? encodeHidden(encoder, encoder.tokenizer.frame([]));
    empties.set(encoder, state);
    return state;
  };
  const embed = async (fragments: readonly Fragment[]) => joinFeatures(
    await encodeWeighted(first, fragments, emptyOf(first)), await encodeWeighted(second, fragments, emptyOf(second)));
  const pooled = await encodePooled(second, second.tokenizer.frame(second.tokenizer.encode(pooledText)));
  const window = first.tokenizer.maxLength;
  if (parsed.kind === 'prompt') return { embeds: await embed(parsed.fragments), tokens: window, pooled };
  if (parsed.kind === 'and') {
    // a part's own weight acts on each of its words
    const parts: Float32Array[] = [];
    for (const [i, fragments] of parsed.prompts.entries()) {
      parts.push(await embed(fragments.map(({ text, weight }) => ({ text, weight: weight * (parsed.weights[i] as number) }))));
    }
    return { embeds: concat(parts), tokens: window * parts.length, pooled };
  }
  const total = parsed.normalise ? parsed.weights.reduce((sum, weight) => sum + weight, 0) : 1;
  let blended: Float32Array | undefined;
  for (const [i, fragments] of parsed.prompts.entries()) {
    const share = (parsed.weights[i] as number) / (total === 0 ? 1 : total);
    const part = await embed(fragments);
    blended = blended === undefined ? part.map((value) => value * share) : blended.map((value, k) => value + share * (part[k] as number));
  }
  return { embeds: blended ?? new Float32Array(0), tokens: window, pooled };
}

/** Reads the syntax, or takes the text as it is. Compel takes the pooled vector of the raw text, we of its words. */
export async function conditionText(model: SdxlModel, text: string, options: { parseWeights: boolean; syntax?: WeightSyntax }): Promise<Conditioning> {
  if (!options.parseWeights) return conditionPrompt(model, { kind: 'prompt', fragments: [{ text, weight: 1 }] }, text);
  const parsed = parsePrompt(text, options.syntax);
  return conditionPrompt(model, parsed, options.syntax === 'compel' ? text : plainText(parsed));
}

/**
 * Gives two conditionings the same number of tokens by appending the empty prompt's window to the shorter one
 * (compel, pad_conditioning_tensors_to_same_length).
 */
export async function padToSameLength(model: SdxlModel, a: Conditioning, b: Conditioning): Promise<[Conditioning, Conditioning]> {
  if (a.tokens === b.tokens) return [a, b];
  const empty = await conditionText(model, '', { parseWeights: false });
  const longest = Math.max(a.tokens, b.tokens);
  const pad = (shorter: Conditioning): Conditioning => {
    const missing = (longest - shorter.tokens) / empty.tokens;
    const parts = [shorter.embeds, ...new Array<Float32Array>(missing).fill(empty.embeds)];
    return { ...shorter, tokens: longest, embeds: concat(parts) };
  };
  return [pad(a), pad(b)];
}
