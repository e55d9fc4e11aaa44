import { type Layer, microsoft, type Value } from './graph.js';
import type { ConvOptions, GroupNormOptions, Lowering, Widths } from './lowering.js';
import * as ops from './ops.js';

/** Operators that every device has, feature maps as [N, C, H, W]: as the papers write them. */
export const plain: Lowering = {
  linear(layer, x, widths, bias, stored) {
    const y = multiply(layer, x, widths, stored);
    return bias ? ops.add(layer, y, biasOf(layer, x, widths)) : y;
  },
  normalisedLinear: (layer, norm, x, width, eps) =>
    ops.rmsNorm(norm, ops.linear(layer, x, [width, width]), width, eps),
  gatedResidual(layer, kept, y, widths, { gate, bias }) {
    const product = ops.linear(layer, y, widths, false);
    const gated = gate === undefined ? product : ops.mul(layer, product, gate);
    return ops.add(layer, kept, ops.add(layer, ops.cast(layer, gated, 'float'), bias));
  },
  conv2d,
  groupNorm,
  layerNorm(layer, x, width, eps) {
    const attributes = { axis: -1, epsilon: { float: eps } };
    const weights = [layer.weight('weight', [width]), layer.weight('bias', [width])];
    return layer.op('LayerNormalization', [x, ...weights], { attributes });
  },
  attention(layer, [q, k, v], { heads, scale, bias }) {
    const attributes = { num_heads: heads, ...(scale === undefined ? {} : { scale: { float: scale } }) };
    const inputs = [q, k, v, ...(bias === undefined ? [] : [null, null, bias])];
    return layer.op('MultiHeadAttention', inputs, { attributes, domain: microsoft });
  },
  geglu(layer, x, [from, to]) {
    const halves = ops.split(layer, ops.linear(layer, x, [from, 2 * to]), 2, 2, to);
    const [value, gate] = halves as [Value, Value];
    return ops.mul(layer, value, ops.gelu(layer, gate));
  },
  parts: (layer, x, count, width) => ops.split(layer, x, count, 0, width),
  addResidual: (layer, kept, y) => ops.add(layer, kept, y),
  shiftChannels: (layer, x, shift) => ops.add(layer, x, ops.unsqueeze(layer, shift, 2, 3)),
  shared: (layer, x) => ops.cast(layer, x, layer.graph.form.type),
  fromPlanes: (layer, x) => ops.cast(layer, x, layer.graph.form.type),
  intoPlanes: (_, x) => x,
  toTokens: (layer, x) => ops.transpose(layer, ops.reshape(layer, x, [0, 0, -1]), [0, 2, 1]),
  toMap(layer, x, channels, like) {
    const extents = ops.shapeOf(layer, 0, channels, ops.shape(layer, like, 2));
    return ops.reshape(layer, ops.transpose(layer, x, [0, 2, 1]), extents);
  },
  joinChannels: (layer, maps) => ops.concat(layer, maps, 1),
  upsample: (layer, x) => double(layer, x, [1, 1, 2, 2]),
};

/** x W^T with W [out, in] as torch keeps it; a file that has [in, out] multiplies as it is. */
export function multiply(
  layer: Layer,
  x: Value,
  [from, to]: Widths,
  stored: readonly number[] = [to, from],
): Value {
  const type = floatOf(x);
  if (layer.entry('weight', stored).transposed === true)
    return layer.op('MatMul', [x, layer.weight('weight', stored, [from, to], type)]);
  const weight = layer.weight('weight', stored, [to, from], type);
  return layer.op('FusedMatMul', [x, weight], { attributes: { transB: 1 }, domain: microsoft });
}

export const biasOf = (layer: Layer, x: Value, [, to]: Widths): Value =>
  layer.weight('bias', [to], [to], floatOf(x));

const floatOf = ({ type }: Value) => (type === 'float' ? 'float' : 'float16');

export const convAttributes = ({ kernel = [3, 3], stride = 1, pads }: ConvOptions) => {
  const [top, left] = [kernel[0] >> 1, kernel[1] >> 1];
  return { kernel_shape: kernel, strides: [stride, stride], pads: pads ?? [top, left, top, left] };
};

function conv2d(layer: Layer, x: Value, [from, to]: Widths, options: ConvOptions): Value {
  const shape = [to, from, ...(options.kernel ?? [3, 3])];
  const weight = layer.weight('weight', options.stored ?? shape, shape);
  return layer.op('Conv', [x, weight, layer.weight('bias', [to])], { attributes: convAttributes(options) });
}

/** Sums over a group leave fp16's range: they are float32 always. */
function groupNorm(layer: Layer, given: Value, channels: number, options: GroupNormOptions): Value {
  const { graph } = layer;
  const { groups, eps, activate } = options;
  const x = ops.cast(layer, given, 'float');
  const grouped = ops.reshape(layer, x, [0, groups, -1]);
  const even = graph.constant('float', new Float32Array(groups).fill(1));
  const none = graph.constant('float', new Float32Array(groups));
  const attributes = { epsilon: { float: eps } };
  const normal = layer.op('InstanceNormalization', [grouped, even, none], { attributes });
  const back = ops.reshape(layer, normal, ops.shape(layer, x));
  const perChannel = (name: string) => layer.weight(name, [channels], [channels, 1, 1], 'float');
  const y = ops.add(layer, ops.mul(layer, back, perChannel('weight')), perChannel('bias'));
  return ops.cast(layer, activate === true ? ops.silu(layer, y) : y, given.type);
}

export function double(layer: Layer, x: Value, scales: readonly number[]): Value {
  return layer.op('Resize', [x, null, layer.graph.constant('float', scales)], {
    attributes: { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
    mixed: true,
  });
}

/** WebGPU's FusedMatMul does not transpose: the runtime turns the weights when it opens the graph. */
export const webgpu: Lowering = {
  ...plain,
  // its Split binds every part at once, of which a shader has only some twelve
  parts: (layer, x, count, width) =>
    Array.from({ length: count }, (_, i) => ops.slice(layer, x, 0, i * width, (i + 1) * width)),
  linear(layer, x, [from, to], bias, stored = [to, from]) {
    const product = () => {
      if (layer.entry('weight', stored).transposed === true) return multiply(layer, x, [from, to]);
      const weight = layer.weight('weight', stored, [to, from], floatOf(x));
      return layer.op('MatMul', [x, ops.transpose(layer, weight, [1, 0])]);
    };
    return bias ? ops.add(layer, product(), biasOf(layer, x, [from, to])) : product();
  },
};
