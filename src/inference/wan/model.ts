import { existsSync } from 'node:fs';
import path from 'node:path';
import { type CausalGraphs, isCache } from './vae.js';
import { loadT5Tokenizer } from '../diffusion/tokenizers.js';
import type { Device } from '../engine-protocol.js';
import type { WanGenerateParams } from '../generation.js';
import { EngineFailure, requireModelFiles } from '../engine.js';
import { findModelGraphs } from '../graphs/model-graphs.js';
import { openSession } from '../onnx/session.js';

/**
 * A Wan model folder in the layout of docs/export.md, opened. Sizes and rules come from its own config files.
 */
export type WanModel = Awaited<ReturnType<typeof openWanModel>>;

interface TransformerConfig {
  in_channels?: number;
  patch_size?: number[];
  text_dim?: number;
  vace_layers?: number[] | null;
}
interface VaeConfig {
  z_dim: number;
  latents_mean: number[];
  latents_std: number[];
  dim_mult?: number[];
  temperal_downsample?: boolean[];
  scale_factor_spatial?: number;
  scale_factor_temporal?: number;
}
/** What `ourvidz.json` may say of a Wan folder. */
interface Wishes {
  /** `clean`: trained with known latents fed clean, so that is how they are fed. */
  knownLatents?: 'clean' | 'noised';
  defaultWidth?: number;
  defaultHeight?: number;
  defaultFrames?: number;
}

/** Graph that is opened first, to learn which device works. */
export const probeGraph = 'vae_decoder/init';

/** Wan 2.1 T2V-1.3B's own size and length. */
const stock = { defaultWidth: 832, defaultHeight: 480, defaultFrames: 81 };

