import { ArchitectureError, Graph, type Layer, type Value } from './graph.js';
import * as ops from './ops.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';
import type { Form } from './lowering.js';

/** diffusers' AutoencoderKLWan. */
export interface CausalVaeConfig {
  base_dim: number;
  decoder_base_dim?: number | null;
  z_dim: number;
  dim_mult: number[];
  num_res_blocks: number;
  attn_scales?: number[];
  temperal_downsample: boolean[];
  in_channels?: number;
  out_channels?: number;
  patch_size?: number | null;
  is_residual?: boolean;
}

/**
 * Wan's causal VAE (Wan Team 2025), a chunk at a time: graphs that take one chunk and the caches, and give frames and
 * new caches. Activations are [T, C, H, W] of one clip, and a causal 3×3×3 convolution is a 2D one over three stacked
 * frames, so that only operators remain which every device has. A cache is a convolution's last two inputs (the last
 * one where it takes every second frame). The first chunk has zeros for them, and passes over the temporal steps.
 */
export function buildCausalDecoder(
  tensors: TensorTable,
  config: CausalVaeConfig,
  form: Form,
  part: 'init' | 'step',
) {
  const graph = begin(`vae_decoder/${part}`, tensors, config, form);
  const root = graph.layer();
  const { z_dim: latents, num_res_blocks: depth } = config;
  const latent = graph.input('latent_frame', 'float', [1, latents, 'height', 'width']);
  const caches = createCaches(graph, part);
  const decoder = root.at('decoder');
  const widths = [...config.dim_mult]
    .reverse()
    .map((factor) => factor * (config.decoder_base_dim ?? config.base_dim));
  let from = widths[0] as number;
  let x = pixelConv(root.at('post_quant_conv'), latent, [latents, latents]);
  x = caches.conv(decoder.at('conv_in'), x, [latents, from]);
  x = middle(decoder.at('mid_block'), x, from, caches);
  const temporal = [...config.temperal_downsample].reverse();
  for (const [i, to] of widths.entries()) {
    const block = decoder.at('up_blocks').at(i);
    for (let j = 0; j <= depth; j += 1, from = to)
      x = residual(block.at('resnets').at(j), x, [from, to], caches);
    if (i === widths.length - 1) continue;
    x = upsample(block.at('upsamplers.0'), x, to, temporal[i] === true, caches);
    from = to / 2;
  }
  const pictures = config.out_channels ?? 3;
  const frames = caches.conv(decoder.at('conv_out'), activated(decoder.at('norm_out'), x, from), [
    from,
    pictures,
  ]);
  const limit = (value: number) => graph.constant('float', [value], []);
  const clipped = decoder.op('Clip', [frames, limit(-1), limit(1)]);
  const count = part === 'init' ? 1 : 2 ** temporal.filter(Boolean).length;
  graph.output('video_frames', clipped, [count, pictures, 'out_height', 'out_width']);
  caches.output();
  return graph;
}

/** `video_frames` [1 or 4, 3, H, W] in [-1, 1] -> `latent_mean` [1, z, h, w], not normalised, and the new caches. */
export function buildCausalEncoder(
  tensors: TensorTable,
  config: CausalVaeConfig,
  form: Form,
  part: 'init' | 'step',
) {
  const graph = begin(`vae_encoder/${part}`, tensors, config, form);
  const root = graph.layer();
  const { z_dim: latents, num_res_blocks: depth, temperal_downsample: temporal } = config;
  const pictures = config.in_channels ?? 3;
  const count = part === 'init' ? 1 : 2 ** temporal.filter(Boolean).length;
  const frames = graph.input('video_frames', 'float', [count, pictures, 'height', 'width']);
  const caches = createCaches(graph, part);
  const encoder = root.at('encoder');
  let from = config.base_dim;
  let x = caches.conv(encoder.at('conv_in'), frames, [pictures, from]);
  let index = 0;
  for (const [i, factor] of config.dim_mult.entries()) {
    const to = factor * config.base_dim;
    for (let j = 0; j < depth; j += 1, from = to, index += 1)
      x = residual(encoder.at('down_blocks').at(index), x, [from, to], caches);
    if (i === config.dim_mult.length - 1) continue;
    x = downsample(encoder.at('down_blocks').at(index), x, to, temporal[i] === true, caches);
    index += 1;
  }
  x = middle(encoder.at('mid_block'), x, from, caches);
  const moments = caches.conv(encoder.at('conv_out'), activated(encoder.at('norm_out'), x, from), [
    from,
    2 * latents,
  ]);
  const both = pixelConv(root.at('quant_conv'), moments, [2 * latents, 2 * latents]);
  graph.output('latent_mean', ops.slice(root, both, 1, 0, latents), [1, latents, 'out_height', 'out_width']);
  caches.output();
  return graph;
}

function begin(title: string, tensors: TensorTable, config: CausalVaeConfig, form: Form): Graph {
  if (config.is_residual === true || (config.patch_size ?? 1) !== 1)
    throw new ArchitectureError(
      `${title}: only Wan 2.1's VAE is supported, not 2.2's (is_residual, patch_size)`,
    );
  if ((config.attn_scales ?? []).length > 0)
    throw new ArchitectureError(`${title}: attn_scales are not supported`);
  return new Graph(title, tensors, form);
}

type Caches = ReturnType<typeof createCaches>;

