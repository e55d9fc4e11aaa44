import { ArchitectureError, Graph, type Layer, type Value } from './graph.js';
import { encoderLayer } from './clip-text.js';
import * as ops from './ops.js';
import type { Form } from './lowering.js';
import type { TensorTable } from '../checkpoint/tensor-table.js';

/** transformers' CLIPVisionConfig. */
export interface ClipVisionConfig {
  hidden_size: number;
  intermediate_size: number;
  projection_dim: number;
  num_hidden_layers: number;
  num_attention_heads: number;
  image_size: number;
  patch_size: number;
  hidden_act: string;
  layer_norm_eps: number;
}

/** What transformers leaves out of a configuration that says the same. */
const stock: ClipVisionConfig = {
  hidden_size: 768,
  intermediate_size: 3072,
  projection_dim: 512,
  num_hidden_layers: 12,
  num_attention_heads: 12,
  image_size: 224,
  patch_size: 32,
  hidden_act: 'quick_gelu',
  layer_norm_eps: 1e-5,
};

/** CLIP's own normalisation of pictures in [0, 1]. */
const mean = [0.48145466, 0.4578275, 0.40821073];
const deviation = [0.26862954, 0.26130258, 0.27577711];

/**
 * What IP-Adapter (Ye et al. 2023) makes of a picture: CLIP's vision tower and the adapter's projection of its
 * embedding, or ("plus") of its last but one layer. `sample` [1, 3, S, S] in [-1, 1] -> `ip_tokens` [1, tokens, width],
 * and `empty_ip_tokens` for the side without a picture: of an embedding, or of pixels, that are zero.
 */
export function buildImageEncoder(tensors: TensorTable, given: Partial<ClipVisionConfig>, form: Form): Graph {
  const config = { ...stock, ...given };
  const graph = new Graph('image_encoder', tensors, form);
  const root = graph.layer();
  const project = root.at('image_proj');
  const sample = graph.input('sample', 'float', [1, 3, config.image_size, config.image_size]);
  const pixels = normalised(root, sample);
  const tokens = project.has('latents')
    ? resampled(project, beforeLastLayer(root, withZeros(root, pixels), config), config.hidden_size)
    : projected(project, withZeros(root, embedding(root, pixels, config)), config.projection_dim);
  for (const [row, name] of ['ip_tokens', 'empty_ip_tokens'].entries())
    graph.output(name, ops.slice(root, tokens.value, 0, row, row + 1), [1, tokens.count, tokens.width]);
  return graph;
}

/** From [-1, 1] to what CLIP was trained on. */
function normalised(layer: Layer, sample: Value): Value {
  const perChannel = (values: number[]) => layer.graph.constant('float', values, [1, 3, 1, 1]);
  const scaled = ops.mul(layer, sample, perChannel(deviation.map((each) => 0.5 / each)));
  const shift = perChannel(mean.map((each, i) => (0.5 - each) / (deviation[i] as number)));
  return ops.cast(layer, ops.add(layer, scaled, shift), layer.graph.form.type);
}

/** A second row of zeros. */
const withZeros = (layer: Layer, x: Value) =>
  ops.concat(layer, [x, ops.mul(layer, x, layer.constant([0], []))], 0);

/** Patches and one more token, for the whole, through all layers but the last: what that one is given. */
function beforeLastLayer(root: Layer, pixels: Value, config: ClipVisionConfig): Value {
  const { hidden_size: width, image_size: size, patch_size: patch } = config;
  if (size % patch !== 0)
    throw new ArchitectureError(`image_encoder: patches of ${patch} do not fit ${size} pixels`);
  const tower = root.at('vision_model');
  const embeddings = tower.at('embeddings');
  const side = size / patch;
  const values = 3 * patch * patch;
  const split = ops.reshape(embeddings, pixels, [0, 3, side, patch, side, patch]);
  const ordered = ops.transpose(embeddings, split, [0, 2, 4, 1, 3, 5]);
  const flat = ops.reshape(embeddings, ordered, [0, side * side, values]);
  const stored = [width, 3, patch, patch];
  const patches = ops.linear(embeddings.at('patch_embedding'), flat, [values, width], false, stored);
  const whole = embeddings.weight('class_embedding', [width], [1, 1, width]);
  const rows = ops.shapeOf(embeddings, ops.shape(embeddings, pixels, 0, 1), 1, width);
  const tokens = ops.concat(embeddings, [embeddings.op('Expand', [whole, rows]), patches], 1);
  const places = embeddings.at('position_embedding').weight('weight', [side * side + 1, width]);
  const placed = ops.add(embeddings, tokens, places);
  // the misspelt name is the checkpoints'
  let x = ops.layerNorm(tower.at('pre_layrnorm'), placed, width, config.layer_norm_eps);
  for (let i = 0; i < config.num_hidden_layers - 1; i += 1)
    x = encoderLayer(tower.at('encoder.layers').at(i), x, undefined, config);
  return x;
}

