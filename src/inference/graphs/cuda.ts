import { type Layer, microsoft, type Value } from './graph.js';
import type { ConvOptions, GroupNormOptions, Lowering, Widths } from './lowering.js';
import * as ops from './ops.js';
import { type Named, type Parts, Pending, Shared, SharedPart } from './pending.js';
import { biasOf, convAttributes, double, multiply, plain } from './plain.js';

/** Halves of a GEGLU that BiasSplitGelu has a kernel for. */
const splitGeluWidths = [1280, 2560, 5120];

const named = (layer: Layer, name: string, shape: readonly number[]): Named => ({
  name: layer.full(name),
  entry: layer.entry(name, shape),
});

/** What large transformers are made of, in as few passes over their tokens as CUDA's operators allow. */
export const transformers: Pick<Lowering, 'normalisedLinear' | 'gatedResidual'> = {
  /** The norm adds the bias: as a residual that is one row for all. */
  normalisedLinear(layer, norm, x, width, eps) {
    const y = ops.linear(layer, x, [width, width], false);
    const rows = ops.reshape(layer, y, [-1, 1, width]);
    const bias = ops.reshape(layer, biasOf(layer, x, [width, width]), [1, 1, width]);
    const normal = norm.op('SkipSimplifiedLayerNormalization', [rows, bias, norm.weight('weight', [width])], {
      attributes: { epsilon: { float: eps } },
      domain: microsoft,
    });
    return ops.reshape(norm, normal, ops.shape(norm, y));
  },
  /** The gate goes into the matrix, which is smaller than the tokens; bias and residual are one pass. */
  gatedResidual(layer, kept, y, [from, to], { gate, bias }) {
    const weight = layer.weight('weight', [to, from]);
    const matrix = gate === undefined ? weight : ops.mul(layer, weight, ops.unsqueeze(layer, gate, 1));
    const product = layer.op('FusedMatMul', [y, matrix], { attributes: { transB: 1 }, domain: microsoft });
    return layer.op('BiasAdd', [ops.cast(layer, product, 'float'), bias, kept], { domain: microsoft });
  },
};

export interface CudaOptions {
  /** Layer norms add residuals, too: the first passes of a process are slow then, all others faster. */
  skipLayerNorm: boolean;
  /**
   * Attention of float32 graphs in fp16: its fraction is as long as that of TF32, which float32 matrices are computed
   * in, and diffusers does the same with SDXL's VAE.
   */
  halfAttention?: boolean;
  /** Up to this many inputs a matrix is packed as [in, out], which multiplies faster; above, not. */
  turnedUpTo?: number;
}

/**
 * ONNX Runtime's fused operators for CUDA. Feature maps are [N, H, W, C]. Biases and residuals are owed (see
 * `Pending`) until a norm adds them in its own pass.
 */
export const cudaLowering = ({
  skipLayerNorm,
  halfAttention = false,
  turnedUpTo = 0,
}: CudaOptions): Lowering => ({
  ...plain,
  ...transformers,
  attention(layer, qkv, options) {
    if (!halfAttention) return plain.attention(layer, qkv, options);
    const halves = qkv.map((x) => ops.cast(layer, x, 'float16')) as [Value, Value, Value];
    return ops.cast(layer, plain.attention(layer, halves, options), layer.graph.form.type);
  },
  linear(layer, x, [from, to], hasBias, stored) {
    // what stays float32 is small, and nobody waits for its bias
    if (x.type !== layer.graph.form.type || stored !== undefined)
      return plain.linear(layer, x, [from, to], hasBias, stored);
    const weight = named(layer, 'weight', [to, from]);
    const bias = hasBias ? [named(layer, 'bias', [to])] : [];
    if (x instanceof Shared && weight.entry.transposed !== true)
      return x.multiply(layer, [from, to], weight, bias);
    const y = product(layer, x, [from, to], weight, turnedUpTo);
    return hasBias ? new Pending(layer, y, { bias, channels: to, isMap: false }) : y;
  },
  conv2d: (layer, x, widths, options) => conv2d(layer, x, widths, { ...options, turnedUpTo }),
  groupNorm,
  layerNorm(layer, x, width, eps) {
    const weights = [layer.weight('weight', [width]), layer.weight('bias', [width])] as const;
    const sum = skipLayerNorm && x instanceof Pending ? x.takeResidual() : undefined;
    const epsilon = { float: eps };
    if (sum === undefined)
      return layer.op('LayerNormalization', [x, ...weights], { attributes: { axis: -1, epsilon } });
    const inputs = [sum.value, sum.skip, ...weights, ...(sum.bias === null ? [] : [sum.bias])];
    const options = { attributes: { epsilon }, domain: microsoft };
    return (x as Pending).addedBy(layer.op('SkipLayerNormalization', inputs, options), 3);
  },
  geglu(layer, x, [from, to]) {
    if (!splitGeluWidths.includes(to)) return plain.geglu(layer, x, [from, to]);
    const both = product(layer, x, [from, 2 * to], named(layer, 'weight', [2 * to, from]), turnedUpTo);
    return layer.op('BiasSplitGelu', [both, layer.weight('bias', [2 * to])], { domain: microsoft });
  },
  addResidual(layer, kept, y, channels) {
    const [skip, value] = [kept, y].map(partsOf) as [Parts, Parts];
    const isMap = y instanceof Pending && y.isMap;
    const bias = [...value.bias, ...skip.bias];
    return new Pending(layer, value.value, { skip: skip.value, bias, channels, isMap });
  },
  shiftChannels(layer, x, shift, channels) {
    if (!(shift instanceof SharedPart && shift.bias.length > 0))
      return ops.add(layer, x, ops.unsqueeze(layer, shift, 1, 2));
    const { value, bias } = partsOf(x);
    shift.bias.push(...bias);
    return new Pending(layer, value, { shift, bias: [], channels, isMap: true });
  },
  shared: (layer, x) => new Shared(layer, ops.cast(layer, x, layer.graph.form.type)),
  fromPlanes: (layer, x) => ops.transpose(layer, plain.fromPlanes(layer, x), [0, 2, 3, 1]),
  intoPlanes: (layer, x) => ops.transpose(layer, x, [0, 3, 1, 2]),
  toTokens: (layer, x, channels) => ops.reshape(layer, x, [0, -1, channels]),
  toMap(layer, x, channels, like) {
    const { value, bias } = partsOf(x);
    const map = ops.reshape(layer, value, ops.shape(layer, like));
    return bias.length === 0 ? map : new Pending(layer, map, { bias, channels, isMap: true });
  },
  joinChannels: (layer, maps) => ops.concat(layer, maps, 3),
  upsample: (layer, x) => double(layer, x, [1, 2, 2, 1]),
});

