import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { loadClipTokenizer } from '../diffusion/clip-tokenizer.js';
import type { NoiseScheduleConfig } from '../diffusion/schedulers/noise-schedule.js';
import type { Device } from '../engine-protocol.js';
import { requireModelFiles } from '../model-files.js';
import { openSession } from '../onnx/session.js';
import { readAdapterLayers } from './adapter-layers.js';
import { largestDecode } from './decode-plan.js';

/** An SDXL model folder in the Optimum/diffusers ONNX layout, opened. Shapes and rules come from its own config files. */
export type SdxlModel = Awaited<ReturnType<typeof openSdxlModel>>;

/** What becomes of a prompt that is longer than the encoders' window: cut at its end, or encoded window by window. */
export type LongPrompts = 'truncate' | 'chunk';

interface EncoderConfig { num_hidden_layers: number }
interface UnetConfig { sample_size?: number; in_channels?: number; cross_attention_dim?: number; down_block_types?: string[] }
interface VaeConfig { scaling_factor?: number; block_out_channels?: number[]; latent_channels?: number }

/** Graph that is opened first, to learn which device works. */
export const probeGraph = 'text_encoder/model.onnx';

export interface SdxlModelOptions { device: Device; threads: number; deviceMemoryBytes?: number | null; longPrompts?: LongPrompts }

export async function openSdxlModel(folder: string, { longPrompts = 'truncate', deviceMemoryBytes = null, ...options }: SdxlModelOptions) {
  requireModelFiles('sdxl', folder);
  const config = async <T>(file: string): Promise<T> => JSON.parse(await readFile(path.join(folder, file), 'utf8')) as T;
  const firstConfig = async <T>(...files: string[]): Promise<T> => {
    const found = files.find((file) => existsSync(path.join(folder, file)));
    return found === undefined ? ({} as T) : config<T>(found);
  };
  const graph = (name: string) => openSession(path.join(folder, name, 'model.onnx'), options);
  const optional = async (name: string) => (existsSync(path.join(folder, name, 'model.onnx')) ? graph(name) : null);

  const index = await config<{ force_zeros_for_empty_prompt?: boolean; _name_or_path?: string }>('model_index.json');
  const unetConfig = await config<UnetConfig>('unet/config.json');
  const vaeConfig = await firstConfig<VaeConfig>('vae_decoder/config.json', 'vae/config.json');
  const encoders = [
    { tokenizer: await loadClipTokenizer(path.join(folder, 'tokenizer')), session: await graph('text_encoder'), layers: (await config<EncoderConfig>('text_encoder/config.json')).num_hidden_layers, pooled: false },
    { tokenizer: await loadClipTokenizer(path.join(folder, 'tokenizer_2')), session: await graph('text_encoder_2'), layers: (await config<EncoderConfig>('text_encoder_2/config.json')).num_hidden_layers, pooled: true },
  ];
  const unet = await graph('unet');
  const vaeDecoder = await graph('vae_decoder');
  const vaeEncoder = await optional('vae_encoder');
  const imageEncoder = await optional('image_encoder');
  const vaeScale = 2 ** ((vaeConfig.block_out_channels?.length ?? 4) - 1);
  const adapter = imageEncoder !== null && unet.hasInput('ip_tokens') && unet.hasInput('ip_scale') && existsSync(path.join(folder, 'adapter.json'));

  return {
    folder,
    longPrompts,
    encoders,
    unet,
    vaeDecoder,
    vaeEncoder,
    imageEncoder: adapter ? imageEncoder : null,
    /** Null: references start image-to-image runs. */
    adapterLayers: adapter ? readAdapterLayers(await readFile(path.join(folder, 'adapter.json'), 'utf8'), Number(unet.inputShape('ip_scale')[1])) : null,
    schedulerConfig: await config<NoiseScheduleConfig>('scheduler/scheduler_config.json'),
    /** No negative prompt means zeros instead of the encoded empty text. */
    zerosForNoNegative: index.force_zeros_for_empty_prompt !== false,
    latentChannels: unetConfig.in_channels ?? 4,
    vaeScale,
    /** Pixels a side is drawn in multiples of: the UNet halves its latents once less than it has blocks, and an exported graph cannot double an odd half. */
    sizeMultiple: vaeScale * 2 ** ((unetConfig.down_block_types?.length ?? 3) - 1),
    scalingFactor: vaeConfig.scaling_factor ?? 0.13025,
    /** Pixels the decoder may take at once. */
    largestDecode: largestDecode(options.device, vaeConfig.block_out_channels?.[0] ?? 128, deviceMemoryBytes),
    defaultSize: (unetConfig.sample_size ?? 128) * vaeScale,
    features: [
      'text_to_image',
      ...(vaeEncoder === null ? [] : ['image_to_image']),
      ...(adapter ? ['ip_adapter'] : []),
      ...(encoders.every(({ session }) => session.hasInput('attention_mask')) ? ['attention_mask'] : []),
    ],
    async release(): Promise<void> {
      const sessions = [...encoders.map(({ session }) => session), unet, vaeDecoder, vaeEncoder, imageEncoder];
      await Promise.all(sessions.map(async (session) => session?.release()));
    },
  };
}