/** Of the whole picture: [1, projection width]. */
function embedding(root: Layer, pixels: Value, config: ClipVisionConfig): Value {
  const { hidden_size: width, projection_dim: to, num_hidden_layers: layers } = config;
  const tower = root.at('vision_model');
  const given = beforeLastLayer(root, pixels, config);
  const last = encoderLayer(tower.at('encoder.layers').at(layers - 1), given, undefined, config);
  const whole = ops.reshape(tower, ops.slice(tower, last, 1, 0, 1), [-1, width]);
  const normal = ops.layerNorm(tower.at('post_layernorm'), whole, width, config.layer_norm_eps);
  return ops.linear(root.at('visual_projection'), normal, [width, to], false);
}

interface Tokens {
  value: Value;
  count: number;
  width: number;
}

/** One matrix makes all tokens of the picture's embedding. */
function projected(layer: Layer, embeds: Value, from: number): Tokens {
  const [width] = extents(layer, 'norm.weight', 1) as [number];
  const [values, given] = extents(layer, 'proj.weight', 2) as [number, number];
  requireEncoder(given, from);
  if (values % width !== 0)
    throw new ArchitectureError(
      `image_encoder: image_proj.proj gives ${values} values, no tokens of ${width}`,
    );
  const tokens = ops.linear(layer.at('proj'), embeds, [from, values]);
  const parted = ops.reshape(layer, tokens, [0, values / width, width]);
  return { value: ops.layerNorm(layer.at('norm'), parted, width, 1e-5), count: values / width, width };
}

/** Of a head in the adapters' own attention. */
const headWidth = 64;

/** Learnt tokens look at the picture's, and at each other (Perceiver, Jaegle et al. 2021). */
function resampled(layer: Layer, states: Value, from: number): Tokens {
  const [, count, inner] = extents(layer, 'latents', 3) as [number, number, number];
  const [width] = extents(layer, 'norm_out.weight', 1) as [number];
  requireEncoder(extents(layer, 'proj_in.weight', 2)[1] as number, from);
  const norm = (of: Layer, x: Value) => ops.layerNorm(of, x, inner, 1e-5);
  const picture = ops.linear(layer.at('proj_in'), states, [from, inner]);
  const rows = ops.shapeOf(layer, ops.shape(layer, states, 0, 1), count, inner);
  let tokens = layer.op('Expand', [layer.weight('latents', [1, count, inner]), rows]);
  for (let i = 0; layer.has(`layers.${i}.0.to_q.weight`); i += 1) {
    const [look, feed] = [0, 1].map((half) => layer.at('layers').at(i).at(half)) as [Layer, Layer];
    const [total] = extents(look, 'to_q.weight', 2) as [number];
    if (total % headWidth !== 0)
      throw new ArchitectureError(`image_encoder: ${look.path}.to_q gives ${total} values, no heads of 64`);
    const own = norm(look.at('norm2'), tokens);
    const both = ops.concat(look, [norm(look.at('norm1'), picture), own], 1);
    const q = ops.linear(look.at('to_q'), own, [inner, total], false);
    const keysAndValues = ops.linear(look.at('to_kv'), both, [inner, 2 * total], false);
    const [k, v] = ops.split(look, keysAndValues, 2, 2, total) as [Value, Value];
    const seen = ops.attention(look, [q, k, v], { heads: total / headWidth });
    const looked = ops.linear(look.at('to_out'), seen, [total, inner], false);
    tokens = ops.addResidual(look, tokens, looked, inner);
    const [wide] = extents(feed, '1.weight', 2) as [number];
    const hidden = ops.gelu(feed, ops.linear(feed.at(1), norm(feed.at(0), tokens), [inner, wide], false));
    const fed = ops.linear(feed.at(3), hidden, [wide, inner], false);
    tokens = ops.addResidual(feed, tokens, fed, inner);
  }
  const out = ops.linear(layer.at('proj_out'), tokens, [inner, width]);
  return { value: ops.layerNorm(layer.at('norm_out'), out, width, 1e-5), count, width };
}

/** The checkpoint's own sizes, where no configuration says them. */
function extents(layer: Layer, name: string, rank: number): readonly number[] {
  const { shape } = layer.entry(name);
  if (shape.length === rank && shape.every((extent) => extent > 0)) return shape;
  const said = `${layer.full(name)} is [${shape.join(', ')}]`;
  throw new ArchitectureError(`image_encoder: ${said}, which should have ${rank} extents of 1 or more`);
}

function requireEncoder(wanted: number, given: number): void {
  if (wanted === given) return;
  throw new ArchitectureError(
    `image_encoder: the adapter reads ${wanted} values of a picture, ` +
      `this image encoder gives ${given}: it belongs to another one`,
  );
}
