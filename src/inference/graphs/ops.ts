import { type Layer, microsoft, type Value } from './graph.js';

/**
 * What the layers of these models mean, each once. Weights are read as torch keeps them; a device whose
 * kernels want another form gets it here and nowhere else.
 */

/** x W^T + b over the last axis; `width` is [in, out]. */
export function linear(layer: Layer, x: Value, [from, to]: readonly [number, number], bias = true): Value {
  const y = multiply(layer, x, layer.entry('weight', [to, from]).transposed === true, [from, to]);
  return bias ? add(layer, y, layer.weight('bias', [to])) : y;
}

function multiply(layer: Layer, x: Value, transposed: boolean, [from, to]: readonly [number, number]): Value {
  // a file that has [in, out] multiplies as it is
  if (transposed) return layer.op('MatMul', [x, layer.weight('weight', [to, from], [from, to])]);
  const weight = layer.weight('weight', [to, from]);
  if (layer.graph.device === 'webgpu')
    return layer.op('MatMul', [x, layer.op('Transpose', [weight], { attributes: { perm: [1, 0] } })]);
  return layer.op('FusedMatMul', [x, weight], { attributes: { transB: 1 }, domain: microsoft });
}

interface ConvOptions {
  kernel?: readonly [number, number];
  stride?: number;
  /** Rows and columns on top, left, bottom and right; half the kernel where absent. */
  pads?: readonly [number, number, number, number];
  /** Shape in the checkpoint, where it is not [out, in, rows, columns]. */
  stored?: readonly number[];
}

/** Convolution of [N, in, H, W]. */
export function conv2d(
  layer: Layer,
  x: Value,
  [from, to]: readonly [number, number],
  { kernel = [3, 3], stride = 1, pads, stored }: ConvOptions = {},
): Value {
  const shape = [to, from, ...kernel];
  const [top, left] = [kernel[0] >> 1, kernel[1] >> 1];
  return layer.op('Conv', [x, layer.weight('weight', stored ?? shape, shape), layer.weight('bias', [to])], {
    attributes: { kernel_shape: kernel, strides: [stride, stride], pads: pads ?? [top, left, top, left] },
  });
}

/** Normalises groups of channels of [N, C, H, W], then scales, shifts and, where asked for, applies SiLU. */
export function groupNorm(
  layer: Layer,
  x: Value,
  channels: number,
  { groups, eps, activate = false }: { groups: number; eps: number; activate?: boolean },
): Value {
  const { graph } = layer;
  const grouped = reshape(layer, x, [0, groups, -1]);
  const even = graph.constant('float', new Float32Array(groups).fill(1));
  const none = graph.constant('float', new Float32Array(groups));
  const normal = layer.op('InstanceNormalization', [grouped, even, none], {
    attributes: { epsilon: { float: eps } },
  });
  const back = layer.op('Reshape', [normal, shape(layer, x)]);
  const scaled = mul(layer, back, layer.weight('weight', [channels], [channels, 1, 1]));
  const y = add(layer, scaled, layer.weight('bias', [channels], [channels, 1, 1]));
  return activate ? silu(layer, y) : y;
}

/** Over the last axis; without weights of its own where `affine` is false. */
export function layerNorm(layer: Layer, x: Value, width: number, eps: number, affine = true): Value {
  const weights = affine
    ? [layer.weight('weight', [width]), layer.weight('bias', [width])]
    : [layer.graph.constant('float', new Float32Array(width).fill(1))];
  return layer.op('LayerNormalization', [x, ...weights], {
    attributes: { axis: -1, epsilon: { float: eps } },
  });
}

/** x / sqrt(mean(x²) + eps) · weight over the last axis. */
export function rmsNorm(layer: Layer, x: Value, width: number, eps: number): Value {
  return layer.op('SimplifiedLayerNormalization', [x, layer.weight('weight', [width])], {
    attributes: { axis: -1, epsilon: { float: eps }, stash_type: 1 },
  });
}

interface AttentionOptions {
  heads: number;
  /** Of the scores; 1/sqrt(head width) where absent. */
  scale?: number;
  /** Added to the scores, [1 or B, 1 or heads, S, T]. */
  bias?: Value;
}

/** softmax(q k^T · scale + bias) v for each head of [B, S, heads · width]. */
export function attention(
  layer: Layer,
  [q, k, v]: readonly [Value, Value, Value],
  options: AttentionOptions,
): Value {
  const { heads, scale, bias } = options;
  return layer.op('MultiHeadAttention', [q, k, v, ...(bias === undefined ? [] : [null, null, bias])], {
    attributes: { num_heads: heads, ...(scale === undefined ? {} : { scale: { float: scale } }) },
    domain: microsoft,
  });
}

const binary = (type: string) => (layer: Layer, a: Value, b: Value) => layer.op(type, [a, b]);
export const add = binary('Add');
export const sub = binary('Sub');
export const mul = binary('Mul');
export const div = binary('Div');

const unary =
  (type: string, domain = '', alpha?: number) =>
  (layer: Layer, x: Value) =>
    layer.op(type, [x], {
      domain,
      ...(alpha === undefined ? {} : { attributes: { alpha: { float: alpha } } }),
    });
