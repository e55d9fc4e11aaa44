import { CheckpointError, type TensorEntry, type TensorTable } from './tensor-table.js';

/** Parts of an SDXL model by diffusers' names. */
export type SdxlPart = 'unet' | 'vae' | 'text_encoder' | 'text_encoder_2';

const prefixes = {
  unet: 'model.diffusion_model.',
  vae: 'first_stage_model.',
  text_encoder: 'conditioner.embedders.0.transformer.',
  text_encoder_2: 'conditioner.embedders.1.model.',
} as const;

/** What training leaves in such files, and no picture needs. */
const leftovers = /^(model_ema\.|alphas_cumprod|betas$|denoiser\.|loss\.|cond_stage_model\.|v_pred$|ztsnr$)/;

export const isOriginalSdxl = (table: TensorTable) => table.has(`${prefixes.unet}input_blocks.0.0.weight`);

/**
 * The parts of a single-file SDXL checkpoint in the layout it was published in (Stability AI's generative-models),
 * under diffusers' names. The bytes stay where they are.
 * @throws CheckpointError naming what belongs to no part
 */
export function readOriginalSdxl(file: string, table: TensorTable): Record<SdxlPart, TensorTable> {
  const parts = {
    unet: new Map(),
    vae: new Map(),
    text_encoder: new Map(),
    text_encoder_2: new Map(),
  } as Record<SdxlPart, Map<string, TensorEntry>>;
  const names = [...table.keys()];
  const layers = residualBlocks(names);
  const vaeBlocks = 1 + Math.max(...names.map((name) => Number(/decoder\.up\.(\d+)\./.exec(name)?.[1] ?? 0)));
  for (const [name, entry] of table) {
    const part = (Object.keys(prefixes) as SdxlPart[]).find((each) => name.startsWith(prefixes[each]));
    if (part === undefined) {
      if (leftovers.test(name)) continue;
      throw new CheckpointError(file, `has a tensor that is no part of SDXL: ${name}`);
    }
    const own = name.slice(prefixes[part].length);
    if (part === 'text_encoder_2') addOpenClip(parts[part], own, entry);
    else if (part === 'unet') parts[part].set(unetName(own, layers), entry);
    else if (part === 'vae')
      parts[part].set(vaeName(own, vaeBlocks), isPixelMatrix(own) ? asMatrix(entry) : entry);
    else parts[part].set(own, entry);
  }
  return parts;
}

/** Residual blocks of a level; the original numbers through, and a level but the last ends with its downsampling. */
function residualBlocks(names: readonly string[]): number {
  const ends = names
    .map((name) => /input_blocks\.(\d+)\.0\.op\.weight$/.exec(name)?.[1])
    .filter((n) => n !== undefined);
  return Math.min(...ends.map(Number)) - 1;
}

const unetEnds: Record<string, string> = {
  'input_blocks.0.0': 'conv_in',
  'out.0': 'conv_norm_out',
  'out.2': 'conv_out',
  'time_embed.0': 'time_embedding.linear_1',
  'time_embed.2': 'time_embedding.linear_2',
  'label_emb.0.0': 'add_embedding.linear_1',
  'label_emb.0.2': 'add_embedding.linear_2',
};
const residualNames: Record<string, string> = {
  'in_layers.0': 'norm1',
  'in_layers.2': 'conv1',
  'emb_layers.1': 'time_emb_proj',
  'out_layers.0': 'norm2',
  'out_layers.3': 'conv2',
  skip_connection: 'conv_shortcut',
};

function unetName(name: string, layers: number): string {
  const end = renamed(name, unetEnds);
  if (end !== name) return end;
  const middle = /^middle_block\.([012])\.(.*)$/.exec(name);
  if (middle !== null) {
    const [, index, rest] = middle as unknown as [string, string, string];
    return index === '1'
      ? `mid_block.attentions.0.${rest}`
      : `mid_block.resnets.${Number(index) / 2}.${renamed(rest, residualNames)}`;
  }
  const block = /^(input|output)_blocks\.(\d+)\.(\d)\.(.*)$/.exec(name);
  if (block === null) return name;
  const [, side, number, kind, rest] = block as unknown as [string, string, string, string, string];
  const at = Number(number) - (side === 'input' ? 1 : 0);
  const [level, index] = [Math.floor(at / (layers + 1)), at % (layers + 1)];
  const path = `${side === 'input' ? 'down' : 'up'}_blocks.${level}`;
  if (rest.startsWith('op.')) return `${path}.downsamplers.0.conv.${rest.slice(3)}`;
  if (rest.startsWith('conv.')) return `${path}.upsamplers.0.${rest}`;
  return kind === '0'
    ? `${path}.resnets.${index}.${renamed(rest, residualNames)}`
    : `${path}.attentions.${index}.${rest}`;
}