export async function openWanModel(folder: string, { device, threads }: { device: Device; threads: number }) {
  requireModelFiles('wan', folder);
  // decoding needs several times what the model holds at rest, and costs no more time without the arena that
  // would keep it
  const options = { device, threads, returnMemory: true };
  const graphs = findModelGraphs('wan', folder);
  const { config } = graphs;
  const transformerConfig = await config<TransformerConfig>('transformer/config.json');
  const vaeConfig = await config<VaeConfig>(
    existsSync(path.join(folder, 'vae_decoder/config.json')) ? 'vae_decoder/config.json' : 'vae/config.json',
  );
  const wishes = existsSync(path.join(folder, 'ourvidz.json')) ? await config<Wishes>('ourvidz.json') : {};
  const channels = vaeConfig.z_dim;
  const { latents_mean: mean, latents_std: deviation } = vaeConfig;
  if (mean?.length !== channels || deviation?.length !== channels) {
    throw new EngineFailure(
      'model_invalid',
      `${folder}: the VAE's config.json must state latents_mean and latents_std for its ${channels} channels`,
    );
  }
  if ((transformerConfig.in_channels ?? channels) !== channels) {
    throw new EngineFailure(
      'model_invalid',
      `${folder}: the transformer takes ${transformerConfig.in_channels} channels, the VAE makes ${channels}`,
    );
  }

  const open = async (name: string, more: { keepOnDevice?: typeof isCache } = {}) =>
    openSession(await graphs.required(name, device), { ...options, ...more });
  const half = async (name: string): Promise<CausalGraphs> => {
    const clip = await graphs.graph(`${name}/clip`, device);
    if (clip !== null) return { clip: await openSession(clip, options) };
    return {
      init: await open(`${name}/init`, { keepOnDevice: isCache }),
      step: await open(`${name}/step`, { keepOnDevice: isCache }),
    };
  };
  const tokenizer = await loadT5Tokenizer(path.dirname(graphs.file('tokenizer/tokenizer.json')));
  const textEncoder = await open('text_encoder/model');
  const transformer = await open('transformer/model');
  // what is built has the text's part of the transformer in a graph of its own; exports have it inside
  const textProjection = transformer.hasInput('text_states') ? await open('transformer/text') : null;
  const vaeDecoder = await half('vae_decoder');
  const vaeEncoder =
    (await graphs.graph('vae_encoder/init', device)) === null ? null : await half('vae_encoder');
  const vaeScale = vaeConfig.scale_factor_spatial ?? 2 ** ((vaeConfig.dim_mult ?? [1, 2, 4, 4]).length - 1);
  const framesPerLatent =
    vaeConfig.scale_factor_temporal ??
    2 ** (vaeConfig.temperal_downsample ?? [false, true, true]).filter(Boolean).length;
  const vace = vaeEncoder !== null && transformer.hasInput('control_hidden_states');
  const cleanKnownLatents = wishes.knownLatents === 'clean';

  return {
    folder,
    tokenizer,
    textEncoder,
    textProjection,
    transformer,
    vaeDecoder,
    vaeEncoder,
    channels,
    /** Per channel; latents of the transformer are (VAE's - mean) / deviation. */
    latentsMean: Float32Array.from(mean),
    latentsDeviation: Float32Array.from(deviation),
    /** Pixels a side of one latent. */
    vaeScale,
    /** Frames that one latent frame stands for, after the first, which stands for one. */
    framesPerLatent,
    sizeMultiple: vaeScale * (transformerConfig.patch_size?.[2] ?? 2),
    /** Tokens the transformer makes of one latent frame's area, as latents per token. */
    latentsPerToken: (transformerConfig.patch_size ?? [1, 2, 2]).reduce(
      (product, extent) => product * extent,
      1,
    ),
    textWidth: transformerConfig.text_dim ?? Number(transformer.inputShape('encoder_hidden_states')[2]),
    cleanKnownLatents,
    /** Number of hints a VACE checkpoint adds; 0 for others. */
    vaceHints: vace
      ? (transformerConfig.vace_layers?.length ??
        Number(transformer.inputShape('control_hidden_states_scale')[0]))
      : 0,
    ...stock,
    ...(wishes.defaultWidth === undefined ? {} : { defaultWidth: wishes.defaultWidth }),
    ...(wishes.defaultHeight === undefined ? {} : { defaultHeight: wishes.defaultHeight }),
    ...(wishes.defaultFrames === undefined ? {} : { defaultFrames: wishes.defaultFrames }),
    features: [
      'text_to_video',
      'text_to_image',
      ...(vaeEncoder === null
        ? []
        : ['vae_encoder', vace ? 'vace' : cleanKnownLatents ? 'latent_clean' : 'latent_overwrite']),
    ],
    async release(): Promise<void> {
      const sessions = [
        textEncoder,
        textProjection,
        transformer,
        ...graphsOf(vaeDecoder),
        ...(vaeEncoder === null ? [] : graphsOf(vaeEncoder)),
      ];
      await Promise.all(sessions.map(async (session) => session?.release()));
    },
  };
}

const graphsOf = (half: CausalGraphs) => ('clip' in half ? [half.clip] : [half.init, half.step]);

/**
 * @throws EngineFailure `invalid_parameters` with the field, where a request cannot be drawn by this model
 */
export function requireValid(model: WanModel, params: WanGenerateParams): void {
  const { frames, output, references } = params;
  for (const field of ['width', 'height'] as const) {
    if (!isCount(params[field]) || params[field] % model.sizeMultiple !== 0)
      refuse('config.size', `${field} must be a positive multiple of ${model.sizeMultiple}`);
  }
  if (!isCount(frames) || (frames - 1) % model.framesPerLatent !== 0)
    refuse('config.frame_num', `must be ${model.framesPerLatent}n + 1`);
  if (output === 'image' && frames !== 1) refuse('config.frame_num', 'must be 1 for a picture');
  if (!isCount(params.steps)) refuse('config.sample_steps', 'must be a positive whole number');
  if (!(params.shift > 0)) refuse('config.sample_shift', 'must be greater than 0');
  const { reference, start, end } = references;
  if (model.vaeEncoder === null && (reference ?? start ?? end) !== undefined)
    refuse('config.image', 'needs a vae_encoder, which this model folder does not have');
}

const isCount = (value: number) => Number.isInteger(value) && value > 0;

function refuse(field: string, rule: string): never {
  throw new EngineFailure('invalid_parameters', `${field} ${rule}`, field);
}
