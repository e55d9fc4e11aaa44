import { type Layer, microsoft, type Value } from './graph.js';
import * as ops from './ops.js';

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
      const whole = layer.graph.constant('float', values, [longest, pairs]);
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
