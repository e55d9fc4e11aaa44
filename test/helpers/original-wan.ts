import { cp, mkdir, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { loadAll, type TensorBytes, writeSafetensors } from './checkpoints.js';
import { writeTorchZip } from './torch-zip.js';
import { readSafetensors } from '../../src/inference/checkpoint/safetensors.js';

type Pairs = [RegExp, string][];
const renamed = (name: string, pairs: Pairs) =>
  pairs.reduce((current, [pattern, replacement]) => current.replace(pattern, replacement), name);

/** diffusers' convert_wan_to_diffusers.py, backwards. */
const transformer: Pairs = [
  [/^condition_embedder\.time_embedder\.linear_1/, 'time_embedding.0'],
  [/^condition_embedder\.time_embedder\.linear_2/, 'time_embedding.2'],
  [/^condition_embedder\.text_embedder\.linear_1/, 'text_embedding.0'],
  [/^condition_embedder\.text_embedder\.linear_2/, 'text_embedding.2'],
  [/^condition_embedder\.time_proj/, 'time_projection.1'],
  [/^scale_shift_table/, 'head.modulation'],
  [/^proj_out/, 'head.head'],
  [/scale_shift_table/, 'modulation'],
  [/\.proj_in\b/, '.before_proj'],
  [/\.proj_out\b/, '.after_proj'],
  [/attn1\.to_out\.0/, 'self_attn.o'],
  [/attn2\.to_out\.0/, 'cross_attn.o'],
  [/attn1\.to_/, 'self_attn.'],
  [/attn2\.to_/, 'cross_attn.'],
  [/attn1/, 'self_attn'],
  [/attn2/, 'cross_attn'],
  [/ffn\.net\.0\.proj/, 'ffn.0'],
  [/ffn\.net\.2/, 'ffn.2'],
  [/\.norm2/, '.norm3'],
];
const textEncoder: Pairs = [
  [/^shared/, 'token_embedding'],
  [/^encoder\.final_layer_norm/, 'norm'],
  [/^encoder\.block/, 'blocks'],
  [/layer\.0\.SelfAttention\.relative_attention_bias/, 'pos_embedding.embedding'],
  [/layer\.0\.SelfAttention/, 'attn'],
  [/layer\.0\.layer_norm/, 'norm1'],
  [/layer\.1\.layer_norm/, 'norm2'],
  [/layer\.1\.DenseReluDense\.wi_0/, 'ffn.gate.0'],
  [/layer\.1\.DenseReluDense\.wi_1/, 'ffn.fc1'],
  [/layer\.1\.DenseReluDense\.wo/, 'ffn.fc2'],
];
const vae: Pairs = [
  [/^quant_conv/, 'conv1'],
  [/^post_quant_conv/, 'conv2'],
  [/conv_in/, 'conv1'],
  [/norm_out/, 'head.0'],
  [/conv_out/, 'head.2'],
  [/mid_block\.resnets\.0/, 'middle.0'],
  [/mid_block\.attentions\.0/, 'middle.1'],
  [/mid_block\.resnets\.1/, 'middle.2'],
  [/(middle\.[02]|downsamples\.\d+|upsamples\.\d+)\.norm1/, '$1.residual.0'],
  [/(middle\.[02]|downsamples\.\d+|upsamples\.\d+)\.conv1/, '$1.residual.2'],
  [/(middle\.[02]|downsamples\.\d+|upsamples\.\d+)\.norm2/, '$1.residual.3'],
  [/(middle\.[02]|downsamples\.\d+|upsamples\.\d+)\.conv2/, '$1.residual.6'],
  [/conv_shortcut/, 'shortcut'],
];

/** The decoder's blocks of `layers` residual blocks and an upsampling, as one sequence. */
const sequenced = (name: string, layers: number) =>
  name
    .replace(/^encoder\.down_blocks/, 'encoder.downsamples')
    .replace(
      /^decoder\.up_blocks\.(\d+)\.(?:resnets\.(\d+)|upsamplers\.0)/,
      (_, block: string, index?: string) =>
        `decoder.upsamples.${Number(block) * (layers + 1) + (index === undefined ? layers : Number(index))}`,
    );

/** Writes a diffusers folder of Wan 2.1 as its publisher's own folder. */
export async function writeOriginalWan(folder: string, out: string): Promise<void> {
  const part = async (file: string, rename: (name: string) => string) =>
    new Map<string, TensorBytes>(
      [...(await loadAll(await readSafetensors(path.join(folder, file))))].map(([name, tensor]) => [
        rename(name),
        tensor,
      ]),
    );
  const read = async (name: string) =>
    JSON.parse(await readFile(path.join(folder, name), 'utf8')) as Record<string, number>;
  await mkdir(out, { recursive: true });
  const layers = ((await read('vae/config.json'))['num_res_blocks'] as number) + 1;
  const stem = 'diffusion_pytorch_model.safetensors';
  await writeSafetensors(
    path.join(out, stem),
    await part(`transformer/${stem}`, (name) => renamed(name, transformer)),
  );
  await writeTorchZip(
    path.join(out, 'models_t5_umt5-xxl-enc-bf16.pth'),
    await part('text_encoder/model.safetensors', (name) => renamed(name, textEncoder)),
  );
  await writeTorchZip(
    path.join(out, 'Wan2.1_VAE.pth'),
    await part(`vae/${stem}`, (name) => renamed(sequenced(name, layers), vae)),
  );
  const config = await read('transformer/config.json');
  const heads = config['num_attention_heads'] as number;
  const own = {
    model_type: 't2v',
    dim: heads * (config['attention_head_dim'] as number),
    num_heads: heads,
    in_dim: config['in_channels'],
    out_dim: config['out_channels'],
    text_dim: config['text_dim'],
    freq_dim: config['freq_dim'],
    ffn_dim: config['ffn_dim'],
    num_layers: config['num_layers'],
    eps: config['eps'],
  };
  await writeFile(path.join(out, 'config.json'), JSON.stringify(own));
  await cp(path.join(folder, 'tokenizer'), path.join(out, 'google/umt5-xxl'), { recursive: true });
  // the service has the configurations of the full-size model only
  for (const name of ['vae', 'text_encoder'])
    await cp(path.join(folder, name, 'config.json'), path.join(out, name, 'config.json'));
}
