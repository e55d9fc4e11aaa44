import path from 'node:path';
import { readSafetensors, readShards } from './safetensors.js';
import { isOriginalSdxl, readOriginalSdxl, type SdxlPart } from './sdxl-original.js';
import { CheckpointError, type TensorEntry, type TensorTable } from './tensor-table.js';
import { readTorchZip } from './torch-zip.js';
import { readOriginalWan } from './wan-original.js';
import { type AdapterPlace, type DrawingEngine, type OriginalLayout, weightsFile } from './model-layout.js';

/**
 * One part of a checkpoint in its publisher's own layout, under diffusers' names.
 * @throws CheckpointError when a file is damaged or of another kind
 */
export async function readOriginal(
  engine: DrawingEngine,
  layout: OriginalLayout,
  part: string,
): Promise<TensorTable | undefined> {
  if (engine === 'sdxl') {
    const file = layout['unet'] as string;
    const table = await readSafetensors(file);
    if (!isOriginalSdxl(table)) throw new CheckpointError(file, 'is not a single-file SDXL checkpoint');
    return readOriginalSdxl(file, table)[part as SdxlPart];
  }
  const file = layout[part];
  if (file === undefined) return undefined;
  return readOriginalWan(file, part as 'transformer' | 'text_encoder' | 'vae', await readTable(file));
}

/** How an SDXL checkpoint in one file differs from the base model's schedule: some trainers leave marks. */
export async function markedSchedule({ unet }: OriginalLayout): Promise<object> {
  const table = await readSafetensors(unet as string);
  return {
    ...(table.has('v_pred') ? { prediction_type: 'v_prediction' } : {}),
    ...(table.has('ztsnr') ? { rescale_betas_zero_snr: true, timestep_spacing: 'trailing' } : {}),
  };
}

async function readTable(file: string): Promise<TensorTable> {
  if (/\.(pth|bin)$/.test(file)) return readTorchZip(file);
  return file.endsWith('.json') ? readShards(file) : readSafetensors(file);
}

/** Wan's own `config.json` under diffusers' names; a configuration that has these already stays as it is. */
export function currentWanConfig(config: object): object {
  const own = config as Record<string, unknown>;
  if (typeof own['dim'] !== 'number' || typeof own['num_heads'] !== 'number') return config;
  return {
    patch_size: [1, 2, 2],
    num_attention_heads: own['num_heads'],
    attention_head_dim: own['dim'] / own['num_heads'],
    in_channels: own['in_dim'],
    out_channels: own['out_dim'],
    text_dim: own['text_dim'] ?? 4096,
    freq_dim: own['freq_dim'],
    ffn_dim: own['ffn_dim'],
    num_layers: own['num_layers'],
    cross_attn_norm: true,
    qk_norm: 'rms_norm_across_heads',
    eps: own['eps'],
    vace_layers: own['vace_layers'] ?? null,
    vace_in_channels: own['vace_in_dim'] ?? 96,
    ...(own['model_type'] === 'i2v' ? { added_kv_proj_dim: own['dim'] } : {}),
  };
}

/**
 * The tensors of one part under today's names: old files call them otherwise, and hold some that nothing
 * reads.
 * @throws CheckpointError when the files are damaged
 */
export async function readPart(file: string): Promise<TensorTable> {
  const table = file.endsWith('.json') ? await readShards(file) : await readSafetensors(file);
  return new Map(
    [...table].flatMap(([name, entry]): [string, TensorEntry][] =>
      unread.test(name) ? [] : [[currentName(name, table), entry]],
    ),
  );
}

/** Counts that older versions stored, and copies of other tensors. */
const unread = /(^|\.)(position_ids|logit_scale)$|^encoder\.embed_tokens\.weight$/;

const oldAttention: Record<string, string> = {
  query: 'to_q',
  key: 'to_k',
  value: 'to_v',
  proj_attn: 'to_out.0',
};

function currentName(name: string, table: TensorTable): string {
  if (
    name.startsWith('embeddings.') ||
    name.startsWith('final_layer_norm.') ||
    /^encoder\.layers\.\d/.test(name)
  )
    return table.has('embeddings.token_embedding.weight') ? `text_model.${name}` : name;
  return name.replace(
    /(mid_block\.attentions\.0\.)(query|key|value|proj_attn)\./,
    (_, path: string, kind: string) => `${path}${oldAttention[kind]}.`,
  );
}

/** By its tensors' names. @throws CheckpointError when it cannot be read */
export const isAdapter = async (file: string): Promise<boolean> =>
  /\.(safetensors|bin)$/.test(file) &&
  [...(await readTable(file)).keys()].some((name) => name.startsWith('image_proj.'));

/** What an IP-Adapter (Ye et al. 2023) consists of. */
export interface Adapter {
  file: string;
  /** `image_proj.…`: makes tokens of an encoded picture. */
  projection: TensorTable;
  /** `ip_adapter.N.to_k_ip.weight` and `…to_v_ip.weight`, N counting the UNet's attentions. */
  attention: TensorTable;
}

