import { ArchitectureError, Graph, type Layer, type Value } from './graph.js';
import type { Form } from './lowering.js';
import * as ops from './ops.js';
import {
  modulations,
  type Modulation,
  outBias,
  rotaryTables,
  type RotaryTables,
  timeEmbedding,
} from './wan-conditions.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';

/** diffusers' WanTransformer3DModel and WanVACETransformer3DModel. */
export interface WanTransformerConfig {
  patch_size: number[];
  num_attention_heads: number;
  attention_head_dim: number;
  in_channels: number;
  out_channels: number;
  text_dim: number;
  freq_dim: number;
  ffn_dim: number;
  num_layers: number;
  cross_attn_norm?: boolean;
  qk_norm?: string | null;
  eps?: number;
  added_kv_proj_dim?: number | null;
  image_dim?: number | null;
  rope_max_seq_len?: number;
  vace_layers?: number[] | null;
  vace_in_channels?: number | null;
}

/** What every block takes besides its tokens. */
interface Conditions {
  config: WanTransformerConfig;
  width: number;
  eps: number;
  text: Value;
  rotary: RotaryTables;
}

/**
 * The text as the transformer's blocks attend to it, the same at every step: `encoder_hidden_states` [B, S, text] ->
 * `text_states` [B, S, width].
 */
export function buildWanText(tensors: TensorTable, config: WanTransformerConfig, form: Form): Graph {
  const graph = new Graph('transformer/text', tensors, form);
  const layer = graph.layer('condition_embedder.text_embedder');
  const width = config.num_attention_heads * config.attention_head_dim;
  const given = graph.input('encoder_hidden_states', 'float', ['batch', 'sequence', config.text_dim]);
  const x = ops.cast(layer, given, form.type);
  const inner = ops.geluTanh(layer, ops.linear(layer.at('linear_1'), x, [config.text_dim, width]));
  graph.output('text_states', ops.linear(layer.at('linear_2'), inner, [width, width]), [
    'batch',
    'sequence',
    width,
  ]);
  return graph;
}

/**
 * Wan 2.1's diffusion transformer (Wan Team 2025): `hidden_states` [B, C, F, h, w], `timestep` int64 [B], `text_states`
 * of `buildWanText` -> `sample` like `hidden_states`. VACE (Jiang et al. 2025) takes `control_hidden_states`
 * [B, 96, F, h, w] and `control_hidden_states_scale` [hints] too.
 *
 * Every row of a call has the same timestep: its modulation is computed once, and may go into the matrices. The
 * residual stream is float32 whatever the matrices compute in.
 */
export function buildWanTransformer(tensors: TensorTable, config: WanTransformerConfig, form: Form): Graph {
  requireSupported(config);
  // before opset 17 layer normalisation is the runtime's own, which takes float32 and gives fp16
  const graph = new Graph('transformer', tensors, form, form.type === 'float16' ? 16 : 17);
  const root = graph.layer();
  const width = config.num_attention_heads * config.attention_head_dim;
  const eps = config.eps ?? 1e-6;
  const volume = ['frames', 'height', 'width'];
  const latents = graph.input('hidden_states', 'float', ['batch', config.in_channels, ...volume]);
  const timestep = graph.input('timestep', 'int64', ['batch']);
  const text = graph.input('text_states', 'float', ['batch', 'sequence', width]);

  const blocks = Array.from({ length: config.num_layers }, (_, i) => root.at('blocks').at(i));
  const sides = (config.vace_layers ?? []).map((_, i) => root.at('vace_blocks').at(i));
  const time = timeEmbedding(root.at('condition_embedder'), timestep, config.freq_dim, width);
  const timed = modulations(root, [...blocks, ...sides], time, width);
  const grid = patchGrid(root, latents, config);
  const conditions: Conditions = {
    config,
    width,
    eps,
    text: ops.cast(root, text, form.type),
    rotary: rotaryTables(root.at('rope'), grid, config.attention_head_dim, config.rope_max_seq_len ?? 1024),
  };

  let x = patches(root.at('patch_embedding'), latents, [config.in_channels, width], config);
  const hints = vaceHints(root, x, conditions, sides, timed.blocks.slice(blocks.length));
  for (const [i, layer] of blocks.entries()) {
    x = block(layer, x, timed.blocks[i] as Modulation, conditions);
    x = hints.get(i)?.(x) ?? x;
  }

  const [, rows, columns] = config.patch_size as [number, number, number];
  const out = config.out_channels;
  const final = root.at('proj_out');
  const y = ops.linear(final, normalised(final, x, timed.final, eps), [width, out * rows * columns]);
  // [B, F·h·w, rows, columns, C] -> [B, C, F, h · rows, w · columns]
  const extents = ops.shapeOf(final, 0, grid.frames, grid.rows, grid.columns, rows, columns, out);
  const ordered = ops.transpose(final, ops.reshape(final, y, extents), [0, 6, 1, 2, 4, 3, 5]);
  const sample = ops.reshape(final, ordered, ops.shapeOf(final, 0, out, ops.shape(final, latents, 2)));
  graph.output('sample', sample, ['batch', out, ...volume]);
  return graph;
}

