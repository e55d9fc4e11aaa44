import { ArchitectureError, Graph, type Layer, type Value } from './graph.js';
import * as ops from './ops.js';
import type { Form } from './lowering.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';

export interface ClipTextConfig {
  vocab_size: number;
  hidden_size: number;
  intermediate_size: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  max_position_embeddings: number;
  projection_dim?: number;
  hidden_act: string;
  layer_norm_eps?: number;
  eos_token_id?: number | null;
}

/**
 * CLIP's text tower (Radford et al. 2021): input_ids, attention_mask int64 [B, S] -> every layer's state
 * before the final normalisation, the last one after it, and its row at the end token (projected where the
 * checkpoint does).
 */
export function buildClipText(
  tensors: TensorTable,
  config: ClipTextConfig,
  form: Form,
  title = 'text_encoder',
) {
  const graph = new Graph(title, tensors, form);
  const root = graph.layer();
  const tower = root.at('text_model');
  const { hidden_size: width, num_hidden_layers: layers } = config;
  const eps = config.layer_norm_eps ?? 1e-5;
  const ids = graph.input('input_ids', 'int64', ['batch', 'sequence']);
  const mask = graph.input('attention_mask', 'int64', ['batch', 'sequence']);

  const embeddings = tower.at('embeddings');
  const length = ops.shape(embeddings, ids, 1);
  const positions = embeddings.at('position_embedding');
  const places = ops.slice(
    positions,
    positions.weight('weight', [config.max_position_embeddings, width]),
    0,
    0,
    length,
  );
  const tokens = ops.embedding(embeddings.at('token_embedding'), ids, [config.vocab_size, width]);
  let x = ops.add(embeddings, tokens, places);
  const bias = visibleTokens(tower, mask, length);
  const states = [x];
  for (let i = 0; i < layers; i += 1) {
    x = encoderLayer(tower.at('encoder.layers').at(i), x, bias, config);
    states.push(x);
  }
  const last = ops.layerNorm(tower.at('final_layer_norm'), x, width, eps);
  const pooled = endToken(tower.at('pooler'), ids, last, config.eos_token_id);
  const sequence = ['batch', 'sequence', width];
  if (root.has('text_projection.weight')) {
    const to = config.projection_dim ?? width;
    graph.output('text_embeds', ops.linear(root.at('text_projection'), pooled, [width, to], false), [
      'batch',
      to,
    ]);
    graph.output('last_hidden_state', last, sequence);
  } else {
    graph.output('last_hidden_state', last, sequence);
    graph.output('pooler_output', pooled, ['batch', width]);
  }
  for (const [i, state] of states.entries()) graph.output(`hidden_states.${i}`, state, sequence);
  return graph;
}

/** 0 where a token may look, a large negative number where it may not: forward, and at masked tokens. */
function visibleTokens(layer: Layer, mask: Value, length: Value): Value {
  const { graph } = layer;
  const ones = layer.op('ConstantOfShape', [ops.concat(layer, [length, length], 0)], { type: 'float' });
  const future = layer.op('Trilu', [
    ops.add(layer, ones, graph.constant('float', [1], [])),
    graph.constant('int64', [1], []),
  ]);
  const hidden = ops.sub(layer, graph.constant('float', [1], []), ops.cast(layer, mask, 'float'));
  // finite: minus infinity would turn a row that sees nothing into NaN
  const either = layer.op('Max', [future, ops.unsqueeze(layer, hidden, 1, 2)]);
  return ops.cast(layer, ops.mul(layer, either, graph.constant('float', [-30_000], [])), graph.form.type);
}

/** One layer of either of CLIP's towers; `bias` hides tokens from each other. */
export function encoderLayer(
  layer: Layer,
  x: Value,
  bias: Value | undefined,
  config: Pick<
    ClipTextConfig,
    'hidden_size' | 'intermediate_size' | 'num_attention_heads' | 'layer_norm_eps' | 'hidden_act'
  >,
): Value {
  const { hidden_size: width, intermediate_size: inner, num_attention_heads: heads } = config;
  const eps = config.layer_norm_eps ?? 1e-5;
  const activation = ops.activations[config.hidden_act];
  if (activation === undefined) throw new ArchitectureError(`hidden_act ${config.hidden_act} is not known`);
  const self = layer.at('self_attn');
  const seen = ops.layerNorm(layer.at('layer_norm1'), x, width, eps);
  const part = (name: string) => ops.linear(self.at(name), seen, [width, width]);
  const mixed = ops.attention(self, [part('q_proj'), part('k_proj'), part('v_proj')], {
    heads,
    ...(bias === undefined ? {} : { bias }),
  });
  const y = ops.addResidual(layer, x, ops.linear(self.at('out_proj'), mixed, [width, width]), width);
  const mlp = layer.at('mlp');
  const wide = ops.linear(mlp.at('fc1'), ops.layerNorm(layer.at('layer_norm2'), y, width, eps), [
    width,
    inner,
  ]);
  const fed = ops.linear(mlp.at('fc2'), activation(mlp, wide), [inner, width]);
  return ops.addResidual(layer, y, fed, width);
}

/** The row of each sequence at its first end token; 2 is what old configurations say for "the highest id". */
function endToken(layer: Layer, ids: Value, states: Value, eos: number | null | undefined): Value {
  const marks =
    eos === undefined || eos === null || eos === 2
      ? ids
      : ops.cast(
          layer,
          layer.op('Equal', [ids, layer.graph.constant('int64', [eos], [])], { type: 'bool' }),
          'int32',
        );
  const at = layer.op('ArgMax', [ops.cast(layer, marks, 'int32')], {
    attributes: { axis: 1, keepdims: 1 },
    type: 'int64',
  });
  return layer.op('GatherND', [states, at], { attributes: { batch_dims: 1 } });
}
