import { type Graph, type Layer, microsoft, type Value } from './graph.js';
import type { Widths } from './lowering.js';
import * as ops from './ops.js';

/** Some frames of one clip in the order of time: one value of all of them, or one for each. */
export type Frames = readonly Value[];

interface ConvOptions {
  /** Rows and columns of the kernel; three frames high always. */
  size?: 1 | 3;
  /** 2 takes every second frame. */
  stride?: 1 | 2;
}

/** What of the frames before a convolution goes on to the next chunk: its last inputs. */
export interface Kept {
  frames: Frames;
  count: number;
  channels: number;
}

/**
 * How a device keeps frames and convolves them. A causal convolution sees a frame and the two before it, which lie in
 * the chunk or are what the last chunk kept; the first chunk has zeros for them.
 */
export interface FrameOps {
  isFirst: boolean;
  kept: Kept[];
  conv(layer: Layer, x: Frames, widths: Widths, options?: ConvOptions): Frames;
  /** Zeros, or frames, in a temporal convolution's place that the first chunk passes over. */
  keep(layer: Layer, x: Frames, channels: number, blank: boolean): void;
  /** Of each frame by itself. */
  plane(layer: Layer, x: Frames, widths: Widths, options?: { size?: 1 | 3; stride?: 1 | 2 }): Frames;
  /** Each pixel's channels to length sqrt(C), times gamma. */
  norm(layer: Layer, x: Frames, channels: number): Frames;
  silu(layer: Layer, x: Frames): Frames;
  add(layer: Layer, x: Frames, y: Frames): Frames;
  /** One head over the pixels of each frame; x is [.. 3C]. */
  attend(layer: Layer, x: Frames, channels: number): Frames;
  upsample(layer: Layer, x: Frames): Frames;
  /** The first channels. */
  channels(layer: Layer, x: Frames, count: number): Frames;
  /** Twice the frames of half the channels: their first half is the earlier frame. */
  unfold(layer: Layer, x: Frames, channels: number): Frames;
}

/** Kept frames for a convolution: `count` of `channels`. */
export type Before = (count: number, channels: number) => Frames;

/** Of what is bottom and right of a picture that is halved. */
const halving = [0, 0, 1, 1] as const;

/**
 * All frames in one value [T, C, H, W]; a causal 3×3×3 convolution is a 2D one over three stacked frames, so that only
 * operators remain which every device has.
 */
