import {
  type Before,
  cacheInputs,
  type FrameOps,
  type Frames,
  separateFrames,
  stackedFrames,
} from './causal-frames.js';
import { ArchitectureError, Graph, type Layer, type Value } from './graph.js';
import type { Form } from './lowering.js';
import * as ops from './ops.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';

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
 * Wan's causal VAE (Wan Team 2025). `init` and `step` take one chunk and caches, and give frames and new caches: a
 * cache is a convolution's last two inputs (the last one where it takes every second frame). `clip` takes all of a clip
 * and carries the caches from chunk to chunk inside, where a device cannot hand them over between two runs.
 */
export type CausalPart = 'init' | 'step' | 'clip';

/**
 * `latent_frame` [T, z, h, w] -> `video_frames` [1 or 4T, 3, H, W] in [-1, 1]; a clip's `latent_frames` [F, z, h, w] ->
 * `first_frame` and `video_frames` [F - 1, 4, 3, H, W].
 */
export function buildCausalDecoder(
  tensors: TensorTable,
  config: CausalVaeConfig,
  form: Form,
  part: CausalPart,
): Graph {
  const graph = begin(`vae_decoder/${part}`, tensors, config, form);
  const root = graph.layer();
  const pictures = config.out_channels ?? 3;
  const space = ['out_height', 'out_width'] as const;
  if (part === 'clip') {
    const latents = graph.input('latent_frames', 'float', ['frames', config.z_dim, 'height', 'width']);
    const { first, rest } = clip(root, latents, 1, (x, frames) => decode(root, config, x, frames));
    graph.output('first_frame', first, [1, pictures, ...space]);
    graph.output('video_frames', rest, ['chunks', chunkFrames(config), pictures, ...space]);
    return graph;
  }
  const latent = graph.input('latent_frame', 'float', [
    part === 'init' ? 1 : 'frames',
    config.z_dim,
    'height',
    'width',
  ]);
  const frames = stackedFrames(part === 'init' ? null : cacheInputs(graph));
  const [decoded] = decode(root, config, [latent], frames) as [Value];
  graph.output('video_frames', decoded, [part === 'init' ? 1 : 'out_frames', pictures, ...space]);
  outputCaches(graph, frames);
  return graph;
}

/**
 * `video_frames` [1 or 4T, 3, H, W] in [-1, 1] -> `latent_mean` [T, z, h, w], not normalised; of a clip's frames
 * [1 + 4n, 3, H, W] -> `first_mean` and `latent_means` [n, 1, z, h, w].
 */
