import { type Layer, microsoft, type Value } from './graph.js';
import * as ops from './ops.js';

/** What the time does to a block of Wan's transformer, and what a token's place does to its attention. */

/** Shift and scale of a normalisation, and the gate of what follows it, each [width]. */
export interface Modulated {
  shift: Value;
  /** 1 + scale, as it multiplies. */
  scale: Value;
  gate: Value;
  /** Of the gated layer: its bias times the gate, in float32. */
  bias: Value;
}

/** What the time does to one block. */
export interface Modulation {
  first: Modulated;
  last: Modulated;
}

/** [1, width] in float32, of the first row's timestep. */
export function timeEmbedding(embedder: Layer, timestep: Value, frequencies: number, width: number): Value {
  const layer = embedder.at('time_embedder');
  const first = ops.cast(layer, ops.slice(layer, timestep, 0, 0, 1), 'float');
  const waves = ops.sinusoids(layer, first, frequencies);
  const inner = ops.silu(layer, ops.linear(layer.at('linear_1'), waves, [frequencies, width]));
  return ops.linear(layer.at('linear_2'), inner, [width, width]);
}

/** The modulation of all blocks at once, and of the last normalisation: few operators instead of many small ones. */
export function modulations(root: Layer, blocks: readonly Layer[], time: Value, width: number) {
  const { type } = root.graph.form;
  const projection = root.at('condition_embedder.time_proj');
  const projected = ops.linear(projection, ops.silu(projection, time), [width, 6 * width]);
  const tables = blocks.map((layer) => layer.weight('scale_shift_table', [1, 6, width], undefined, 'float'));
  // shift, scale and gate of the first part, then of the last: what scales begins at 1
  const start = root.graph.constant('float', [0, 1, 0, 0, 1, 0], [1, 6, 1]);
  const table = ops.add(root, ops.concat(root, tables, 0), start);
  const every = ops.add(root, table, ops.reshape(root, projected, [1, 6, width]));
  const gates = ops.slice(root, every, 1, 2, ops.toEnd, 3);
  const biases = blocks.flatMap((layer) => [
    outBias(layer.at('attn1'), width),
    layer.at('ffn.net.2').weight('bias', [width], [width], 'float'),
  ]);
  const stacked = ops.reshape(root, ops.concat(root, biases, 0), [-1, 2, width]);
  const parts = rows(root, ops.cast(root, every, type), 6 * blocks.length, width);
  const gated = rows(root, ops.mul(root, gates, stacked), 2 * blocks.length, width);
  const modulated = (block: number, half: number): Modulated => {
    const [shift, scale, gate] = parts.slice(6 * block + 3 * half) as [Value, Value, Value];
    return { shift, scale, gate, bias: gated[2 * block + half] as Value };
  };

  const last = root.weight('scale_shift_table', [1, 2, width], undefined, 'float');
  const ends = ops.add(root, last, root.graph.constant('float', [0, 1], [1, 2, 1]));
  const both = ops.add(root, ends, ops.unsqueeze(root, time, 1));
  const [shift, scale] = rows(root, ops.cast(root, both, type), 2, width) as [Value, Value];
  return {
    blocks: blocks.map((_, i): Modulation => ({ first: modulated(i, 0), last: modulated(i, 1) })),
    final: { shift, scale },
  };
}

/** Parts of one axis: a Split of equal ones is fast, and there is no axis to drop afterwards. */
const rows = (layer: Layer, x: Value, count: number, width: number): Value[] =>
  ops.parts(layer, ops.reshape(layer, x, [-1]), count, width);

/**
 * The bias of an attention's last matrix W with that of its values: softmax's rows sum up to 1, so W (A v + b_v) + b is
 * W A v + (W b_v + b). Of weights alone, so the runtime computes it once.
 */
export function outBias(attention: Layer, width: number): Value {
  const out = attention.at('to_out.0');
  const values = attention.at('to_v').weight('bias', [width], [1, width], 'float');
  const through = ops.linear(out, values, [width, width]);
  return ops.reshape(out, through, [width]);
}

export interface RotaryTables {
  /** Queries or keys [B, tokens, heads · width], turned by their places. */
  rotate(layer: Layer, x: Value, heads: number): Value;
}

/**
 * Rotary positions (Su et al. 2021) over three axes: each head's pairs of channels are shared out among
 * frame, row and column, and turned by the token's place on that axis. Tables are rounded to float32 after
 * float64 arithmetic.
 */
export function rotaryTables(
  layer: Layer,
  { frames, rows, columns }: { frames: Value; rows: Value; columns: Value },
  headWidth: number,
  longest: number,
): RotaryTables {
  const plane = 2 * Math.floor(headWidth / 6);
  const axes = [
    { extent: frames, channels: headWidth - 2 * plane, shape: [-1, 1, 1] },
    { extent: rows, channels: plane, shape: [1, -1, 1] },
    { extent: columns, channels: plane, shape: [1, 1, -1] },
  ];
  const table = (of: (angle: number) => number) => {
    const parts = axes.map(({ extent, channels, shape }) => {
      const pairs = channels / 2;
      const values = Float32Array.from({ length: longest * pairs }, (_, i) =>
        of(Math.floor(i / pairs) / 10_000 ** ((2 * (i % pairs)) / channels)),
      );
      const whole = layer.constant(values, [longest, pairs]);
      const used = ops.reshape(layer, ops.slice(layer, whole, 0, 0, extent), [...shape, pairs]);
      return layer.op('Expand', [used, ops.shapeOf(layer, frames, rows, columns, pairs)]);
    });
    return ops.reshape(layer, ops.concat(layer, parts, 3), [-1, headWidth / 2]);
  };
  const [cosine, sine] = [table(Math.cos), table(Math.sin)];
  const start = layer.graph.constant('int64', [0]);
  return {
    rotate: (self, x, heads) =>
      self.op('RotaryEmbedding', [x, start, cosine, sine], {
        attributes: { interleaved: 1, num_heads: heads },
        domain: microsoft,
      }),
  };
}