export function stackedFrames(before: Before | null): FrameOps {
  const kept: Kept[] = [];
  const one = (value: Value): Frames => [value];
  const all = (x: Frames) => x[0] as Value;
  const zeros = (layer: Layer, like: Value, count: number, channels: number) =>
    layer.op('ConstantOfShape', [ops.shapeOf(layer, count, channels, ops.shape(layer, like, 2))], {
      type: 'float',
    });

  return {
    isFirst: before === null,
    kept,
    conv(layer, given, [from, to], { size = 3, stride = 1 } = {}) {
      const x = all(given);
      const count = stride === 2 ? 1 : 2;
      const past = before === null ? zeros(layer, x, count, from) : all(before(count, from));
      const frames = ops.concat(layer, [past, x], 0);
      const last = ops.slice(layer, stride === 2 ? x : frames, 0, -count, ops.toEnd);
      kept.push({ frames: one(last), count, channels: from });
      const windows = [0, 1, 2].map((first) => {
        const end = first === 2 ? ops.toEnd : first - 2;
        return ops.unsqueeze(layer, ops.slice(layer, frames, 0, first, end, stride), 2);
      });
      // [T, C, 3, H, W]: as the checkpoint's [out, C, 3, h, w] counts them
      const stacked = ops.concat(layer, windows, 2);
      const joined = ops.reshape(layer, stacked, ops.shapeOf(layer, -1, 3 * from, ops.shape(layer, x, 2)));
      const kernel = [size, size] as const;
      return one(ops.conv2d(layer, joined, [3 * from, to], { kernel, stored: [to, from, 3, size, size] }));
    },
    keep(layer, x, channels, blank) {
      const frames = one(blank ? zeros(layer, all(x), 2, channels) : all(x));
      kept.push({ frames, count: blank ? 2 : 1, channels });
    },
    plane(layer, x, [from, to], { size = 3, stride = 1 } = {}) {
      const kernel = [size, size] as const;
      // three dimensions where the checkpoint keeps a causal convolution of one frame
      const own = layer.entry('weight').shape;
      const stored = own.length === 5 ? [to, from, 1, size, size] : [to, from, size, size];
      const pads = stride === 2 ? { pads: halving } : {};
      return one(ops.conv2d(layer, all(x), [from, to], { kernel, stride, stored, ...pads }));
    },
    norm(layer, given, channels) {
      const { graph } = layer;
      const x = all(given);
      const gamma = layer.weight('gamma', layer.entry('gamma').shape, [channels, 1, 1]);
      const length = layer.op('ReduceL2', [x], { attributes: { axes: [1], keepdims: 1 } });
      const least = layer.op('Max', [length, graph.constant('float', [1e-12], [])]);
      const scale = ops.mul(layer, gamma, graph.constant('float', [Math.sqrt(channels)], []));
      return one(ops.mul(layer, ops.div(layer, x, least), scale));
    },
    silu: (layer, x) => one(ops.silu(layer, all(x))),
    add: (layer, x, y) => one(ops.add(layer, all(x), all(y))),
    attend(layer, x, channels) {
      const tokens = ops.toTokens(layer, all(x), 3 * channels);
      const [q, k, v] = ops.split(layer, tokens, 3, 2, channels) as [Value, Value, Value];
      return one(ops.toMap(layer, ops.attention(layer, [q, k, v], { heads: 1 }), channels, all(x)));
    },
    upsample: (layer, x) => one(ops.upsample(layer, all(x))),
    channels: (layer, x, count) => one(ops.slice(layer, all(x), 1, 0, count)),
    unfold(layer, x, channels) {
      const extents = ops.shapeOf(layer, -1, channels, ops.shape(layer, all(x), 2));
      return one(ops.reshape(layer, all(x), extents));
    },
  };
}

/**
 * Each frame by itself as [1, H, W, C]: what is kept for later is the frames themselves, and nothing copies them.
 * Convolutions take and give the form's type; the residual stream stays float32.
 */
export function separateFrames(before: Before | null): FrameOps {
  const kept: Kept[] = [];
  const cast = (layer: Layer, x: Value) => ops.cast(layer, x, layer.graph.form.type);
  const each = (layer: Layer, x: Frames, map: (frame: Value) => Value): Frames =>
    x.map((frame) => map(cast(layer, frame)));
  /** One for all that are as large: the first chunk's are kept for as long as the loop runs. */
  const blanks = new Map<string, Value>();
  let halvings = 0;
  const blank = (layer: Layer, like: Value, channels: number): Value => {
    const key = `${channels} ${halvings}`;
    const known = blanks.get(key);
    if (known !== undefined) return known;
    const zero = layer.constant([0], [1, 1, 1, 1]);
    const zeros = layer.op('Expand', [zero, blankShape(layer, like, channels)]);
    blanks.set(key, zeros);
    return zeros;
  };

  return {
    isFirst: before === null,
    kept,
    conv(layer, given, [from, to], { size = 3, stride = 1 } = {}) {
      const x = each(layer, given, (frame) => frame);
      const count = stride === 2 ? 1 : 2;
      const zeros = before === null ? blank(layer, x[0] as Value, from) : undefined;
      const past = zeros === undefined ? (before as Before)(count, from) : Array<Value>(count).fill(zeros);
      const all = [...past, ...x];
      kept.push({ frames: all.slice(-count), count, channels: from });
      return Array.from({ length: x.length / stride }, (_, i) => {
        const window = ops.concat(layer, all.slice(i * stride, i * stride + 3), 3);
        return convolve(layer, window, [from, to], { size, frames: 3 });
      });
    },
    keep(layer, x, channels, isBlank) {
      const frames = isBlank
        ? Array<Value>(2).fill(blank(layer, x[0] as Value, channels))
        : each(layer, x, (frame) => frame);
      kept.push({ frames, count: frames.length, channels });
    },
    plane(layer, x, widths, { size = 3, stride = 1 } = {}) {
      if (stride === 2) halvings += 1;
      return each(layer, x, (frame) => convolve(layer, frame, widths, { size, stride }));
    },
    norm(layer, x, channels) {
      const gamma = layer.weight('gamma', layer.entry('gamma').shape, [channels]);
      const attributes = { axis: -1, epsilon: { float: 1e-24 / channels }, stash_type: 1 };
      const how = { attributes, type: gamma.type, mixed: true };
      return x.map((frame) => layer.op('SimplifiedLayerNormalization', [frame, gamma], how));
    },
    silu: (layer, x) => x.map((frame) => ops.silu(layer, frame)),
    add: (layer, x, y) =>
      x.map((frame, i) =>
        ops.add(layer, ops.cast(layer, frame, 'float'), ops.cast(layer, y[i] as Value, 'float')),
      ),
    attend: (layer, x, channels) =>
      x.map((frame) => {
        const tokens = ops.reshape(layer, frame, [0, -1, 3 * channels]);
        const [q, k, v] = ops.split(layer, tokens, 3, 2, channels) as [Value, Value, Value];
        const mixed = ops.attention(layer, [q, k, v], { heads: 1 });
        return ops.reshape(layer, mixed, blankShape(layer, frame, channels));
      }),
    upsample(layer, x) {
      halvings -= 1;
      return each(layer, x, (frame) => ops.upsample(layer, frame));
    },
    channels: (layer, x, count) => x.map((frame) => ops.slice(layer, frame, 3, 0, count)),
    unfold: (layer, x, channels) => x.flatMap((frame) => ops.split(layer, frame, 2, 3, channels)),
  };
}