function requireSupported(config: WanTransformerConfig): void {
  const refuse = (what: string) => {
    throw new ArchitectureError(`transformer: ${what} is not supported`);
  };
  if (config.patch_size.length !== 3 || config.patch_size[0] !== 1)
    refuse(`patch_size [${config.patch_size.join()}]`);
  if (![undefined, 'rms_norm_across_heads'].includes(config.qk_norm ?? undefined))
    refuse(`qk_norm ${config.qk_norm}`);
  if ((config.added_kv_proj_dim ?? config.image_dim ?? null) !== null)
    refuse('image to video (added_kv_proj_dim)');
}

/** Extents of the tokens, one element each. */
export interface PatchGrid {
  frames: Value;
  rows: Value;
  columns: Value;
}

function patchGrid(layer: Layer, latents: Value, { patch_size: patch }: WanTransformerConfig): PatchGrid {
  const extent = (axis: number, by: number) =>
    ops.div(layer, ops.shape(layer, latents, axis, axis + 1), layer.graph.constant('int64', [by]));
  return {
    frames: extent(2, 1),
    rows: extent(3, patch[1] as number),
    columns: extent(4, patch[2] as number),
  };
}

/** [B, C, F, h, w] -> tokens [B, F · rows · columns, width] in float32: each patch's values by one matrix. */
function patches(
  layer: Layer,
  volume: Value,
  [from, to]: readonly [number, number],
  config: WanTransformerConfig,
): Value {
  const [, height, width] = config.patch_size as [number, number, number];
  const { frames, rows, columns } = patchGrid(layer, volume, config);
  const extents = ops.shapeOf(layer, 0, from, frames, rows, height, columns, width);
  const split = ops.reshape(layer, ops.cast(layer, volume, layer.graph.form.type), extents);
  const ordered = ops.transpose(layer, split, [0, 2, 3, 5, 1, 4, 6]);
  const flat = ops.shapeOf(layer, ops.shape(layer, volume, 0, 1), -1, from * height * width);
  const tokens = ops.reshape(layer, ordered, flat);
  const stored = [to, from, 1, height, width];
  return ops.cast(layer, ops.linear(layer, tokens, [from * height * width, to], true, stored), 'float');
}

/** Layer normalisation, then times `scale` plus `shift`, both [width]. */
function normalised(
  layer: Layer,
  x: Value,
  { scale, shift }: { scale: Value; shift: Value },
  eps: number,
): Value {
  return layer.op('LayerNormalization', [x, scale, shift], {
    attributes: { axis: -1, epsilon: { float: eps }, stash_type: 1 },
    type: layer.graph.form.type,
    mixed: true,
  });
}

