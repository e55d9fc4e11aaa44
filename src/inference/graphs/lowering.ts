import type { Layer, Value } from './graph.js';

/** How a graph is written: for which device's operators, and what its matrices compute in. */
export interface Form {
  lowering: Lowering;
  type: 'float' | 'float16';
}

/** [in, out] of a layer. */
export type Widths = readonly [number, number];

export interface ConvOptions {
  kernel?: readonly [number, number];
  stride?: number;
  /** Rows and columns on top, left, bottom and right; half the kernel where absent. */
  pads?: readonly [number, number, number, number];
  /** Shape in the checkpoint, where it is not [out, in, rows, columns]. */
  stored?: readonly number[];
}

export interface GroupNormOptions {
  groups: number;
  eps: number;
  /** SiLU after it. */
  activate?: boolean;
}

export interface AttentionOptions {
  heads: number;
  /** Of the scores; 1/sqrt(head width) where absent. */
  scale?: number;
  /** Added to the scores, [1 or B, 1 or heads, S, T]. */
  bias?: Value;
}

/**
 * What a layer means is said in `ops.ts` and the architectures; how a device computes it best, here. A feature map is
 * a value in the layout that the device convolves in: made by `fromPlanes` or a convolution, read back by `intoPlanes`.
 */
export interface Lowering {
  /** In the float type of `x`; `stored` is the matrix's shape in the checkpoint, where it is not [out, in]. */
  linear(layer: Layer, x: Value, widths: Widths, bias: boolean, stored?: readonly number[]): Value;
  /** A linear layer of equal widths and the RMS norm of all it gives. */
  normalisedLinear(layer: Layer, norm: Layer, x: Value, width: number, eps: number): Value;
  conv2d(layer: Layer, x: Value, widths: Widths, options: ConvOptions): Value;
  groupNorm(layer: Layer, x: Value, channels: number, options: GroupNormOptions): Value;
  layerNorm(layer: Layer, x: Value, width: number, eps: number): Value;
  attention(layer: Layer, qkv: readonly [Value, Value, Value], options: AttentionOptions): Value;
  /** GEGLU (Shazeer 2020): one half of the projection, gated by GELU of the other; `widths` is [in, one half]. */
  geglu(layer: Layer, x: Value, widths: Widths): Value;
  /** [count · width] in equal parts. */
  parts(layer: Layer, x: Value, count: number, width: number): Value[];
  /** A residual connection: what was kept, and a layer's result of the same shape. */
  addResidual(layer: Layer, kept: Value, y: Value, channels: number): Value;
  /** In float32: `kept` + `gate` · W y + `bias`, of which the gate has had its share. */
  gatedResidual(
    layer: Layer,
    kept: Value,
    y: Value,
    widths: Widths,
    by: { gate?: Value; bias: Value },
  ): Value;
  /** Adds [N, C] to every pixel of a feature map. */
  shiftChannels(layer: Layer, x: Value, shift: Value, channels: number): Value;
  /** A value that many layers multiply: a device may do so for all of them at once. */
  shared(layer: Layer, x: Value): Value;
  /** [N, C, H, W] -> feature map. */
  fromPlanes(layer: Layer, x: Value): Value;
  intoPlanes(layer: Layer, x: Value): Value;
  /** Feature map -> [N, H · W, C]. */
  toTokens(layer: Layer, x: Value, channels: number): Value;
  /** [N, H · W, C] -> feature map with the extents of `like`. */
  toMap(layer: Layer, x: Value, channels: number, like: Value): Value;
  /** Feature maps side by side in their channels. */
  joinChannels(layer: Layer, maps: readonly Value[]): Value;
  /** Twice as high and wide, each value four times. */
  upsample(layer: Layer, x: Value): Value;
}
