import { ArchitectureError, Graph, type Layer, type Value } from './graph.js';
import * as ops from './ops.js';
import { downsample, residual, type ResidualOptions, upsample } from './blocks.js';
import type { Form } from './lowering.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';

/** diffusers' AutoencoderKL. */
export interface AutoencoderConfig {
  act_fn?: string;
  block_out_channels: number[];
  down_block_types?: string[];
  up_block_types?: string[];
  in_channels?: number;
  out_channels?: number;
  latent_channels: number;
  layers_per_block: number;
  mid_block_add_attention?: boolean;
  norm_num_groups: number;
  use_quant_conv?: boolean;
  use_post_quant_conv?: boolean;
}

/**
 * The VAE of latent diffusion (Rombach et al. 2022): `sample` [N, 3, H, W] -> `latent_parameters`, means and log
 * variances.
 */
export function buildEncoder(tensors: TensorTable, config: AutoencoderConfig, form: Form) {
  const { graph, root, blocks, options } = begin('vae_encoder', tensors, config, form);
  const encoder = root.at('encoder');
  const pictures = config.in_channels ?? 3;
  const sample = graph.input('sample', 'float', ['batch', pictures, 'height', 'width']);
  let from = blocks[0] as number;
  let x = ops.conv2d(encoder.at('conv_in'), ops.fromPlanes(root, sample), [pictures, from]);
  for (const [i, to] of blocks.entries()) {
    const block = encoder.at('down_blocks').at(i);
    for (let j = 0; j < config.layers_per_block; j += 1, from = to)
      x = residual(block.at('resnets').at(j), x, [from, to], options);
    if (i < blocks.length - 1) x = downsample(block.at('downsamplers.0'), x, to, 0);
  }
  x = middle(encoder.at('mid_block'), x, from, config, options);
  const moments = 2 * config.latent_channels;
  let out = end(encoder, x, [from, moments], options);
  if (config.use_quant_conv !== false)
    out = ops.conv2d(root.at('quant_conv'), out, [moments, moments], { kernel: [1, 1] });
  graph.output('latent_parameters', ops.intoPlanes(root, out), [
    'batch',
    moments,
    'latent_height',
    'latent_width',
  ]);
  return graph;
}

/** `latent_sample` [N, 4, h, w] -> `sample`. */
export function buildDecoder(tensors: TensorTable, config: AutoencoderConfig, form: Form) {
  const { graph, root, blocks, options } = begin('vae_decoder', tensors, config, form);
  const decoder = root.at('decoder');
  const { latent_channels: latents } = config;
  const pictures = config.out_channels ?? 3;
  let x = ops.fromPlanes(root, graph.input('latent_sample', 'float', ['batch', latents, 'height', 'width']));
  if (config.use_post_quant_conv !== false)
    x = ops.conv2d(root.at('post_quant_conv'), x, [latents, latents], { kernel: [1, 1] });
  let from = blocks.at(-1) as number;
  x = ops.conv2d(decoder.at('conv_in'), x, [latents, from]);
  x = middle(decoder.at('mid_block'), x, from, config, options);
  for (const [i, to] of [...blocks].reverse().entries()) {
    const block = decoder.at('up_blocks').at(i);
    for (let j = 0; j <= config.layers_per_block; j += 1, from = to)
      x = residual(block.at('resnets').at(j), x, [from, to], options);
    if (i < blocks.length - 1) x = upsample(block.at('upsamplers.0'), x, to);
  }
  const sample = ops.intoPlanes(root, end(decoder, x, [from, pictures], options));
  graph.output('sample', sample, ['batch', pictures, 'sample_height', 'sample_width']);
  return graph;
}

function begin(title: string, tensors: TensorTable, config: AutoencoderConfig, form: Form) {
  const kinds = [...(config.down_block_types ?? []), ...(config.up_block_types ?? [])];
  const unknown = kinds.find((kind) => !['DownEncoderBlock2D', 'UpDecoderBlock2D'].includes(kind));
  if (unknown !== undefined)
    throw new ArchitectureError(`${title}: blocks of type ${unknown} are not supported`);
  const graph = new Graph(title, tensors, form);
  const options: ResidualOptions = { groups: config.norm_num_groups, eps: 1e-6 };
  return { graph, root: graph.layer(), blocks: config.block_out_channels, options };
}

function middle(
  layer: Layer,
  given: Value,
  channels: number,
  config: AutoencoderConfig,
  options: ResidualOptions,
): Value {
  const block = (name: string, x: Value) => residual(layer.at(name), x, [channels, channels], options);
  let x = block('resnets.0', given);
  if (config.mid_block_add_attention !== false) {
    const self = layer.at('attentions.0');
    const normal = ops.groupNorm(self.at('group_norm'), x, channels, options);
    const tokens = ops.toTokens(self, normal, channels);
    const part = (name: string) => ops.linear(self.at(name), tokens, [channels, channels]);
    const mixed = ops.attention(self, [part('to_q'), part('to_k'), part('to_v')], { heads: 1 });
    const y = ops.linear(self.at('to_out.0'), mixed, [channels, channels]);
    x = ops.addResidual(self, x, ops.toMap(self, y, channels, x), channels);
  }
  return block('resnets.1', x);
}

function end(layer: Layer, x: Value, [from, to]: readonly [number, number], options: ResidualOptions): Value {
  const normal = ops.groupNorm(layer.at('conv_norm_out'), x, from, { ...options, activate: true });
  return ops.conv2d(layer.at('conv_out'), normal, [from, to]);
}
