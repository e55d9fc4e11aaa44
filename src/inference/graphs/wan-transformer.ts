import { ArchitectureError, Graph, type Layer, type Value } from './graph.js';
import * as ops from './ops.js';
import { rotaryTables, type RotaryTables } from './rotary.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';
import type { Form } from './lowering.js';

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
  /** [B, 6, width] of the time. */
  modulation: Value;
  rotary: RotaryTables;
}

/**
 * Wan 2.1's diffusion transformer (Wan Team 2025): `hidden_states` [B, C, F, h, w], `timestep` int64 [B],
 * `encoder_hidden_states` [B, S, text] -> `sample` like `hidden_states`. VACE (Jiang et al. 2025) takes
 * `control_hidden_states` [B, 96, F, h, w] and `control_hidden_states_scale` [hints] too.
 */
export function buildWanTransformer(tensors: TensorTable, config: WanTransformerConfig, form: Form): Graph {
  requireSupported(config);
  const graph = new Graph('transformer', tensors, form);
  const root = graph.layer();
  const width = config.num_attention_heads * config.attention_head_dim;
  const eps = config.eps ?? 1e-6;
  const volume = ['frames', 'height', 'width'];
  const latents = graph.input('hidden_states', 'float', ['batch', config.in_channels, ...volume]);
  const timestep = graph.input('timestep', 'int64', ['batch']);
  const given = graph.input('encoder_hidden_states', 'float', ['batch', 'sequence', config.text_dim]);

  const embedder = root.at('condition_embedder');
  const time = timeEmbedding(embedder.at('time_embedder'), timestep, config.freq_dim, width);
  const projection = embedder.at('time_proj');
  const projected = ops.linear(projection, ops.silu(projection, time), [width, 6 * width]);
  const text = embedder.at('text_embedder');
  const inner = ops.geluTanh(text, ops.linear(text.at('linear_1'), given, [config.text_dim, width]));
  const grid = patchGrid(root, latents, config);
  const conditions: Conditions = {
    config,
    width,
    eps,
    text: ops.linear(text.at('linear_2'), inner, [width, width]),
    modulation: ops.reshape(projection, projected, [0, 6, width]),
    rotary: rotaryTables(root.at('rope'), grid, config.attention_head_dim, config.rope_max_seq_len ?? 1024),
  };

  let x = patches(root.at('patch_embedding'), latents, [config.in_channels, width], config);
  const hints = vaceHints(root, x, conditions);
  for (let i = 0; i < config.num_layers; i += 1) {
    x = block(root.at('blocks').at(i), x, conditions);
    const hint = hints.get(i);
    if (hint !== undefined) x = ops.add(root.at('blocks').at(i), x, hint);
  }

  const table = root.weight('scale_shift_table', [1, 2, width]);
  const ends = ops.add(root, table, ops.unsqueeze(root, time, 1));
  const [shift, scale] = ops.split(root, ends, 2, 1, 1) as [Value, Value];
  const [, rows, columns] = config.patch_size as [number, number, number];
  const out = config.out_channels;
  const final = root.at('proj_out');
  const normal = modulated(final, x, { shift, scale }, width, eps);
  const y = ops.linear(final, normal, [width, out * rows * columns]);
  // [B, F·h·w, rows, columns, C] -> [B, C, F, h · rows, w · columns]
  const split = ops.reshape(
    final,
    y,
    ops.shapeOf(final, 0, grid.frames, grid.rows, grid.columns, rows, columns, out),
  );
  const ordered = ops.transpose(final, split, [0, 6, 1, 2, 4, 3, 5]);
  graph.output(
    'sample',
    ops.reshape(final, ordered, ops.shapeOf(final, 0, out, ops.shape(final, latents, 2))),
    ['batch', out, ...volume],
  );
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

function timeEmbedding(layer: Layer, timestep: Value, frequencies: number, width: number): Value {
  const waves = ops.sinusoids(layer, ops.cast(layer, timestep, 'float'), frequencies);
  const inner = ops.silu(layer, ops.linear(layer.at('linear_1'), waves, [frequencies, width]));
  return ops.linear(layer.at('linear_2'), inner, [width, width]);
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

/** [B, C, F, h, w] -> tokens [B, F · rows · columns, width]: a convolution over each frame. */
function patches(
  layer: Layer,
  volume: Value,
  [from, to]: readonly [number, number],
  config: WanTransformerConfig,
): Value {
  const [, height, width] = config.patch_size as [number, number, number];
  const byFrame = ops.transpose(layer, volume, [0, 2, 1, 3, 4]);
  const planes = ops.reshape(layer, byFrame, ops.shapeOf(layer, -1, ops.shape(layer, byFrame, 2)));
  const y = ops.conv2d(layer, planes, [from, to], {
    kernel: [height, width],
    stride: height,
    pads: [0, 0, 0, 0],
    stored: [to, from, 1, height, width],
  });
  return ops.reshape(
    layer,
    ops.toTokens(layer, y, to),
    ops.shapeOf(layer, ops.shape(layer, volume, 0, 1), -1, to),
  );
}

function modulated(
  layer: Layer,
  x: Value,
  { shift, scale }: { shift: Value; scale: Value },
  width: number,
  eps: number,
): Value {
  const one = layer.graph.constant('float', [1], []);
  const normal = ops.layerNorm(layer, x, width, eps, false);
  return ops.add(layer, ops.mul(layer, normal, ops.add(layer, scale, one)), shift);
}

/** Self-attention, cross-attention to the text, feed-forward; first and last shifted, scaled and gated by the time. */
function block(layer: Layer, given: Value, conditions: Conditions): Value {
  const { config, width, eps, text } = conditions;
  const table = ops.add(layer, layer.weight('scale_shift_table', [1, 6, width]), conditions.modulation);
  const [shift1, scale1, gate1, shift2, scale2, gate2] = ops.split(layer, table, 6, 1, 1) as [
    Value,
    Value,
    Value,
    Value,
    Value,
    Value,
  ];
  let x = given;
  const first = modulated(layer.at('norm1'), x, { shift: shift1, scale: scale1 }, width, eps);
  x = ops.add(layer, x, ops.mul(layer, attend(layer.at('attn1'), first, first, conditions, true), gate1));
  const second = config.cross_attn_norm === true ? ops.layerNorm(layer.at('norm2'), x, width, eps) : x;
  x = ops.add(layer, x, attend(layer.at('attn2'), second, text, conditions, false));
  const third = modulated(layer.at('norm3'), x, { shift: shift2, scale: scale2 }, width, eps);
  const feed = layer.at('ffn.net');
  const inner = ops.geluTanh(feed, ops.linear(feed.at('0.proj'), third, [width, config.ffn_dim]));
  return ops.add(layer, x, ops.mul(layer, ops.linear(feed.at(2), inner, [config.ffn_dim, width]), gate2));
}

function attend(layer: Layer, x: Value, context: Value, conditions: Conditions, rotate: boolean): Value {
  const { config, width, eps, rotary } = conditions;
  const heads = config.num_attention_heads;
  const part = (name: string, source: Value) => ops.linear(layer.at(name), source, [width, width]);
  const normal = (name: string, value: Value) => ops.rmsNorm(layer.at(name), value, width, eps);
  const turned = (value: Value) => (rotate ? rotary.rotate(layer, value, heads) : value);
  const q = turned(normal('norm_q', part('to_q', x)));
  const k = turned(normal('norm_k', part('to_k', context)));
  return part('to_out.0', ops.attention(layer, [q, k, part('to_v', context)], { heads }));
}

/** VACE's side blocks carry the control stream on; each gives a hint for one layer of the main stream. */
function vaceHints(root: Layer, x: Value, conditions: Conditions): Map<number, Value> {
  const { config, width } = conditions;
  const hints = new Map<number, Value>();
  const layers = config.vace_layers ?? [];
  if (layers.length === 0) return hints;
  const channels = config.vace_in_channels ?? 96;
  const { graph } = root;
  const volume = graph.input('control_hidden_states', 'float', [
    'batch',
    channels,
    'frames',
    'height',
    'width',
  ]);
  const scales = graph.input('control_hidden_states_scale', 'float', [layers.length]);
  let control = patches(root.at('vace_patch_embedding'), volume, [channels, width], config);
  for (const [i, target] of layers.entries()) {
    const side = root.at('vace_blocks').at(i);
    if (i === 0) control = ops.add(side, ops.linear(side.at('proj_in'), control, [width, width]), x);
    control = block(side, control, conditions);
    const hint = ops.linear(side.at('proj_out'), control, [width, width]);
    hints.set(target, ops.mul(side, hint, ops.slice(side, scales, 0, i, i + 1)));
  }
  return hints;
}
