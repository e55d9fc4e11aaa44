import type { Layer, Value } from './graph.js';
import * as ops from './ops.js';

/** References as image tokens (Ye et al. 2023): `ip_tokens` [B, tokens, width], and a factor per layer. */
export interface ImageTokens {
  tokens: Value;
  /** [B, layers] */
  scales: Value;
  /** Names of the cross-attention layers in the order of the factors. */
  layers: string[];
}

interface TransformerOptions {
  /** Blocks one after another. */
  depth: number;
  heads: number;
  /** Of the normalisation before them. */
  groups: number;
  /** The projections at both ends are matrices, not 1×1 convolutions. */
  linear: boolean;
  text: { tokens: Value; width: number };
  image: ImageTokens | null;
}

/** Transformer over the pixels, with the text: self-attention, cross-attention, GEGLU, `depth` times. */
export function transformer(layer: Layer, x: Value, channels: number, options: TransformerOptions): Value {
  const { depth, heads, groups, linear: dense, text, image } = options;
  const width = [channels, channels] as const;
  const normal = ops.groupNorm(layer.at('norm'), x, channels, { groups, eps: 1e-6 });
  const projectIn = layer.at('proj_in');
  const pixel = { kernel: [1, 1] } as const;
  let tokens = dense
    ? ops.linear(projectIn, ops.toTokens(layer, normal, channels), width)
    : ops.toTokens(layer, ops.conv2d(projectIn, normal, width, pixel), channels);
  for (let i = 0; i < depth; i += 1) {
    const block = layer.at('transformer_blocks').at(i);
    const norm = (name: string) => ops.layerNorm(block.at(name), tokens, channels, 1e-5);
    const self = norm('norm1');
    const looked = attend(block.at('attn1'), self, self, [channels, channels], heads, null);
    tokens = ops.addResidual(block, tokens, looked, channels);
    const read = attend(block.at('attn2'), norm('norm2'), text.tokens, [channels, text.width], heads, image);
    tokens = ops.addResidual(block, tokens, read, channels);
    const fed = feedForward(block.at('ff.net'), norm('norm3'), channels);
    tokens = ops.addResidual(block, tokens, fed, channels);
  }
  const projectOut = layer.at('proj_out');
  const y = dense
    ? ops.toMap(layer, ops.linear(projectOut, tokens, width), channels, x)
    : ops.conv2d(projectOut, ops.toMap(layer, tokens, channels, x), width, pixel);
  return ops.addResidual(layer, x, y, channels);
}

function attend(
  layer: Layer,
  x: Value,
  context: Value,
  [width, contextWidth]: readonly [number, number],
  heads: number,
  image: ImageTokens | null,
): Value {
  const q = ops.linear(layer.at('to_q'), x, [width, width], false);
  const look = (source: Value, key: Layer, value: Layer) => {
    const [k, v] = [key, value].map((part) => ops.linear(part, source, [contextWidth, width], false)) as [
      Value,
      Value,
    ];
    return ops.attention(layer, [q, k, v], { heads });
  };
  let y = look(context, layer.at('to_k'), layer.at('to_v'));
  if (image !== null) {
    const processor = layer.at('processor');
    const index = image.layers.indexOf(layer.path);
    const seen = look(image.tokens, processor.at('to_k_ip'), processor.at('to_v_ip'));
    const scale = ops.unsqueeze(processor, ops.slice(processor, image.scales, 1, index, index + 1), 2);
    y = ops.add(processor, y, ops.mul(processor, seen, scale));
  }
  return ops.linear(layer.at('to_out.0'), y, [width, width]);
}

function feedForward(layer: Layer, x: Value, width: number): Value {
  return ops.linear(layer.at(2), ops.geglu(layer.at('0.proj'), x, [width, 4 * width]), [4 * width, width]);
}

export interface ResidualOptions {
  groups: number;
  eps: number;
  /** SiLU of the time embedding [N, width], added between the convolutions; the VAE has none. */
  time?: { embedding: Value; width: number };
}

/**
 * ResNet block (He et al. 2016) as diffusion models have it: norm, SiLU, 3×3 convolution, twice, and a
 * shortcut.
 */
export function residual(
  layer: Layer,
  x: Value,
  [from, to]: readonly [number, number],
  { groups, eps, time }: ResidualOptions,
): Value {
  const norm = (name: string, value: Value, channels: number) =>
    ops.groupNorm(layer.at(name), value, channels, { groups, eps, activate: true });
  let y = ops.conv2d(layer.at('conv1'), norm('norm1', x, from), [from, to]);
  if (time !== undefined) {
    const project = layer.at('time_emb_proj');
    const shift = ops.linear(project, time.embedding, [time.width, to]);
    y = ops.shiftChannels(project, y, shift, to);
  }
  y = ops.conv2d(layer.at('conv2'), norm('norm2', y, to), [to, to]);
  const kept = from === to ? x : ops.conv2d(layer.at('conv_shortcut'), x, [from, to], { kernel: [1, 1] });
  return ops.addResidual(layer, kept, y, to);
}

/** Half as high and wide; the VAE pads only below and to the right. */
export function downsample(layer: Layer, x: Value, channels: number, padding = 1): Value {
  const pads = padding === 0 ? ([0, 0, 1, 1] as const) : ([padding, padding, padding, padding] as const);
  return ops.conv2d(layer.at('conv'), x, [channels, channels], { stride: 2, pads });
}

export function upsample(layer: Layer, x: Value, channels: number): Value {
  return ops.conv2d(layer.at('conv'), ops.upsample(layer, x), [channels, channels]);
}
