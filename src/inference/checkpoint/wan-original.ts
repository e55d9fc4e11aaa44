import { CheckpointError, type TensorEntry, type TensorTable } from './tensor-table.js';

/** Tensors of Wan's own folders under diffusers' names, part by part. The bytes stay where they are. */
type Rename = (name: string) => string;

const transformer: [RegExp, string][] = [
  [/^time_embedding\.0\./, 'condition_embedder.time_embedder.linear_1.'],
  [/^time_embedding\.2\./, 'condition_embedder.time_embedder.linear_2.'],
  [/^time_projection\.1\./, 'condition_embedder.time_proj.'],
  [/^text_embedding\.0\./, 'condition_embedder.text_embedder.linear_1.'],
  [/^text_embedding\.2\./, 'condition_embedder.text_embedder.linear_2.'],
  [/^head\.modulation$/, 'scale_shift_table'],
  [/^head\.head\./, 'proj_out.'],
  [/\.before_proj\./, '.proj_in.'],
  [/\.after_proj\./, '.proj_out.'],
  [/\.modulation$/, '.scale_shift_table'],
  [/\.self_attn\./, '.attn1.'],
  [/\.cross_attn\./, '.attn2.'],
  [/\.(attn\d)\.([qkv])\./, '.$1.to_$2.'],
  [/\.(attn\d)\.o\./, '.$1.to_out.0.'],
  [/\.ffn\.0\./, '.ffn.net.0.proj.'],
  [/\.ffn\.2\./, '.ffn.net.2.'],
  // the norm before the cross-attention is the original's third, and the only one of the three with weights
  [/\.norm3\./, '.norm2.'],
];

const textEncoder: [RegExp, string][] = [
  [/^token_embedding\./, 'shared.'],
  [/^norm\./, 'encoder.final_layer_norm.'],
  [/^blocks\.(\d+)\.attn\./, 'encoder.block.$1.layer.0.SelfAttention.'],
  [
    /^blocks\.(\d+)\.pos_embedding\.embedding\./,
    'encoder.block.$1.layer.0.SelfAttention.relative_attention_bias.',
  ],
  [/^blocks\.(\d+)\.norm1\./, 'encoder.block.$1.layer.0.layer_norm.'],
  [/^blocks\.(\d+)\.norm2\./, 'encoder.block.$1.layer.1.layer_norm.'],
  [/^blocks\.(\d+)\.ffn\.gate\.0\./, 'encoder.block.$1.layer.1.DenseReluDense.wi_0.'],
  [/^blocks\.(\d+)\.ffn\.fc1\./, 'encoder.block.$1.layer.1.DenseReluDense.wi_1.'],
  [/^blocks\.(\d+)\.ffn\.fc2\./, 'encoder.block.$1.layer.1.DenseReluDense.wo.'],
];

/** A residual block's layers in the original's sequence: norm, SiLU, convolution, norm, SiLU, dropout, convolution. */
const vae: [RegExp, string][] = [
  [/\.residual\.0\./, '.norm1.'],
  [/\.residual\.2\./, '.conv1.'],
  [/\.residual\.3\./, '.norm2.'],
  [/\.residual\.6\./, '.conv2.'],
  [/\.shortcut\./, '.conv_shortcut.'],
  [/^conv1\./, 'quant_conv.'],
  [/^conv2\./, 'post_quant_conv.'],
  [/^(encoder|decoder)\.conv1\./, '$1.conv_in.'],
  [/^(encoder|decoder)\.head\.0\./, '$1.norm_out.'],
  [/^(encoder|decoder)\.head\.2\./, '$1.conv_out.'],
  [/\.middle\.0\./, '.mid_block.resnets.0.'],
  [/\.middle\.1\./, '.mid_block.attentions.0.'],
  [/\.middle\.2\./, '.mid_block.resnets.1.'],
  [/^encoder\.downsamples\./, 'encoder.down_blocks.'],
];

const applied =
  (rules: [RegExp, string][]): Rename =>
  (name) =>
    rules.reduce((current, [pattern, replacement]) => current.replace(pattern, replacement), name);

const renames: Record<'transformer' | 'text_encoder' | 'vae', Rename> = {
  transformer: applied(transformer),
  text_encoder: applied(textEncoder),
  vae: applied(vae),
};

export function readOriginalWan(file: string, part: keyof typeof renames, table: TensorTable): TensorTable {
  const upBlocks = part === 'vae' ? decoderSequence(file, table) : new Map<string, string>();
  return new Map(
    [...table].map(([name, entry]): [string, TensorEntry] => {
      const numbered = /^decoder\.upsamples\.(\d+)\./.exec(name);
      const path = numbered === null ? undefined : upBlocks.get(numbered[1] as string);
      const own =
        path === undefined || numbered === null ? name : `${path}.${name.slice(numbered[0].length)}`;
      return [renames[part](own), entry];
    }),
  );
}

/** The decoder's levels are one sequence in the original: each ends where an upsampling is. */
function decoderSequence(file: string, table: TensorTable): Map<string, string> {
  const names = [...table.keys()];
  const numbers = [...new Set(names.flatMap((name) => /^decoder\.upsamples\.(\d+)\./.exec(name)?.[1] ?? []))];
  if (numbers.length === 0) throw new CheckpointError(file, "is not Wan's VAE: it has no decoder.upsamples");
  const paths = new Map<string, string>();
  let [block, index] = [0, 0];
  for (const number of numbers.sort((a, b) => Number(a) - Number(b))) {
    const isUpsampling = table.has(`decoder.upsamples.${number}.resample.1.weight`);
    paths.set(number, `decoder.up_blocks.${block}.${isUpsampling ? 'upsamplers.0' : `resnets.${index}`}`);
    [block, index] = isUpsampling ? [block + 1, 0] : [block, index + 1];
  }
  return paths;
}