export function buildCausalEncoder(
  tensors: TensorTable,
  config: CausalVaeConfig,
  form: Form,
  part: CausalPart,
): Graph {
  const graph = begin(`vae_encoder/${part}`, tensors, config, form);
  const root = graph.layer();
  const count = { init: 1, step: 'frames', clip: 'frames' }[part];
  const pictures = config.in_channels ?? 3;
  const given = graph.input('video_frames', 'float', [count, pictures, 'height', 'width']);
  const space = ['out_height', 'out_width'] as const;
  if (part === 'clip') {
    const size = chunkFrames(config);
    const { first, rest } = clip(root, given, size, (x, frames) => encode(root, config, x, frames));
    graph.output('first_mean', first, [1, config.z_dim, ...space]);
    graph.output('latent_means', rest, ['chunks', 1, config.z_dim, ...space]);
    return graph;
  }
  const frames = stackedFrames(part === 'init' ? null : cacheInputs(graph));
  const [mean] = encode(root, config, [given], frames) as [Value];
  graph.output('latent_mean', mean, [part === 'init' ? 1 : 'latents', config.z_dim, ...space]);
  outputCaches(graph, frames);
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

/** Frames that a latent frame stands for, after the first. */
const chunkFrames = ({ temperal_downsample: temporal }: CausalVaeConfig) =>
  2 ** temporal.filter(Boolean).length;

/** What the convolutions leave, as `nc0`, `nc1`, …: the next chunk's `c0`, `c1`, … */
function outputCaches(graph: Graph, { kept }: FrameOps): void {
  for (const [i, { frames, count, channels }] of kept.entries())
    graph.output(`nc${i}`, frames[0] as Value, [count, channels, `height_${i}`, `width_${i}`]);
}

/**
 * A whole clip [F, C, H, W]: its first frame, then a loop over chunks of `size`. What convolutions keep goes from turn
 * to turn without leaving the device.
 */
function clip(root: Layer, given: Value, size: number, compute: (x: Frames, ops: FrameOps) => Frames) {
  const { graph } = root;
  const planes = (layer: Layer, frames: Frames) =>
    ops.concat(
      layer,
      frames.map((frame) => ops.transpose(layer, frame, [0, 3, 1, 2])),
      0,
    );
  const all = ops.transpose(root, ops.cast(root, given, graph.form.type), [0, 2, 3, 1]);
  const begun = separateFrames(null);
  const first = planes(root, compute([ops.slice(root, all, 0, 0, 1)], begun));
  const later = ops.slice(root, all, 0, 1, ops.toEnd);
  const extents = ops.shapeOf(root, -1, size, ops.shape(root, all, 1));
  const chunks = ops.reshape(root, later, extents);
  const turns = ops.shape(root, chunks, 0, 1);
  const state = begun.kept.flatMap(({ frames }) => frames);
  const [rest] = ops.loop(root, turns, state, (turn, carried) => {
    let at = 0;
    const before: Before = (count) => carried.slice(at, (at += count));
    const frames = separateFrames(before);
    const chunk = root.op('Gather', [chunks, turn], { attributes: { axis: 0 } });
    const x = size === 1 ? [chunk] : ops.split(root, chunk, size, 0, 1);
    const made = planes(root, compute(x, frames));
    return { state: frames.kept.flatMap((each) => each.frames), scanned: [ops.cast(root, made, 'float')] };
  });
  return { first, rest: rest as Value };
}

function decode(root: Layer, config: CausalVaeConfig, latents: Frames, frames: FrameOps): Frames {
  const { z_dim: channels, num_res_blocks: depth } = config;
  const decoder = root.at('decoder');
  const base = config.decoder_base_dim ?? config.base_dim;
  const widths = [...config.dim_mult].reverse().map((factor) => factor * base);
  let from = widths[0] as number;
  let x = frames.plane(root.at('post_quant_conv'), latents, [channels, channels], { size: 1 });
  x = frames.conv(decoder.at('conv_in'), x, [channels, from]);
  x = middle(decoder.at('mid_block'), x, from, frames);
  const temporal = [...config.temperal_downsample].reverse();
  for (const [i, to] of widths.entries()) {
    const block = decoder.at('up_blocks').at(i);
    for (let j = 0; j <= depth; j += 1, from = to)
      x = residual(block.at('resnets').at(j), x, [from, to], frames);
    if (i === widths.length - 1) continue;
    x = upsample(block.at('upsamplers.0'), x, to, temporal[i] === true, frames);
    from = to / 2;
  }
  const last = activated(decoder.at('norm_out'), x, from, frames);
  const { graph } = root;
  const limit = (value: number) => graph.constant('float', [value], []);
  return frames
    .conv(decoder.at('conv_out'), last, [from, config.out_channels ?? 3])
    .map((frame) => decoder.op('Clip', [ops.cast(decoder, frame, 'float'), limit(-1), limit(1)]));
}

function encode(root: Layer, config: CausalVaeConfig, pictures: Frames, frames: FrameOps): Frames {
  const { z_dim: channels, num_res_blocks: depth, temperal_downsample: temporal } = config;
  const encoder = root.at('encoder');
  let from = config.base_dim;
  let x = frames.conv(encoder.at('conv_in'), pictures, [config.in_channels ?? 3, from]);
  let index = 0;
  for (const [i, factor] of config.dim_mult.entries()) {
    const to = factor * config.base_dim;
    for (let j = 0; j < depth; j += 1, from = to, index += 1)
      x = residual(encoder.at('down_blocks').at(index), x, [from, to], frames);
    if (i === config.dim_mult.length - 1) continue;
    x = downsample(encoder.at('down_blocks').at(index), x, to, temporal[i] === true, frames);
    index += 1;
  }
  x = middle(encoder.at('mid_block'), x, from, frames);
  const last = activated(encoder.at('norm_out'), x, from, frames);
  const moments = frames.conv(encoder.at('conv_out'), last, [from, 2 * channels]);
  const both = frames.plane(root.at('quant_conv'), moments, [2 * channels, 2 * channels], { size: 1 });
  return frames.channels(root, both, channels);
}

const activated = (layer: Layer, x: Frames, channels: number, frames: FrameOps) =>
  frames.silu(layer, frames.norm(layer, x, channels));

function residual(layer: Layer, x: Frames, [from, to]: readonly [number, number], frames: FrameOps): Frames {
  const kept = from === to ? x : frames.plane(layer.at('conv_shortcut'), x, [from, to], { size: 1 });
  let y = frames.conv(layer.at('conv1'), activated(layer.at('norm1'), x, from, frames), [from, to]);
  y = frames.conv(layer.at('conv2'), activated(layer.at('norm2'), y, to, frames), [to, to]);
  return frames.add(layer, kept, y);
}

function middle(layer: Layer, given: Frames, channels: number, frames: FrameOps): Frames {
  const x = residual(layer.at('resnets.0'), given, [channels, channels], frames);
  const self = layer.at('attentions.0');
  const normal = frames.norm(self.at('norm'), x, channels);
  const packed = frames.plane(self.at('to_qkv'), normal, [channels, 3 * channels], { size: 1 });
  const mixed = frames.attend(self, packed, channels);
  const y = frames.plane(self.at('proj'), mixed, [channels, channels], { size: 1 });
  return residual(layer.at('resnets.1'), frames.add(self, x, y), [channels, channels], frames);
}

function upsample(
  layer: Layer,
  given: Frames,
  channels: number,
  temporal: boolean,
  frames: FrameOps,
): Frames {
  let x = given;
  const time = layer.at('time_conv');
  if (temporal && frames.isFirst) frames.keep(layer, x, channels, true);
  else if (temporal)
    x = frames.unfold(time, frames.conv(time, x, [channels, 2 * channels], { size: 1 }), channels);
  return frames.plane(layer.at('resample.1'), frames.upsample(layer, x), [channels, channels / 2]);
}

function downsample(
  layer: Layer,
  given: Frames,
  channels: number,
  temporal: boolean,
  frames: FrameOps,
): Frames {
  const x = frames.plane(layer.at('resample.1'), given, [channels, channels], { stride: 2 });
  if (!temporal) return x;
  if (!frames.isFirst)
    return frames.conv(layer.at('time_conv'), x, [channels, channels], { size: 1, stride: 2 });
  frames.keep(layer, x, channels, false);
  return x;
}
