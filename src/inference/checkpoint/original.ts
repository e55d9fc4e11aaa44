import { readSafetensors, readShards } from './safetensors.js';
import { isOriginalSdxl, readOriginalSdxl, type SdxlPart } from './sdxl-original.js';
import { CheckpointError, type TensorTable } from './tensor-table.js';
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