/** x · sigmoid(x) */
export const silu = unary('QuickGelu', microsoft, 1);
export const quickGelu = unary('QuickGelu', microsoft, 1.702);
/** x · Φ(x) */
export const gelu = unary('Gelu', microsoft);
/** The same by a tanh. */
export const geluTanh = unary('FastGelu', microsoft);

/** What configurations call their activations. */
export const activations: Record<string, (layer: Layer, x: Value) => Value> = {
  silu,
  swish: silu,
  gelu,
  quick_gelu: quickGelu,
  gelu_new: geluTanh,
  gelu_pytorch_tanh: geluTanh,
};

/** Extents of x from axis `start` to before `end`. */
export function shape(layer: Layer, x: Value, start = 0, end?: number): Value {
  return layer.op('Shape', [x], {
    attributes: { start, ...(end === undefined ? {} : { end }) },
    type: 'int64',
  });
}

/** To fixed extents: 0 keeps one, -1 takes what is left; or to a computed shape. */
export function reshape(layer: Layer, x: Value, to: readonly number[] | Value): Value {
  return layer.op('Reshape', [
    x,
    Array.isArray(to) ? layer.graph.constant('int64', to as number[]) : (to as Value),
  ]);
}

/** A shape of numbers and of extents that are known only when the graph runs. */
export function shapeOf(layer: Layer, ...parts: readonly (number | Value)[]): Value {
  return concat(
    layer,
    parts.map((part) => (typeof part === 'number' ? layer.graph.constant('int64', [part]) : part)),
    0,
  );
}

export function transpose(layer: Layer, x: Value, perm: readonly number[]): Value {
  return layer.op('Transpose', [x], { attributes: { perm } });
}

export function concat(layer: Layer, parts: readonly Value[], axis: number): Value {
  return parts.length === 1 ? (parts[0] as Value) : layer.op('Concat', parts, { attributes: { axis } });
}

/** Equal parts along an axis. */
export function split(layer: Layer, x: Value, parts: number, axis: number, width: number): Value[] {
  const sizes = layer.graph.constant('int64', Array<number>(parts).fill(width));
  return layer.ops('Split', [x, sizes], parts, { attributes: { axis } });
}

/** From `start` to before `end` (both numbers or computed, one element) along one axis. */
export function slice(
  layer: Layer,
  x: Value,
  axis: number,
  start: number,
  end: number | Value,
  step = 1,
): Value {
  const one = (value: number) => layer.graph.constant('int64', [value]);
  const stop = typeof end === 'number' ? one(end) : end;
  return layer.op('Slice', [x, one(start), stop, one(axis), ...(step === 1 ? [] : [one(step)])]);
}

/** Beyond every extent: to the end of an axis. */
export const toEnd = 2 ** 31 - 1;

export function cast(layer: Layer, x: Value, type: 'float' | 'int64' | 'int32'): Value {
  const to = { float: 1, int64: 7, int32: 6 }[type];
  return x.type === type ? x : layer.op('Cast', [x], { attributes: { to }, type });
}

export function unsqueeze(layer: Layer, x: Value, ...axes: number[]): Value {
  return layer.op('Unsqueeze', [x, layer.graph.constant('int64', axes)]);
}

/** Rows of a table by their numbers; the table stays in the type it is stored in. */
export function embedding(layer: Layer, ids: Value, [rows, width]: readonly [number, number]): Value {
  const table = layer.stored('weight', [rows, width]);
  return cast(layer, layer.op('Gather', [table, ids], { attributes: { axis: 0 } }), 'float');
}

/** [N, C, H, W] -> [N, H · W, C] */
export function toTokens(layer: Layer, x: Value): Value {
  return transpose(layer, reshape(layer, x, [0, 0, -1]), [0, 2, 1]);
}

/** [N, H · W, C] -> [N, C, H, W] with the extents of `like`. */
export function toPlanes(layer: Layer, x: Value, channels: number, like: Value): Value {
  return reshape(layer, transpose(layer, x, [0, 2, 1]), shapeOf(layer, 0, channels, shape(layer, like, 2)));
}

/** Twice as high and wide, each value four times. */
export function upsample(layer: Layer, x: Value): Value {
  return layer.op('Resize', [x, null, layer.graph.constant('float', [1, 1, 2, 2])], {
    attributes: { mode: 'nearest', coordinate_transformation_mode: 'asymmetric', nearest_mode: 'floor' },
  });
}

/** Sines and cosines of values [N] by `width`/2 falling frequencies (Vaswani et al. 2017): [N, width]. */
export function sinusoids(
  layer: Layer,
  values: Value,
  width: number,
  { cosineFirst = true, shift = 0 } = {},
): Value {
  const half = width / 2;
  const frequencies = Float32Array.from({ length: half }, (_, i) =>
    Math.exp((-Math.log(10_000) * i) / (half - shift)),
  );
  const angles = mul(
    layer,
    unsqueeze(layer, values, 1),
    layer.graph.constant('float', frequencies, [1, half]),
  );
  const [cosine, sine] = [layer.op('Cos', [angles]), layer.op('Sin', [angles])];
  return concat(layer, cosineFirst ? [cosine, sine] : [sine, cosine], 1);
}
