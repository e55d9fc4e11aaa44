import { ArchitectureError, Graph, type Layer, type Value } from './graph.js';
import * as ops from './ops.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';
import type { Form } from './lowering.js';

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

  let x = ops.embedding(root.at('shared'), ids, [config.vocab_size, width]);
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
    x = ops.add(block, x, ops.linear(self.at('o'), mixed, [within, width], false));
    const feed = block.at('layer.1.DenseReluDense');
    const normal = ops.rmsNorm(block.at('layer.1.layer_norm'), x, width, eps);
    const gate = ops.geluTanh(feed, ops.linear(feed.at('wi_0'), normal, [width, inner], false));
    const wide = ops.mul(feed, gate, ops.linear(feed.at('wi_1'), normal, [width, inner], false));
    x = ops.add(block, x, ops.linear(feed.at('wo'), wide, [inner, width], false));
  }
  const last = ops.rmsNorm(encoder.at('final_layer_norm'), x, width, eps);
  graph.output('last_hidden_state', last, ['batch', 'sequence', width]);
  return graph;
}

/** [B, 1, 1, S]: 0 where the mask is 1, else float32's lowest. */
function hiddenTokens(layer: Layer, mask: Value): Value {
  const { graph } = layer;
  const hidden = ops.sub(layer, graph.constant('float', [1], []), ops.cast(layer, mask, 'float'));
  const lowest = graph.constant('float', [-3.4028234663852886e38], []);
  return ops.unsqueeze(layer, ops.mul(layer, hidden, lowest), 1, 2);
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