/** Self-attention, cross-attention to the text, feed-forward; first and last shifted, scaled and gated by the time. */
function block(layer: Layer, given: Value, { first, last }: Modulation, conditions: Conditions): Value {
  const { config, width, eps, text } = conditions;
  const square = [width, width] as const;
  const own = normalised(layer.at('norm1'), given, first, eps);
  const seen = attend(layer.at('attn1'), own, own, conditions, true);
  let x = ops.gatedResidual(layer.at('attn1.to_out.0'), given, seen, square, first);
  const cross = layer.at('norm2');
  const second =
    config.cross_attn_norm === true
      ? normalised(
          cross,
          x,
          { scale: cross.weight('weight', [width]), shift: cross.weight('bias', [width]) },
          eps,
        )
      : ops.cast(layer, x, layer.graph.form.type);
  const read = attend(layer.at('attn2'), second, text, conditions, false);
  x = ops.gatedResidual(layer.at('attn2.to_out.0'), x, read, square, {
    bias: outBias(layer.at('attn2'), width),
  });
  const third = normalised(layer.at('norm3'), x, last, eps);
  const up = layer.at('ffn.net.0.proj');
  const projected = ops.linear(up, third, [width, config.ffn_dim], false);
  const inner = ops.geluTanh(up, projected, up.weight('bias', [config.ffn_dim]));
  return ops.gatedResidual(layer.at('ffn.net.2'), x, inner, [config.ffn_dim, width], last);
}

/** Attention before its last matrix; that one's bias has the values' (see `outBias`). */
function attend(layer: Layer, x: Value, context: Value, conditions: Conditions, rotate: boolean): Value {
  const { config, width, eps, rotary } = conditions;
  const heads = config.num_attention_heads;
  const turned = (value: Value) => (rotate ? rotary.rotate(layer, value, heads) : value);
  const q = turned(ops.normalisedLinear(layer.at('to_q'), layer.at('norm_q'), x, width, eps));
  const k = turned(ops.normalisedLinear(layer.at('to_k'), layer.at('norm_k'), context, width, eps));
  const v = ops.linear(layer.at('to_v'), context, [width, width], false);
  return ops.attention(layer, [q, k, v], { heads });
}

/** VACE's side blocks carry the control stream on; each gives a hint for one layer of the main stream. */
function vaceHints(
  root: Layer,
  x: Value,
  conditions: Conditions,
  sides: readonly Layer[],
  timed: readonly Modulation[],
): Map<number, (x: Value) => Value> {
  const { config, width } = conditions;
  const hints = new Map<number, (x: Value) => Value>();
  if (sides.length === 0) return hints;
  const channels = config.vace_in_channels ?? 96;
  const { graph } = root;
  const volume = ['frames', 'height', 'width'];
  const given = graph.input('control_hidden_states', 'float', ['batch', channels, ...volume]);
  const scales = graph.input('control_hidden_states_scale', 'float', [sides.length]);
  let control = patches(root.at('vace_patch_embedding'), given, [channels, width], config);
  for (const [i, side] of sides.entries()) {
    const square = [width, width] as const;
    if (i === 0) {
      const first = side.at('proj_in');
      const tokens = ops.cast(first, control, graph.form.type);
      control = ops.gatedResidual(first, x, tokens, square, {
        bias: first.weight('bias', [width], [width], 'float'),
      });
    }
    control = block(side, control, timed[i] as Modulation, conditions);
    const last = side.at('proj_out');
    const scale = ops.slice(last, scales, 0, i, i + 1);
    const gated = ops.mul(last, last.weight('bias', [width], [width], 'float'), scale);
    const y = ops.cast(last, control, graph.form.type);
    const gate = ops.cast(last, scale, graph.form.type);
    hints.set((config.vace_layers ?? [])[i] as number, (main) =>
      ops.gatedResidual(last, main, y, square, { gate, bias: gated }),
    );
  }
  return hints;
}
