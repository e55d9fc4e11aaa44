import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { largestDecode } from './tiled-decode.js';
import { loadClipTokenizer } from '../diffusion/tokenizers.js';
import type { NoiseScheduleConfig } from '../diffusion/schedulers/noise-schedule.js';
import type { Device } from '../engine-protocol.js';
import type { ReferenceType } from '../generation.js';
import { EngineFailure, type EngineLog, requireModelFiles } from '../engine.js';
import { findModelGraphs, packingNote } from '../graphs/model-graphs.js';
import { openSession } from '../onnx/session.js';

/**
 * An SDXL model folder in the Optimum/diffusers ONNX layout, opened. Shapes and rules come from its own
 * config files.
 */
export type SdxlModel = Awaited<ReturnType<typeof openSdxlModel>>;

/**
 * What becomes of a prompt that is longer than the encoders' window: cut at its end, or encoded window by
 * window.
 */
export type LongPrompts = 'truncate' | 'chunk';

interface EncoderConfig {
  num_hidden_layers: number;
}
interface UnetConfig {
  sample_size?: number;
  in_channels?: number;
  cross_attention_dim?: number;
  down_block_types?: string[];
}
interface VaeConfig {
  scaling_factor?: number;
  block_out_channels?: number[];
  latent_channels?: number;
}

/** Graph that is opened first, to learn which device works. */
export const probeGraph = 'text_encoder/model';

interface SdxlModelOptions {
  device: Device;
  threads: number;
  deviceMemoryBytes?: number | null;
  longPrompts?: LongPrompts;
  log?: EngineLog;
}

export async function openSdxlModel(
  folder: string,
  { longPrompts = 'truncate', deviceMemoryBytes = null, log, ...options }: SdxlModelOptions,
) {
  requireModelFiles('sdxl', folder);
  const graphs = findModelGraphs('sdxl', folder);
  const { config } = graphs;
  const firstConfig = async <T>(...files: string[]): Promise<T> => {
    const found = files.find((file) => existsSync(graphs.file(file)));
    return found === undefined ? ({} as T) : config<T>(found);
  };
  const packing = (name: string) => packingNote(name, options.device, log);
  const graph = async (name: string) =>
    openSession(await graphs.required(`${name}/model`, options.device, packing(name)), options);
  const optional = async (name: string) => {
    const source = await graphs.graph(`${name}/model`, options.device, packing(name));
    return source === null ? null : openSession(source, options);
  };

  const index = await config<{ force_zeros_for_empty_prompt?: boolean; _name_or_path?: string }>(
    'model_index.json',
  );
  const unetConfig = await config<UnetConfig>('unet/config.json');
  const vaeConfig = await firstConfig<VaeConfig>('vae_decoder/config.json', 'vae/config.json');
  const encoders = [
    {
      tokenizer: await loadClipTokenizer(path.dirname(graphs.file('tokenizer/vocab.json'))),
      session: await graph('text_encoder'),
      layers: (await config<EncoderConfig>('text_encoder/config.json')).num_hidden_layers,
      pooled: false,
    },
    {
      tokenizer: await loadClipTokenizer(path.dirname(graphs.file('tokenizer_2/vocab.json'))),
      session: await graph('text_encoder_2'),
      layers: (await config<EncoderConfig>('text_encoder_2/config.json')).num_hidden_layers,
      pooled: true,
    },
  ];
  const unet = await graph('unet');
  const vaeDecoder = await graph('vae_decoder');
  const vaeEncoder = await optional('vae_encoder');
  const imageEncoder = await optional('image_encoder');
  const vaeScale = 2 ** ((vaeConfig.block_out_channels?.length ?? 4) - 1);
  const takesTokens = unet.hasInput('ip_tokens') && unet.hasInput('ip_scale');
  if (graphs.hasAdapter && !takesTokens)
    throw new EngineFailure(
      'model_invalid',
      `${folder} has an ip_adapter, which an exported unet/model.onnx cannot take: use the checkpoint's own UNet`,
    );
  const adapterLayers =
    imageEncoder !== null && takesTokens
      ? await readAdapterLayers(
          graphs.file('adapter.json'),
          await graphs.imageLayers(),
          Number(unet.inputShape('ip_scale')[1]),
        )
      : null;

  return {
    folder,
    device: options.device,
    longPrompts,
    encoders,
    unet,
    vaeDecoder,
    vaeEncoder,
    imageEncoder: adapterLayers === null ? null : imageEncoder,
    /** Null: references start image-to-image runs. */
    adapterLayers,
    schedulerConfig: await config<NoiseScheduleConfig>('scheduler/scheduler_config.json'),
    /** No negative prompt means zeros instead of the encoded empty text. */
    zerosForNoNegative: index.force_zeros_for_empty_prompt !== false,
    latentChannels: unetConfig.in_channels ?? 4,
    vaeScale,
    /**
     * Pixels a side is drawn in multiples of: the UNet halves its latents once less than it has blocks, and
     * an exported graph cannot double an odd half.
     */
    sizeMultiple: vaeScale * 2 ** ((unetConfig.down_block_types?.length ?? 3) - 1),
    scalingFactor: vaeConfig.scaling_factor ?? 0.13025,
    /** Pixels the decoder may take at once. */
    largestDecode: largestDecode(options.device, vaeConfig.block_out_channels?.[0] ?? 128, deviceMemoryBytes),
    defaultSize: (unetConfig.sample_size ?? 128) * vaeScale,
    features: [
      'text_to_image',
      ...(vaeEncoder === null ? [] : ['image_to_image']),
      ...(adapterLayers === null ? [] : ['ip_adapter']),
      ...(encoders.every(({ session }) => session.hasInput('attention_mask')) ? ['attention_mask'] : []),
    ],
    async release(): Promise<void> {
      const sessions = [
        ...encoders.map(({ session }) => session),
        unet,
        vaeDecoder,
        vaeEncoder,
        imageEncoder,
      ];
      await Promise.all(sessions.map(async (session) => session?.release()));
    },
  };
}

