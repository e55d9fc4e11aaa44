import { ArchitectureError, Graph, type Layer, type Value } from './graph.js';
import * as ops from './ops.js';
import { downsample, type ImageTokens, residual, transformer, upsample } from './blocks.js';
import type { Form } from './lowering.js';
import { imageLayers } from '../checkpoint/parts.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';

/** diffusers' UNet2DConditionModel, as far as SDXL and its relatives use it. */
export interface UnetConfig {
  in_channels: number;
  out_channels: number;
  block_out_channels: number[];
  down_block_types: string[];
  up_block_types: string[];
  mid_block_type?: string | null;
  layers_per_block: number | number[];
  transformer_layers_per_block?: number | (number | number[])[];
  reverse_transformer_layers_per_block?: (number | number[])[] | null;
  /** Heads of each block, whatever its name says. */
  attention_head_dim: number | number[];
  num_attention_heads?: number | number[] | null;
  cross_attention_dim: number;
  norm_num_groups: number;
  norm_eps?: number;
  use_linear_projection?: boolean;
  flip_sin_to_cos?: boolean;
  freq_shift?: number;
  addition_embed_type?: string | null;
  addition_time_embed_dim?: number | null;
  projection_class_embeddings_input_dim?: number | null;
  downsample_padding?: number;
  /** Of a latent consistency model: its guidance is an input of the time embedding. */
  time_cond_proj_dim?: number | null;
}

/** Settings of UNet2DConditionModel that change its arithmetic, with the only values that are drawn here. */
const expected: Record<string, readonly unknown[]> = {
  act_fn: ['silu'],
  addition_embed_type: ['text_time'],
  attention_type: ['default'],
  center_input_sample: [false],
  class_embed_type: [null],
  conv_in_kernel: [3],
  conv_out_kernel: [3],
  dual_cross_attention: [false],
  encoder_hid_dim_type: [null],
  mid_block_type: ['UNetMidBlock2DCrossAttn'],
  mid_block_scale_factor: [1],
  only_cross_attention: [false],
  resnet_out_scale_factor: [1],
  resnet_skip_time_act: [false],
  resnet_time_scale_shift: ['default'],
  time_embedding_act_fn: [null],
  time_embedding_type: ['positional'],
  timestep_post_act: [null],
};

/**
 * SDXL's UNet (Podell et al. 2023): `sample` [B, 4, h, w], `timestep`, `encoder_hidden_states` [B, S, width],
 * `text_embeds`, `time_ids` [B, 6] -> `out_sample`. Where the checkpoint has an adapter's matrices
 * (`…attn2.processor.to_k_ip`) also `ip_tokens` and `ip_scale`.
 */
export function buildUnet(tensors: TensorTable, config: UnetConfig, form: Form): Graph {
  requireSupported(config as unknown as Record<string, unknown>);
  const graph = new Graph('unet', tensors, form);
  const root = graph.layer();
  const channels = config.block_out_channels;
  const first = channels[0] as number;
  const sample = graph.input('sample', 'float', ['batch', config.in_channels, 'height', 'width']);
  const timestep = graph.input('timestep', 'float', []);
  const words = ['batch', 'sequence', config.cross_attention_dim];
  const text = ops.shared(root, graph.input('encoder_hidden_states', 'float', words));
  const embedding = timeEmbedding(root, timestep, config);
  const image = imageTokens(graph, tensors, config);
  const activated = ops.silu(root.at('time_embedding'), embedding);
  const time = { embedding: ops.shared(root, activated), width: 4 * first };
  const { groups, eps } = { groups: config.norm_num_groups, eps: config.norm_eps ?? 1e-5 };
  const resnet = (block: Layer, j: number, x: Value, width: readonly [number, number]) =>
    residual(block.at('resnets').at(j), x, width, { groups, eps, time });
  const attend = (layer: Layer, x: Value, width: number, size: { depth: number; heads: number }) =>
    transformer(layer, x, width, {
      ...size,
      groups,
      linear: config.use_linear_projection === true,
      text: { tokens: text, width: config.cross_attention_dim },
      image,
    });

  let x = ops.conv2d(root.at('conv_in'), ops.fromPlanes(root, sample), [config.in_channels, first]);
  let from = first;
  const skips = [{ value: x, channels: first }];
  const blocks = channels.map((to, i) => blockSettings(config, to, i));
  for (const [i, { to, layers, depths, heads }] of blocks.entries()) {
    const block = root.at('down_blocks').at(i);
    const attends = hasAttention(config.down_block_types[i]);
    for (let j = 0; j < layers; j += 1, from = to) {
      x = resnet(block, j, x, [from, to]);
      if (attends) x = attend(block.at('attentions').at(j), x, to, { depth: depths[j] as number, heads });
      skips.push({ value: x, channels: to });
    }
    if (i === blocks.length - 1) continue;
    x = downsample(block.at('downsamplers.0'), x, to, config.downsample_padding ?? 1);
    skips.push({ value: x, channels: to });
  }

  const deepest = blocks.at(-1) as BlockSettings;
  const middle = root.at('mid_block');
  x = resnet(middle, 0, x, [from, from]);
  x = attend(middle.at('attentions.0'), x, from, {
    depth: deepest.depths.at(-1) as number,
    heads: deepest.heads,
  });
  x = resnet(middle, 1, x, [from, from]);

  for (const [i, { to, layers, upDepths, heads }] of [...blocks].reverse().entries()) {
    const block = root.at('up_blocks').at(i);
    const attends = hasAttention(config.up_block_types[i]);
    for (let j = 0; j <= layers; j += 1, from = to) {
      const skip = skips.pop() as { value: Value; channels: number };
      x = ops.joinChannels(block.at('resnets').at(j), [x, skip.value]);
      x = resnet(block, j, x, [from + skip.channels, to]);
      if (attends) x = attend(block.at('attentions').at(j), x, to, { depth: upDepths[j] as number, heads });
    }
    if (i < blocks.length - 1) x = upsample(block.at('upsamplers.0'), x, to);
  }

  const norm = { groups, eps, activate: true };
  const normal = ops.groupNorm(root.at('conv_norm_out'), x, from, norm);
  const out = ops.conv2d(root.at('conv_out'), normal, [from, config.out_channels]);
  graph.output('out_sample', ops.intoPlanes(root, out), ['batch', config.out_channels, 'height', 'width']);
  return graph;
}

