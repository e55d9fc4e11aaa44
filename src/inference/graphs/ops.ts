import { type Layer, microsoft, type Value } from './graph.js';
import type { ConvOptions, Lowering, Widths } from './lowering.js';
import { type ElementType, elementTypes, type GraphProto, valueInfo } from './onnx-proto.js';

/** What the layers of these models mean, each once; a device's own way with them is its lowering's. */

const lowering = (layer: Layer) => layer.graph.form.lowering;

/** x W^T + b over the last axis; `widths` is [in, out]. */
export const linear = (
  layer: Layer,
  x: Value,
  widths: Widths,
  bias = true,
  stored?: readonly number[],
): Value => lowering(layer).linear(layer, x, widths, bias, stored);

/** Convolution of a feature map. */
export const conv2d = (layer: Layer, x: Value, widths: Widths, options: ConvOptions = {}): Value =>
  lowering(layer).conv2d(layer, x, widths, options);

const through =
  <Name extends Exclude<keyof Lowering, 'parts'>>(name: Name) =>
  (...given: Parameters<Lowering[Name]>): Value =>
    // one name stands for one signature
    (lowering(given[0])[name] as (...values: Parameters<Lowering[Name]>) => Value)(...given);

/** Normalises groups of channels of a feature map, then scales, shifts and, where asked for, applies SiLU. */
export const groupNorm = through('groupNorm');
/** softmax(q k^T · scale + bias) v for each head of [B, S, heads · width]. */
export const attention = through('attention');
export const geglu = through('geglu');
export const addResidual = through('addResidual');
export const parts = (...[layer, ...given]: Parameters<Lowering['parts']>): Value[] =>
  lowering(layer).parts(layer, ...given);
export const normalisedLinear = through('normalisedLinear');
export const gatedResidual = through('gatedResidual');
export const shiftChannels = through('shiftChannels');
export const shared = through('shared');
export const fromPlanes = through('fromPlanes');
export const intoPlanes = through('intoPlanes');
export const toTokens = through('toTokens');
export const toMap = through('toMap');
export const joinChannels = through('joinChannels');
export const upsample = through('upsample');

/** Over the last axis; without weights of its own where `affine` is false. */
export function layerNorm(layer: Layer, x: Value, width: number, eps: number, affine = true): Value {
  if (affine) return lowering(layer).layerNorm(layer, x, width, eps);
  const ones = layer.constant(new Float32Array(width).fill(1));
  return layer.op('LayerNormalization', [x, ones], { attributes: { axis: -1, epsilon: { float: eps } } });
}

/** x / sqrt(mean(x²) + eps) · weight over the last axis. */
export function rmsNorm(layer: Layer, x: Value, width: number, eps: number): Value {
  const weight = layer.weight('weight', [width]);
  return layer.op('SimplifiedLayerNormalization', [x, weight], {
    attributes: { axis: -1, epsilon: { float: eps }, stash_type: 1 },
    type: weight.type,
    mixed: true,
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
/** The same by a tanh, of x + bias. */
export const geluTanh = (layer: Layer, x: Value, bias?: Value) =>
  layer.op('FastGelu', bias === undefined ? [x] : [x, bias], { domain: microsoft });

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

export function cast(layer: Layer, x: Value, type: ElementType): Value {
  return x.type === type ? x : layer.op('Cast', [x], { attributes: { to: elementTypes[type] }, type });
}

export function unsqueeze(layer: Layer, x: Value, ...axes: number[]): Value {
  return layer.op('Unsqueeze', [x, layer.graph.constant('int64', axes)]);
}

/** Rows of a table by their numbers; the table stays in the type it is stored in. */
export function embedding(layer: Layer, ids: Value, [rows, width]: readonly [number, number]): Value {
  const table = layer.stored('weight', [rows, width]);
  const taken = layer.op('Gather', [table, ids], { attributes: { axis: 0 } });
  return cast(layer, taken, layer.graph.form.type);
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
  const each = layer.graph.constant('float', frequencies, [1, half]);
  const angles = mul(layer, unsqueeze(layer, values, 1), each);
  const [cosine, sine] = [layer.op('Cos', [angles]), layer.op('Sin', [angles])];
  return concat(layer, cosineFirst ? [cosine, sine] : [sine, cosine], 1);
}

interface Turn {
  /** What the next turn is given. */
  state: readonly Value[];
  /** What of every turn is collected, along a new first axis. */
  scanned: readonly Value[];
}

/**
 * Computes `turn` as often as `count` says, int64 [1]; `state` goes from turn to turn.
 * @returns what was scanned
 */
export function loop(
  layer: Layer,
  count: Value,
  state: readonly Value[],
  turn: (index: Value, state: readonly Value[]) => Turn,
): Value[] {
  const { graph } = layer;
  const name = graph.unique(`${layer.path === '' ? graph.title : layer.path}/body`);
  const own = (suffix: string, { type }: { type: Value['type'] }): Value => ({
    name: `${name}/${suffix}`,
    type,
  });
  const index = own('turn', { type: 'int64' });
  const goes = own('goes', { type: 'bool' });
  const carried = state.map((value, i) => own(`state_${i}`, value));
  let made: Turn = { state: [], scanned: [] };
  const node = graph.inside(() => {
    made = turn(index, carried);
    layer.ops('Identity', [goes], 1, { names: [own('went', goes).name] });
  });
  // an output is made here, and once: what is not is copied
  const outputs = new Set<string>();
  const named = (values: readonly Value[], what: string) =>
    values.map((value, i) => {
      const isOwn = node.some(({ output }) => output.includes(value.name)) && !outputs.has(value.name);
      outputs.add(value.name);
      if (isOwn) return value;
      const copy = own(`${what}_${i}`, value);
      node.push(...graph.inside(() => layer.ops('Identity', [value], 1, { names: [copy.name] })));
      return copy;
    });
  made = { state: named(made.state, 'next'), scanned: named(made.scanned, 'scanned') };
  const body: GraphProto = {
    name,
    node,
    initializer: [],
    input: [valueInfo(index.name, 'int64', []), valueInfo(goes.name, 'bool', []), ...carried.map(untold)],
    output: [
      valueInfo(own('went', goes).name, 'bool', []),
      ...made.state.map(untold),
      ...made.scanned.map(untold),
    ],
  };
  const results = layer.ops('Loop', [count, null, ...state], state.length + made.scanned.length, {
    attributes: { body: { graph: body } },
    mixed: true,
  });
  return made.scanned.map(({ type }, i) => ({ name: (results[state.length + i] as Value).name, type }));
}

/** Of a shape that the runtime infers. */
const untold = ({ name, type }: Value) => valueInfo(name, type);