/**
 * Which cross-attention layers listen to a reference, by the folder's `adapter.json`; factors of 0 elsewhere.
 */
export interface AdapterLayers {
  /** Names of the layers in the order of `ip_scale`. */
  layers: string[];
  /** Factor per layer name for each type at strength 1. */
  types: Record<ReferenceType, Record<string, number>>;
}

/**
 * What `adapter.json` says; without one, InstantStyle's blocks (Wang et al. 2024) of `layers`, those of a UNet that was
 * built here. Null for an exported UNet without one.
 * @throws EngineFailure `model_missing` when it is not of this form or names another number of layers than
 *   the UNet takes factors
 */
async function readAdapterLayers(
  file: string,
  layers: string[],
  factors: number,
): Promise<AdapterLayers | null> {
  if (!existsSync(file)) return layers.length === 0 ? null : instantStyle(layers);
  const table = JSON.parse(await readFile(file, 'utf8')) as Partial<AdapterLayers>;
  // an adapter's own order is that of its file
  const names = layers.length === 0 ? (table.layers ?? []) : layers;
  const unknown = (['composition', 'style', 'character'] as const).flatMap((type) => {
    const named = Object.keys(table.types?.[type] ?? {});
    return named.length === 0
      ? [`no layer for ${type}`]
      : named.filter((name) => !names.includes(name)).map((name) => `unknown layer ${name}`);
  });
  const wrong =
    names.length === factors
      ? unknown
      : [`${names.length} layers, the UNet's ip_scale takes ${factors}`, ...unknown];
  if (wrong.length > 0)
    throw new EngineFailure(
      'model_missing',
      `adapter.json does not fit the UNet beside it: ${wrong.join('; ')}`,
    );
  return { layers: names, types: (table as AdapterLayers).types };
}

/**
 * One block of SDXL carries where things are, another one their style; a character is taken by every layer, more
 * softly, as is everything where the UNet has no such block.
 */
function instantStyle(layers: string[]): AdapterLayers {
  const softly = Object.fromEntries(layers.map((name) => [name, 0.6]));
  const only = (block: string) => {
    const inside = layers.filter((name) => name.startsWith(block));
    return inside.length === 0 ? softly : Object.fromEntries(inside.map((name) => [name, 1]));
  };
  const types = {
    composition: only('down_blocks.2.attentions.1.'),
    style: only('up_blocks.0.attentions.1.'),
    character: softly,
  };
  return { layers, types };
}
