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
    ? ops.linear(projectIn, ops.toTokens(layer, normal), width)
    : ops.toTokens(layer, ops.conv2d(projectIn, normal, width, pixel));
  for (let i = 0; i < depth; i += 1) {
    const block = layer.at('transformer_blocks').at(i);
    const norm = (name: string) => ops.layerNorm(block.at(name), tokens, channels, 1e-5);
    const self = norm('norm1');
    tokens = ops.add(block, tokens, attend(block.at('attn1'), self, self, [channels, channels], heads, null));
    const seen = attend(block.at('attn2'), norm('norm2'), text.tokens, [channels, text.width], heads, image);
    tokens = ops.add(block, tokens, seen);
    tokens = ops.add(block, tokens, feedForward(block.at('ff.net'), norm('norm3'), channels));
  }
  const projectOut = layer.at('proj_out');
  const y = dense
    ? ops.toPlanes(layer, ops.linear(projectOut, tokens, width), channels, x)
    : ops.conv2d(projectOut, ops.toPlanes(layer, tokens, channels, x), width, pixel);
  return ops.add(layer, x, y);
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

/** GEGLU (Shazeer 2020): one half of the projection, gated by GELU of the other. */
function feedForward(layer: Layer, x: Value, width: number): Value {
  const wide = layer.at('0.proj');
  const [value, gate] = ops.split(wide, ops.linear(wide, x, [width, 8 * width]), 2, 2, 4 * width) as [
    Value,
    Value,
  ];
  return ops.linear(layer.at(2), ops.mul(wide, value, ops.gelu(wide, gate)), [4 * width, width]);
}