function requireSupported(config: Record<string, unknown>): void {
  for (const [name, values] of Object.entries(expected))
    if (config[name] !== undefined && !values.includes(config[name]))
      throw new ArchitectureError(`unet: ${name} ${JSON.stringify(config[name])} is not supported`);
  const kinds = [...(config['down_block_types'] as string[]), ...(config['up_block_types'] as string[])];
  const unknown = kinds.find((kind) => !/^(CrossAttn)?(Down|Up)Block2D$/.test(kind));
  if (unknown !== undefined) throw new ArchitectureError(`unet: blocks of type ${unknown} are not supported`);
}

const hasAttention = (kind: string | undefined) => kind?.startsWith('CrossAttn') === true;

interface BlockSettings {
  to: number;
  /** Residual blocks on the way down; one more on the way up. */
  layers: number;
  /** Transformer blocks after each residual block, down and up. */
  depths: number[];
  upDepths: number[];
  heads: number;
}

function blockSettings(config: UnetConfig, to: number, i: number): BlockSettings {
  const layers = at(config.layers_per_block, i);
  const depth = config.transformer_layers_per_block ?? 1;
  const upDepth =
    config.reverse_transformer_layers_per_block?.at(-1 - i) ?? (Array.isArray(depth) ? depth[i] : depth);
  const each = (value: number | number[] | undefined, count: number) =>
    Array.isArray(value) ? value : Array<number>(count).fill(value ?? 1);
  return {
    to,
    layers,
    depths: each(Array.isArray(depth) ? depth[i] : depth, layers),
    upDepths: each(upDepth, layers + 1),
    heads: at(config.num_attention_heads ?? config.attention_head_dim, i),
  };
}

const at = (value: number | number[], i: number) => (Array.isArray(value) ? (value[i] as number) : value);

/** Time, size and pooled text, each embedded, in sum. */
function timeEmbedding(root: Layer, timestep: Value, config: UnetConfig): Value {
  const { graph } = root;
  const first = config.block_out_channels[0] as number;
  const sizeWidth = config.addition_time_embed_dim as number;
  const inner = config.projection_class_embeddings_input_dim as number;
  const pooled = graph.input('text_embeds', 'float', ['batch', inner - 6 * sizeWidth]);
  const sizes = graph.input('time_ids', 'float', ['batch', 6]);
  const waves = { cosineFirst: config.flip_sin_to_cos !== false, shift: config.freq_shift ?? 0 };
  const mlp = (layer: Layer, x: Value, from: number) => {
    const hidden = ops.silu(layer, ops.linear(layer.at('linear_1'), x, [from, 4 * first]));
    return ops.linear(layer.at('linear_2'), hidden, [4 * first, 4 * first]);
  };
  const time = root.at('time_embedding');
  const given = (layer: Layer, x: Value) => ops.cast(layer, x, graph.form.type);
  const timeWaves = ops.sinusoids(time, ops.reshape(time, timestep, [1]), first, waves);
  const embedded = mlp(time, guided(time, given(time, timeWaves), config), first);
  const added = root.at('add_embedding');
  const sizeWaves = ops.sinusoids(added, ops.reshape(added, sizes, [-1]), sizeWidth, waves);
  const known = ops.concat(added, [pooled, ops.reshape(added, sizeWaves, [-1, 6 * sizeWidth])], 1);
  return ops.add(added, mlp(added, given(added, known), inner), embedded);
}

/** The guidance that latent consistency models of SDXL are drawn with; every step's, so it is a constant here. */
const consistencyGuidance = 8;

function guided(time: Layer, waves: Value, config: UnetConfig): Value {
  const width = config.time_cond_proj_dim ?? 0;
  if (width === 0) return waves;
  const half = width / 2;
  // diffusers, pipeline_latent_consistency_text2img.py, get_guidance_scale_embedding
  const angles = Array.from(
    { length: half },
    (_, i) => 1000 * (consistencyGuidance - 1) * Math.exp((-Math.log(10_000) * i) / (half - 1)),
  );
  const condition = time.constant([...angles.map(Math.sin), ...angles.map(Math.cos)], [1, width]);
  const first = config.block_out_channels[0] as number;
  return ops.add(time, waves, ops.linear(time.at('cond_proj'), condition, [width, first], false));
}

function imageTokens(graph: Graph, tensors: TensorTable, config: UnetConfig): ImageTokens | null {
  const layers = imageLayers(tensors);
  if (layers.length === 0) return null;
  const root = graph.layer();
  const tokens = graph.input('ip_tokens', 'float', ['batch', 'image_tokens', config.cross_attention_dim]);
  const scales = ops.cast(root, graph.input('ip_scale', 'float', ['batch', layers.length]), graph.form.type);
  return { tokens: ops.shared(root, tokens), scales, layers };
}
