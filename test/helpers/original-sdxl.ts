import path from 'node:path';
import { loadAll, type TensorBytes, writeSafetensors } from './checkpoints.js';
import { readSafetensors } from '../../src/inference/checkpoint/safetensors.js';

/**
 * Writes a diffusers folder as one file in the original layout, by the rules of diffusers' own conversion script
 * (convert_diffusers_to_original_sdxl.py): the other direction of what the product reads.
 */
export async function writeOriginalSdxl(
  folder: string,
  file: string,
  layers: number,
  vaeBlocks: number,
): Promise<void> {
  const part = async (name: string, stem = 'diffusion_pytorch_model') =>
    loadAll(await readSafetensors(path.join(folder, name, `${stem}.safetensors`)));
  const out = new Map<string, TensorBytes>();
  for (const [name, tensor] of await part('unet'))
    out.set(`model.diffusion_model.${unetName(name, layers)}`, tensor);
  for (const [name, tensor] of await part('vae')) {
    const original = vaeName(name, vaeBlocks);
    const pixels = /attn_1\.(q|k|v|proj_out)\.weight/.test(original);
    out.set(`first_stage_model.${original}`, pixels ? { ...tensor, shape: [...tensor.shape, 1, 1] } : tensor);
  }
  for (const [name, tensor] of await part('text_encoder', 'model'))
    out.set(`conditioner.embedders.0.transformer.${name}`, tensor);
  for (const [name, tensor] of openClip(await part('text_encoder_2', 'model')))
    out.set(`conditioner.embedders.1.model.${name}`, tensor);
  await writeSafetensors(file, out);
}

const ends: [string, string][] = [
  ['conv_in', 'input_blocks.0.0'],
  ['conv_norm_out', 'out.0'],
  ['conv_out', 'out.2'],
  ['time_embedding.linear_1', 'time_embed.0'],
  ['time_embedding.linear_2', 'time_embed.2'],
  ['add_embedding.linear_1', 'label_emb.0.0'],
  ['add_embedding.linear_2', 'label_emb.0.2'],
];
const resnet: [string, string][] = [
  ['norm1', 'in_layers.0'],
  ['conv1', 'in_layers.2'],
  ['time_emb_proj', 'emb_layers.1'],
  ['norm2', 'out_layers.0'],
  ['conv2', 'out_layers.3'],
  ['conv_shortcut', 'skip_connection'],
];

function renamed(name: string, pairs: [string, string][]): string {
  const pair = pairs.find(([own]) => name.startsWith(`${own}.`));
  return pair === undefined ? name : pair[1] + name.slice(pair[0].length);
}

function unetName(name: string, layers: number): string {
  const end = renamed(name, ends);
  if (end !== name) return end;
  const [block = '', level = '', kind = '', index = '', ...others] = name.startsWith('mid')
    ? ['mid', '', ...name.split('.').slice(1)]
    : name.split('.');
  const rest = others.join('.');
  const own = kind === 'resnets' ? renamed(rest, resnet) : rest;
  if (block === 'mid') return `middle_block.${kind === 'resnets' ? 2 * Number(index) : 1}.${own}`;
  const first = Number(level) * (layers + 1);
  if (kind === 'downsamplers') return `input_blocks.${first + layers + 1}.0.${rest.replace('conv.', 'op.')}`;
  if (kind === 'upsamplers') return `output_blocks.${first + layers}.2.${rest}`;
  const side = block === 'down_blocks' ? 'input_blocks' : 'output_blocks';
  const number = first + Number(index) + (side === 'input_blocks' ? 1 : 0);
  return `${side}.${number}.${kind === 'resnets' ? 0 : 1}.${own}`;
}

function vaeName(name: string, blocks: number): string {
  const attention: [string, string][] = [
    ['group_norm', 'norm'],
    ['to_q', 'q'],
    ['to_k', 'k'],
    ['to_v', 'v'],
    ['to_out.0', 'proj_out'],
  ];
  const [before = '', after] = name.split('mid_block.attentions.0.');
  if (after !== undefined) return `${before}mid.attn_1.${renamed(after, attention)}`;
  return name
    .replace('conv_norm_out', 'norm_out')
    .replace(/mid_block\.resnets\.(\d)/, (_, i: string) => `mid.block_${Number(i) + 1}`)
    .replace(/down_blocks\.(\d)\.resnets/, 'down.$1.block')
    .replace(/down_blocks\.(\d)\.downsamplers\.0/, 'down.$1.downsample')
    .replace(/up_blocks\.(\d)\.resnets/, (_, i: string) => `up.${blocks - 1 - Number(i)}.block`)
    .replace(/up_blocks\.(\d)\.upsamplers\.0/, (_, i: string) => `up.${blocks - 1 - Number(i)}.upsample`)
    .replace('conv_shortcut', 'nin_shortcut');
}

function openClip(given: Map<string, TensorBytes>): Map<string, TensorBytes> {
  const get = (name: string) => given.get(name) as TensorBytes;
  const text = 'text_model.';
  const out = new Map<string, TensorBytes>([
    ['positional_embedding', get(`${text}embeddings.position_embedding.weight`)],
    ['token_embedding.weight', get(`${text}embeddings.token_embedding.weight`)],
    ['ln_final.weight', get(`${text}final_layer_norm.weight`)],
    ['ln_final.bias', get(`${text}final_layer_norm.bias`)],
    ['text_projection', transposed(get('text_projection.weight'))],
  ]);
  for (let i = 0; given.has(`${text}encoder.layers.${i}.layer_norm1.weight`); i += 1) {
    const [own, theirs] = [`${text}encoder.layers.${i}.`, `transformer.resblocks.${i}.`];
    for (const end of ['weight', 'bias']) {
      const rows = ['q', 'k', 'v'].map((each) => get(`${own}self_attn.${each}_proj.${end}`));
      const { dtype, shape } = rows[0] as TensorBytes;
      out.set(`${theirs}attn.in_proj_${end}`, {
        dtype,
        shape: [3 * (shape[0] as number), ...shape.slice(1)],
        bytes: Buffer.concat(rows.map(({ bytes }) => bytes)),
      });
      for (const [a, b] of [
        ['self_attn.out_proj', 'attn.out_proj'],
        ['layer_norm1', 'ln_1'],
        ['layer_norm2', 'ln_2'],
        ['mlp.fc1', 'mlp.c_fc'],
        ['mlp.fc2', 'mlp.c_proj'],
      ])
        out.set(`${theirs}${b}.${end}`, get(`${own}${a}.${end}`));
    }
  }
  return out;
}

/** Of fp16 values. */
function transposed({ dtype, shape, bytes }: TensorBytes): TensorBytes {
  const [rows = 0, columns = 0] = shape;
  const out = Buffer.alloc(bytes.length);
  for (let r = 0; r < rows; r += 1)
    for (let c = 0; c < columns; c += 1)
      out.writeUInt16LE(bytes.readUInt16LE(2 * (r * columns + c)), 2 * (c * rows + r));
  return { dtype, shape: [columns, rows], bytes: out };
}
