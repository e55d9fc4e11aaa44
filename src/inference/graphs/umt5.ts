import { ArchitectureError, Graph, type Layer, microsoft, type Value } from './graph.js';
import * as ops from './ops.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';
import type { Form, Widths } from './lowering.js';

export interface Umt5Config {
  vocab_size: number;
  d_model: number;
  d_kv: number;
  d_ff: number;
  num_heads: number;
  num_layers: number;
  layer_norm_epsilon?: number;
  relative_attention_num_buckets?: number;
  relative_attention_max_distance?: number;
  feed_forward_proj?: string;
}

/**
 * UMT5's encoder (Chung et al. 2023): T5 (Raffel et al. 2020) whose every layer has a table of relative
 * positions. `input_ids`, `attention_mask` int64 [B, S] -> `last_hidden_state`, rows beyond the mask
 * included.
 */
export function buildUmt5(tensors: TensorTable, config: Umt5Config, form: Form): Graph {
  if (!['gated-gelu', undefined].includes(config.feed_forward_proj))
    throw new ArchitectureError(
      `text_encoder: feed_forward_proj ${config.feed_forward_proj} is not supported`,
    );
  const graph = new Graph('text_encoder', tensors, form);
  const root = graph.layer();
  const { d_model: width, d_ff: inner, num_heads: heads } = config;
  const eps = config.layer_norm_epsilon ?? 1e-6;
  const within = heads * config.d_kv;
  const ids = graph.input('input_ids', 'int64', ['batch', 'sequence']);
  const mask = graph.input('attention_mask', 'int64', ['batch', 'sequence']);
  const encoder = root.at('encoder');
  const hidden = hiddenTokens(encoder, mask);
  const buckets = positionBuckets(encoder, ids, config);

  let x = embedding(root.at('shared'), ids, [config.vocab_size, width]);
  for (let i = 0; i < config.num_layers; i += 1) {
    const block = encoder.at('block').at(i);
    const self = block.at('layer.0.SelfAttention');
    const seen = ops.rmsNorm(block.at('layer.0.layer_norm'), x, width, eps);
    const part = (name: string) => ops.linear(self.at(name), seen, [width, within], false);
    const table = self.at('relative_attention_bias');
    const places = ops.embedding(table, buckets, [config.relative_attention_num_buckets ?? 32, heads]);
    const near = ops.unsqueeze(table, ops.transpose(table, places, [2, 0, 1]), 0);
    const bias = ops.add(self, near, hidden);
    const mixed = ops.attention(self, [part('q'), part('k'), part('v')], { heads, scale: 1, bias });
    x = ops.add(block, x, wideLinear(self.at('o'), mixed, [within, width]));
    const feed = block.at('layer.1.DenseReluDense');
    const normal = ops.rmsNorm(block.at('layer.1.layer_norm'), x, width, eps);
    const gate = ops.geluTanh(feed, ops.linear(feed.at('wi_0'), normal, [width, inner], false));
    const value = scaledLinear(feed.at('wi_1'), normal, [width, inner], 1 / headroom);
    x = ops.add(block, x, wideLinear(feed.at('wo'), ops.mul(feed, gate, value), [inner, width], headroom));
  }
  const last = encoder.at('final_layer_norm');
  graph.output('last_hidden_state', ops.rmsNorm(last, x, width, eps), ['batch', 'sequence', width]);
  return graph;
}

/** Powers of two, which change no digit: trained T5 models leave fp16's range in their feed-forward layers. */
const headroom = 16;
const range = 64;

/** x W^T · factor in fp16, factored before it is rounded; in float32 there is no need. */
function scaledLinear(layer: Layer, x: Value, [from, to]: Widths, factor: number): Value {
  if (x.type === 'float') return ops.linear(layer, x, [from, to], false);
  const attributes = { transB: 1, alpha: { float: factor } };
  return layer.op('FusedMatMul', [x, layer.weight('weight', [to, from])], { attributes, domain: microsoft });
}

/** x W^T · factor as float32, for the residual stream. */
function wideLinear(layer: Layer, x: Value, widths: Widths, factor = 1): Value {
  const y = scaledLinear(layer, x, widths, 1 / range);
  if (y.type === 'float') return y;
  const back = layer.graph.constant('float', [range * factor], []);
  return ops.mul(layer, ops.cast(layer, y, 'float'), back);
}

/** Rows of the table of tokens, float32: the residual stream begins with them. */
function embedding(layer: Layer, ids: Value, [rows, width]: readonly [number, number]): Value {
  // half the memory of a card, where they are stored wider
  const isWide = layer.entry('weight', [rows, width]).dtype === 'F32';
  const halves = layer.graph.form.type === 'float16' && isWide;
  const table = halves ? layer.weight('weight', [rows, width]) : layer.stored('weight', [rows, width]);
  return ops.cast(layer, layer.op('Gather', [table, ids], { attributes: { axis: 0 } }), 'float');
}

/** [B, 1, 1, S]: 0 where the mask is 1, else nearly the lowest value there is. */
function hiddenTokens(layer: Layer, mask: Value): Value {
  const { graph } = layer;
  const { type } = graph.form;
  const hidden = ops.sub(layer, graph.constant('float', [1], []), ops.cast(layer, mask, 'float'));
  const lowest = graph.constant('float', [type === 'float' ? -3.4028234663852886e38 : -60_000], []);
  return ops.cast(layer, ops.unsqueeze(layer, ops.mul(layer, hidden, lowest), 1, 2), type);
}

/**
 * Buckets of key - query, int64 [S, S]: one for each near distance, then logarithmic ones up to the largest.
 */
function positionBuckets(layer: Layer, ids: Value, config: Umt5Config): Value {
  const { graph } = layer;
  const half = (config.relative_attention_num_buckets ?? 32) / 2;
  const exact = half / 2;
  const farthest = config.relative_attention_max_distance ?? 128;
  const scalar = (value: number) => graph.constant('float', [value], []);
  const length = layer.op('Squeeze', [ops.shape(layer, ids, 1)]);
  const whole = (value: number) => graph.constant('int64', [value], []);
  const positions = ops.cast(layer, layer.op('Range', [whole(0), length, whole(1)]), 'float');
  const offset = ops.sub(layer, ops.unsqueeze(layer, positions, 0), ops.unsqueeze(layer, positions, 1));
  const distance = layer.op('Abs', [offset]);
  // log(distance / exact) / log(farthest / exact), in as many steps as there are far buckets
  const ratio = ops.div(layer, layer.op('Max', [distance, scalar(1)]), scalar(exact));
  const logarithm = ops.div(layer, layer.op('Log', [ratio]), scalar(Math.log(farthest / exact)));
  const step = layer.op('Floor', [ops.mul(layer, logarithm, scalar(half - exact))]);
  const far = layer.op('Min', [ops.add(layer, step, scalar(exact)), scalar(half - 1)]);
  const isNear = layer.op('Less', [distance, scalar(exact)], { type: 'bool' });
  const bucket = layer.op('Where', [isNear, distance, far], { type: 'float' });
  const isLater = ops.cast(layer, layer.op('Greater', [offset, scalar(0)], { type: 'bool' }), 'float');
  return ops.cast(layer, ops.add(layer, ops.mul(layer, isLater, scalar(half)), bucket), 'int64');
}
