import type { SdxlModel } from './model.js';

/** What the UNet is told about a prompt: rows of both encoders side by side, and the second encoder's pooled vector. */
export interface Conditioning {
  /** Row-major [tokens, width], tokens a multiple of 77. */
  embeds: Float32Array;
  tokens: number;
  /** [projection width]. */
  pooled: Float32Array;
}

/** One encoder's penultimate hidden state `[tokens, width]`, no final layer norm, for framed ids; mask 1 attends, 0 does not. */
export interface HiddenState {
  data: Float32Array;
  tokens: number;
  width: number;
}

type Encoder = SdxlModel['encoders'][number];

/** Runs one encoder on one framed prompt. `mask` needs a graph with `attention_mask`; stock exports have none. */
export async function encodeHidden(encoder: Encoder, ids: readonly number[], mask?: readonly number[]): Promise<HiddenState> {
  const name = `hidden_states.${encoder.layers - 1}`;
  const { [name]: hidden } = await encoder.session.run({ input_ids: { data: ids, dims: [1, ids.length] }, ...maskFeed(encoder, ids, mask) }, [name]);
  if (hidden === undefined) throw new Error(`the text encoder has no output ${name}`);
  return { data: hidden.data, tokens: ids.length, width: hidden.dims[2] ?? 0 };
}

/** The second encoder's projected end-of-text row. */
export async function encodePooled(encoder: Encoder, ids: readonly number[]): Promise<Float32Array> {
  const { text_embeds } = await encoder.session.run({ input_ids: { data: ids, dims: [1, ids.length] }, ...maskFeed(encoder, ids) }, ['text_embeds']);
  return text_embeds.data;
}

function maskFeed(encoder: Encoder, ids: readonly number[], mask?: readonly number[]) {
  if (!encoder.session.hasInput('attention_mask')) return {};
  // SDXL gives no mask: padding is attended to, causally
  return { attention_mask: { data: mask ?? ids.map(() => 1), dims: [1, ids.length] } };
}

/** Joins the two encoders on the feature axis: [tokens, w1] and [tokens, w2] become [tokens, w1 + w2]. */
export function joinFeatures(first: HiddenState, second: HiddenState): Float32Array {
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
  return { embeds: new Float32Array(like.embeds.length), tokens: like.tokens, pooled: new Float32Array(like.pooled.length) };
}