/**
 * An adapter in the form that it is published in, `.safetensors` or of `torch.save`.
 * @throws CheckpointError when it is none, or of a kind that is not drawn with here
 */
export async function readAdapter(file: string): Promise<Adapter> {
  const table = await readTable(file);
  const under = (prefix: string) => new Map([...table].filter(([name]) => name.startsWith(prefix)));
  const [projection, attention] = [under('image_proj.'), under('ip_adapter.')];
  const refuse = (problem: string): never => {
    throw new CheckpointError(file, problem);
  };
  if (projection.size === 0 || attention.size === 0)
    refuse('is no IP-Adapter: it has no image_proj.… and ip_adapter.… tensors');
  const isPlain = projection.has('image_proj.proj.weight') && projection.has('image_proj.norm.weight');
  if (!isPlain && !projection.has('image_proj.latents'))
    refuse('is an IP-Adapter of another kind than the plain one and "plus": faces are not read here');
  const other = [...table.keys()].find((name) => !projection.has(name) && !attention.has(name));
  if (other !== undefined) refuse(`has a tensor that is no part of an IP-Adapter: ${other}`);
  return { file, projection, attention };
}

/** The adapter of a model. @throws CheckpointError as `readAdapter` does, and when there are several */
export async function adapterAt({ files }: AdapterPlace): Promise<Adapter> {
  const [file, ...others] = files as [string, ...string[]];
  if (others.length === 0) return readAdapter(file);
  const names = files.map((each) => path.basename(each)).join(', ');
  throw new CheckpointError(
    path.dirname(file),
    `holds ${files.length} adapters (${names}): keep one of them`,
  );
}

/**
 * The image encoder's tensors and the adapter's projection.
 * @throws CheckpointError when one of them is no such file
 */
export async function readImageEncoder(place: AdapterPlace): Promise<TensorTable> {
  const { projection } = await adapterAt(place);
  const weights = weightsFile(place.encoder);
  if (weights === undefined)
    throw new CheckpointError(place.encoder, 'lacks model.safetensors, the image encoder of the adapter');
  return new Map([...(await readPart(weights)), ...projection]);
}

/** Whose text is so wide. */
const models: Record<number, string> = {
  768: 'Stable Diffusion 1',
  1024: 'Stable Diffusion 2',
  2048: 'SDXL',
};

/**
 * The UNet's tensors and, under the names of its layers, the adapter's.
 * @throws CheckpointError when the adapter is another model's
 */
export function withAdapter(unet: TensorTable, { file, projection, attention }: Adapter): TensorTable {
  const refuse = (problem: string): never => {
    throw new CheckpointError(file, problem);
  };
  const layers = crossAttentions(unet);
  const wanted = unet.get(`${layers[0]}.to_k.weight`)?.shape[1] ?? 0;
  const width = (projection.get('image_proj.norm.weight') ?? projection.get('image_proj.norm_out.weight'))
    ?.shape[0];
  if (width !== wanted)
    refuse(
      `is an IP-Adapter for ${models[width ?? 0] ?? 'another model'}: ` +
        `its tokens have ${width} values, this model's text has ${wanted}`,
    );
  const left = new Map(attention);
  const take = (layer: string, number: number, kind: 'k' | 'v'): [string, TensorEntry] => {
    const name = `ip_adapter.${number}.to_${kind}_ip.weight`;
    const shape = unet.get(`${layer}.to_${kind}.weight`)?.shape ?? [];
    const entry = left.get(name) ?? refuse(`lacks ${name}: this UNet has ${layers.length} layers that look`);
    if (entry.shape.join() !== shape.join())
      refuse(`${name} is [${entry.shape.join(', ')}], ${layer} of this UNet takes [${shape.join(', ')}]`);
    left.delete(name);
    return [`${layer}.processor.to_${kind}_ip.weight`, entry];
  };
  // every second attention is one of the picture with itself
  const named = layers.flatMap((layer, i) => [take(layer, 2 * i + 1, 'k'), take(layer, 2 * i + 1, 'v')]);
  const [more] = left.keys();
  if (more !== undefined) refuse(`has ${more}, but this UNet only ${layers.length} layers that look`);
  return new Map([...unet, ...named]);
}

const sections = ['down_blocks', 'up_blocks', 'mid_block'];

/** Layers that look at the text, in the order that diffusers counts them: the middle one comes last. */
function crossAttentions(unet: TensorTable): string[] {
  const end = '.attn2.to_k.weight';
  const section = (name: string) => sections.findIndex((each) => name.startsWith(each));
  const byNumbers = new Intl.Collator('en', { numeric: true });
  return [...unet.keys()]
    .filter((name) => name.endsWith(end))
    .map((name) => name.slice(0, -'.to_k.weight'.length))
    .sort((a, b) => section(a) - section(b) || byNumbers.compare(a, b));
}

const imageKeys = '.processor.to_k_ip.weight';

/** Layers that look at a reference, in the order of the graph's `ip_scale`. */
export const imageLayers = (unet: TensorTable): string[] =>
  [...unet.keys()].filter((name) => name.endsWith(imageKeys)).map((name) => name.slice(0, -imageKeys.length));
