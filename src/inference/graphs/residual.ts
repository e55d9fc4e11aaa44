import type { Layer, Value } from './graph.js';
import * as ops from './ops.js';

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
    y = ops.add(project, y, ops.unsqueeze(project, shift, 2, 3));
  }
  y = ops.conv2d(layer.at('conv2'), norm('norm2', y, to), [to, to]);
  const kept = from === to ? x : ops.conv2d(layer.at('conv_shortcut'), x, [from, to], { kernel: [1, 1] });
  return ops.add(layer, kept, y);
}

/** Half as high and wide; the VAE pads only below and to the right. */
export function downsample(layer: Layer, x: Value, channels: number, padding = 1): Value {
  const pads = padding === 0 ? ([0, 0, 1, 1] as const) : ([padding, padding, padding, padding] as const);
  return ops.conv2d(layer.at('conv'), x, [channels, channels], { stride: 2, pads });
}

export function upsample(layer: Layer, x: Value, channels: number): Value {
  return ops.conv2d(layer.at('conv'), ops.upsample(layer, x), [channels, channels]);
}