/** Hands out `c0`, `c1`, … in the order in which the convolutions run, and collects what they leave as `nc0`, … */
function createCaches(graph: Graph, part: 'init' | 'step') {
  const left: { value: Value; frames: number; channels: number }[] = [];
  const keep = (value: Value, frames: number, channels: number) => left.push({ value, frames, channels });

  return {
    isFirst: part === 'init',
    keep,
    /** A causal convolution; with `stride` 2 it takes every second frame. Rows and columns stay as many. */
    conv(
      layer: Layer,
      x: Value,
      [from, to]: readonly [number, number],
      { size = 3, stride = 1 } = {},
    ): Value {
      const held = stride === 2 ? 1 : 2;
      const i = left.length;
      const cache =
        part === 'init'
          ? zeros(layer, x, held, from)
          : graph.input(`c${i}`, 'float', [held, from, `height_${i}`, `width_${i}`]);
      const frames = ops.concat(layer, [cache, x], 0);
      keep(ops.slice(layer, stride === 2 ? x : frames, 0, -held, ops.toEnd), held, from);
      const windows = [0, 1, 2].map((first) => {
        const end = first === 2 ? ops.toEnd : first - 2;
        return ops.unsqueeze(layer, ops.slice(layer, frames, 0, first, end, stride), 2);
      });
      // [T, C, 3, H, W]: as the checkpoint's [out, C, 3, h, w] counts them
      const stacked = ops.concat(layer, windows, 2);
      const joined = ops.reshape(layer, stacked, ops.shapeOf(layer, -1, 3 * from, ops.shape(layer, x, 2)));
      return ops.conv2d(layer, joined, [3 * from, to], {
        kernel: [size, size],
        stored: [to, from, 3, size, size],
      });
    },
    output(): void {
      for (const [i, { value, frames, channels }] of left.entries())
        graph.output(`nc${i}`, value, [frames, channels, `height_${i}`, `width_${i}`]);
    },
  };
}

function zeros(layer: Layer, like: Value, frames: number, channels: number): Value {
  const extents = ops.shapeOf(layer, frames, channels, ops.shape(layer, like, 2));
  return layer.op('ConstantOfShape', [extents], { type: 'float' });
}

function pixelConv(layer: Layer, x: Value, [from, to]: readonly [number, number]): Value {
  return ops.conv2d(layer, x, [from, to], { kernel: [1, 1], stored: [to, from, 1, 1, 1] });
}

/** Each pixel's channels to length sqrt(C), times gamma. */
function rmsNorm(layer: Layer, x: Value, channels: number): Value {
  const { graph } = layer;
  const own = layer.entry('gamma').shape;
  const gamma = layer.weight('gamma', own.length === 3 ? [channels, 1, 1] : [channels, 1, 1, 1], [
    channels,
    1,
    1,
  ]);
  const length = layer.op('ReduceL2', [x], { attributes: { axes: [1], keepdims: 1 } });
  const least = layer.op('Max', [length, graph.constant('float', [1e-12], [])]);
  const scale = ops.mul(layer, gamma, graph.constant('float', [Math.sqrt(channels)], []));
  return ops.mul(layer, ops.div(layer, x, least), scale);
}

const activated = (layer: Layer, x: Value, channels: number) => ops.silu(layer, rmsNorm(layer, x, channels));

function residual(layer: Layer, x: Value, [from, to]: readonly [number, number], caches: Caches): Value {
  const kept = from === to ? x : pixelConv(layer.at('conv_shortcut'), x, [from, to]);
  let y = caches.conv(layer.at('conv1'), activated(layer.at('norm1'), x, from), [from, to]);
  y = caches.conv(layer.at('conv2'), activated(layer.at('norm2'), y, to), [to, to]);
  return ops.add(layer, y, kept);
}

function middle(layer: Layer, given: Value, channels: number, caches: Caches): Value {
  const x = residual(layer.at('resnets.0'), given, [channels, channels], caches);
  const self = layer.at('attentions.0');
  // one head over the pixels of each frame
  const pixel = { kernel: [1, 1] } as const;
  const packed = ops.conv2d(
    self.at('to_qkv'),
    rmsNorm(self.at('norm'), x, channels),
    [channels, 3 * channels],
    pixel,
  );
  const parts = ops.split(self, ops.toTokens(self, packed, 3 * channels), 3, 2, channels) as [
    Value,
    Value,
    Value,
  ];
  const mixed = ops.toMap(self, ops.attention(self, parts, { heads: 1 }), channels, x);
  const y = ops.add(self, x, ops.conv2d(self.at('proj'), mixed, [channels, channels], pixel));
  return residual(layer.at('resnets.1'), y, [channels, channels], caches);
}

function upsample(layer: Layer, given: Value, channels: number, temporal: boolean, caches: Caches): Value {
  let x = given;
  if (temporal && caches.isFirst) caches.keep(zeros(layer, x, 2, channels), 2, channels);
  else if (temporal) {
    // [T, 2C] -> [2T, C]: the first half of the channels is the earlier frame
    const doubled = caches.conv(layer.at('time_conv'), x, [channels, 2 * channels], { size: 1 });
    x = ops.reshape(layer, doubled, ops.shapeOf(layer, -1, channels, ops.shape(layer, x, 2)));
  }
  return ops.conv2d(layer.at('resample.1'), ops.upsample(layer, x), [channels, channels / 2]);
}

function downsample(layer: Layer, given: Value, channels: number, temporal: boolean, caches: Caches): Value {
  const pads = [0, 0, 1, 1] as const;
  const x = ops.conv2d(layer.at('resample.1'), given, [channels, channels], { stride: 2, pads });
  if (!temporal) return x;
  if (!caches.isFirst)
    return caches.conv(layer.at('time_conv'), x, [channels, channels], { size: 1, stride: 2 });
  caches.keep(x, 1, channels);
  return x;
}