/** [1, H, W, channels] of a frame's rows and columns. */
const blankShape = (layer: Layer, like: Value, channels: number) =>
  ops.shapeOf(layer, 1, ops.shape(layer, like, 1, 3), channels);

function convolve(
  layer: Layer,
  x: Value,
  [from, to]: Widths,
  { size, stride = 1, frames = 1 }: { size: 1 | 3; stride?: 1 | 2; frames?: number },
): Value {
  const { graph } = layer;
  const { type } = graph.form;
  const entry = layer.entry('weight');
  // kernels take eight channels at a time; what is padded is cut off again
  const padded = size === 1 ? to : 8 * Math.ceil(to / 8);
  const shape = [to, from, frames, size, size];
  layer.entry('weight', entry.shape.length === 5 ? shape : [to, from, size, size]);
  const parts = [{ sum: [entry], channelsLast: shape }];
  const dims = size === 1 ? [padded, frames * from] : [padded, size, size, frames * from];
  const weight =
    size === 1 && frames === 1
      ? layer.weight('weight', entry.shape, dims)
      : graph.pack(layer.full('weight'), type, dims, parts);
  if (size === 1) {
    const y = layer.op('FusedMatMul', [x, weight], { attributes: { transB: 1 }, domain: microsoft });
    return ops.add(layer, y, layer.weight('bias', [to]));
  }
  const bias =
    padded === to
      ? layer.weight('bias', [to])
      : graph.pack(layer.full('bias'), type, [padded], [{ sum: [layer.entry('bias', [to])] }]);
  const rows = layer.graph.constant('int64', [0, 0, 0, 0, 0, 1, 1, 0]);
  const input = stride === 2 ? layer.op('Pad', [x, rows]) : x;
  const pad = stride === 2 ? 0 : 1;
  const attributes = {
    kernel_shape: [size, size],
    strides: [stride, stride],
    pads: [pad, pad, pad, pad],
    dilations: [1, 1],
    group: 1,
  };
  const y = layer.op('NhwcConv', [input, weight, bias], { attributes, domain: microsoft });
  return padded === to ? y : ops.slice(layer, y, 3, 0, to);
}

/** Inputs `c0`, `c1`, … of a graph for what the chunk before kept, in the order in which convolutions run. */
export function cacheInputs(graph: Graph): Before {
  let i = 0;
  return (count, channels) => {
    const name = `c${i}`;
    const dims = [count, channels, `height_${i}`, `width_${i}`];
    i += 1;
    return [graph.input(name, 'float', dims)];
  };
}