/** A value and the biases it is owed; what is owed more is added. */
const partsOf = (x: Value): Parts =>
  (x instanceof Pending ? x.takeBias() : undefined) ?? { value: x, bias: [] };

function product(
  layer: Layer,
  x: Value,
  [from, to]: Widths,
  { name, entry }: Named,
  turnedUpTo: number,
): Value {
  const { graph } = layer;
  if (from <= turnedUpTo && entry.transposed !== true) {
    const turned = { sum: [entry], channelsLast: [1, to, from, 1] };
    return layer.op('MatMul', [x, graph.pack(name, graph.form.type, [from, to], [turned])]);
  }
  return multiply(layer, x, [from, to], entry.shape);
}

function conv2d(
  layer: Layer,
  given: Value,
  [from, to]: Widths,
  options: ConvOptions & { turnedUpTo: number },
): Value {
  const { graph } = layer;
  const { kernel = [3, 3], stride = 1, stored } = options;
  const shape = [to, from, ...kernel];
  const bias = named(layer, 'bias', [to]);
  if (kernel.join() === '1,1' && stride === 1) {
    const y = product(layer, given, [from, to], named(layer, 'weight', stored ?? shape), options.turnedUpTo);
    return new Pending(layer, y, { bias: [bias], channels: to, isMap: true });
  }
  const { pads, ...rest } = convAttributes(options);
  const [top, left, bottom, right] = pads as [number, number, number, number];
  const isEven = top === bottom && left === right;
  const x = isEven
    ? given
    : layer.op('Pad', [given, graph.constant('int64', [0, top, left, 0, 0, bottom, right, 0])]);
  const attributes = { ...rest, pads: isEven ? pads : [0, 0, 0, 0], dilations: [1, 1], group: 1 };
  // its kernels take eight channels at a time; what is padded is cut off again
  const padded = 8 * Math.ceil(to / 8);
  const { name, entry } = named(layer, 'weight', stored ?? shape);
  const weight = graph.pack(
    name,
    graph.form.type,
    [padded, ...kernel, from],
    [{ sum: [entry], channelsLast: shape }],
  );
  const convolve = (more: Value[]) =>
    layer.op('NhwcConv', [x, weight, ...more], { attributes, domain: microsoft });
  if (padded === to) return new Pending(layer, convolve([]), { bias: [bias], channels: to, isMap: true });
  const wide = convolve([graph.pack(bias.name, graph.form.type, [padded], [{ sum: [bias.entry] }])]);
  return ops.slice(layer, wide, 3, 0, to);
}

function groupNorm(layer: Layer, x: Value, channels: number, options: GroupNormOptions): Value {
  const { groups, eps, activate } = options;
  const attributes = {
    groups,
    epsilon: { float: eps },
    activation: activate === true ? 1 : 0,
    channels_last: 1,
  };
  const weights = ['weight', 'bias'].map((name) => layer.weight(name, [channels], [channels], 'float'));
  const sum = x instanceof Pending ? x.takeForGroups() : undefined;
  const how = { attributes, domain: microsoft, mixed: true };
  if (sum === undefined) return layer.op('GroupNorm', [x, ...weights], how);
  const inputs = [sum.value, ...weights, sum.skip, ...(sum.bias === null ? [] : [sum.bias])];
  return (x as Pending).addedBy(layer.op('SkipGroupNorm', inputs, how), 1);
}