const vaeAttention: Record<string, string> = {
  norm: 'group_norm',
  q: 'to_q',
  k: 'to_k',
  v: 'to_v',
  proj_out: 'to_out.0',
};

function vaeName(name: string, blocks: number): string {
  return name
    .replace(/\bmid\.block_(\d)/, (_, index: string) => `mid_block.resnets.${Number(index) - 1}`)
    .replace(
      /\bmid\.attn_1\.(\w+)/,
      (_, kind: string) => `mid_block.attentions.0.${vaeAttention[kind] ?? kind}`,
    )
    .replace(/\bdown\.(\d+)\.block/, 'down_blocks.$1.resnets')
    .replace(/\bdown\.(\d+)\.downsample/, 'down_blocks.$1.downsamplers.0')
    .replace(/\bup\.(\d+)\.block/, (_, index: string) => `up_blocks.${blocks - 1 - Number(index)}.resnets`)
    .replace(
      /\bup\.(\d+)\.upsample/,
      (_, index: string) => `up_blocks.${blocks - 1 - Number(index)}.upsamplers.0`,
    )
    .replace('nin_shortcut', 'conv_shortcut')
    .replace(/\bnorm_out/, 'conv_norm_out');
}

/** The original's projections of the VAE's attention are 1×1 convolutions. */
const isPixelMatrix = (name: string) => /attn_1\.(q|k|v|proj_out)\.weight$/.test(name);
const asMatrix = (entry: TensorEntry): TensorEntry => ({ ...entry, shape: entry.shape.slice(0, 2) });

const clipNames: Record<string, string> = {
  positional_embedding: 'text_model.embeddings.position_embedding.weight',
  token_embedding: 'text_model.embeddings.token_embedding',
  ln_final: 'text_model.final_layer_norm',
};
const clipLayer: Record<string, string> = {
  ln_1: 'layer_norm1',
  ln_2: 'layer_norm2',
  'mlp.c_fc': 'mlp.fc1',
  'mlp.c_proj': 'mlp.fc2',
  'attn.out_proj': 'self_attn.out_proj',
};

/** open_clip's names; query, key and value lie in one matrix there, the last projection as [in, out]. */
function addOpenClip(part: Map<string, TensorEntry>, name: string, entry: TensorEntry): void {
  if (name === 'logit_scale') return;
  if (name === 'text_projection') {
    part.set('text_projection.weight', { ...entry, shape: [...entry.shape].reverse(), transposed: true });
    return;
  }
  const layer = /^transformer\.resblocks\.(\d+)\.(.*)$/.exec(name);
  if (layer === null) {
    part.set(renamed(name, clipNames), entry);
    return;
  }
  const [, index, rest] = layer as unknown as [string, string, string];
  const path = `text_model.encoder.layers.${index}`;
  const packed = /^attn\.in_proj_(weight|bias)$/.exec(rest)?.[1];
  if (packed === undefined) {
    part.set(`${path}.${renamed(rest, clipLayer)}`, entry);
    return;
  }
  const [rows = 0, ...width] = entry.shape;
  const length = entry.length / 3;
  for (const [i, kind] of ['q', 'k', 'v'].entries())
    part.set(`${path}.self_attn.${kind}_proj.${packed}`, {
      ...entry,
      shape: [rows / 3, ...width],
      offset: entry.offset + i * length,
      length,
    });
}

/** With the first path of `names` that it begins with replaced. */
function renamed(name: string, names: Record<string, string>): string {
  const old = Object.keys(names).find((each) => name === each || name.startsWith(`${each}.`));
  return old === undefined ? name : `${names[old]}${name.slice(old.length)}`;
}
