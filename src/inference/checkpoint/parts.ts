import { readSafetensors, readShards } from './safetensors.js';
import { isOriginalSdxl, readOriginalSdxl, type SdxlPart } from './sdxl-original.js';
import { CheckpointError, type TensorEntry, type TensorTable } from './tensor-table.js';
import { readTorchZip } from './torch-zip.js';
import { readOriginalWan } from './wan-original.js';
import type { DrawingEngine, OriginalLayout } from './model-layout.js';

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
  if (file.endsWith('.pth')) return readTorchZip(file);
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
