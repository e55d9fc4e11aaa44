import path from 'node:path';
import t, { type Test } from 'tap';
import { models } from '../../parity/kit.js';
import { writeSafetensors } from '../../helpers/checkpoints.js';
import { portable } from '../../helpers/portable.js';
import { randomCheckpoint } from '../../helpers/random-checkpoint.js';
import { drawTensors, readAdapterKit } from '../../../tools/parity/adapter.js';
import { largestDifference } from '../../../tools/parity/measure.js';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { packWeights } from '../../../src/inference/checkpoint/packed-weights.js';
import { readSafetensors } from '../../../src/inference/checkpoint/safetensors.js';
import type { TensorTable } from '../../../src/inference/checkpoint/tensor-table.js';
import { buildDecoder, buildEncoder } from '../../../src/inference/graphs/autoencoder.js';
import { buildClipText } from '../../../src/inference/graphs/clip-text.js';
import { cudaLowering } from '../../../src/inference/graphs/cuda.js';
import type { Graph } from '../../../src/inference/graphs/graph.js';
import type { Form } from '../../../src/inference/graphs/lowering.js';
import { buildImageEncoder } from '../../../src/inference/graphs/image-encoder.js';
import { encodeModel } from '../../../src/inference/graphs/onnx-proto.js';
import { plain } from '../../../src/inference/graphs/plain.js';
import { buildUnet, type UnetConfig } from '../../../src/inference/graphs/unet.js';
import { openSession, type Values } from '../../../src/inference/onnx/session.js';

const cpu: Form = { lowering: plain, type: 'float' };
const fused = (type: Form['type'], skipLayerNorm = false): Form => ({
  // either way of lying
  lowering: cudaLowering({ skipLayerNorm, turnedUpTo: skipLayerNorm ? 40 : 0 }),
  type,
});

const halfAttention: Form = {
  lowering: cudaLowering({ skipLayerNorm: true, halfAttention: true, turnedUpTo: 640 }),
  type: 'float',
};

interface Compared {
  /** Instead of a random checkpoint. */
  given?: Parameters<typeof writeSafetensors>[1];
  build(tensors: TensorTable, form: Form): Graph;
  feeds: Record<string, Values>[];
  outputs: readonly string[];
  more?: string[];
  forms?: Form[];
}

/** The graph for CUDA, its own operators said in standard ones, against the CPU's. */
async function compare(
  t: Test,
  { given, build, feeds, outputs, more = [], forms = [fused('float')] }: Compared,
) {
  const folder = t.testdir();
  const file = path.join(folder, 'model.safetensors');
  if (given !== undefined) await writeSafetensors(file, given);
  const tensors =
    given === undefined
      ? await randomCheckpoint(file, (each) => build(each, cpu), { more })
      : await readSafetensors(file);
  const run = async (form: Form, name: string) => {
    const graph = build(tensors, form);
    const packed = await packWeights(path.join(folder, `${name}.safetensors`), graph.packed);
    const model = encodeModel(portable(graph.model(packed)));
    if (form.lowering !== plain) await requireKnownOperators(graph.encode(packed));
    const session = await openSession({ title: name, model }, { device: 'cpu', threads: 1 });
    const results = [];
    for (const each of feeds) results.push(await session.run(each, outputs));
    await session.release();
    t.same(graph.unused(), [], 'every tensor is used');
    return { results, operators: new Set(graph.model(packed).graph.node.map(({ opType }) => opType)) };
  };
  const expected = await run(cpu, 'cpu');
  const operators = new Set<string>();
  for (const [i, form] of forms.entries()) {
    const actual = await run(form, `fused-${i}`);
    for (const name of actual.operators) operators.add(name);
    for (const [j, result] of actual.results.entries())
      for (const name of outputs) {
        const { data, dims } = expected.results[j]?.[name] ?? { data: new Float32Array(), dims: [] };
        const most = Math.max(1, ...data.map(Math.abs));
        t.same(result[name]?.dims, dims);
        const bound = form.type === 'float' && form !== halfAttention ? 1e-5 : 2e-2;
        const difference = largestDifference(result[name]?.data ?? [], data) / most;
        t.ok(difference < bound, `${name}, ${JSON.stringify(dims)}, form ${i}: ${difference} of ${most}`);
        t.ok(new Set(data).size > 4, `${name} is something`);
      }
  }
  return operators;
}

/** The runtime knows operators, types and shapes of the graph as it is written; only its kernels are elsewhere. */
async function requireKnownOperators(model: Uint8Array) {
  const options = { device: 'cpu', threads: 1 } as const;
  const opened = openSession({ title: 'as written', model }, options).then(async (session) =>
    session.release(),
  );
  await opened.catch((error: unknown) => {
    if (!/(ind kernel|implementation) for \S*(NhwcConv|BiasAdd)\(1\)/.test(String(error))) throw error;
  });
}

const generator = createGenerator(11);
const random = (...dims: number[]): Values => ({
  data: generator.randn(dims.reduce((product, extent) => product * extent, 1)),
  dims,
});

const unet: UnetConfig = {
  in_channels: 4,
  out_channels: 4,
  block_out_channels: [16, 32, 64],
  down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D', 'CrossAttnDownBlock2D'],
  up_block_types: ['CrossAttnUpBlock2D', 'CrossAttnUpBlock2D', 'UpBlock2D'],
  layers_per_block: 1,
  transformer_layers_per_block: [1, 1, 2],
  attention_head_dim: [2, 2, 4],
  cross_attention_dim: 24,
  norm_num_groups: 8,
  use_linear_projection: true,
  addition_time_embed_dim: 8,
  projection_class_embeddings_input_dim: 64,
};

const unetFeeds = (batch: number, height: number, width: number, words: number) => ({
  sample: random(batch, 4, height, width),
  timestep: { data: [407], dims: [] },
  encoder_hidden_states: random(batch, words, 24),
  text_embeds: random(batch, 16),
  time_ids: { data: Array<number>(6 * batch).fill(96), dims: [batch, 6] },
});

const all = [fused('float'), fused('float', true), fused('float16'), fused('float16', true)];

t.test("the UNet for CUDA means what the CPU's does", async (t) => {
  const operators = await compare(t, {
    build: (tensors, form) => buildUnet(tensors, unet, form),
    feeds: [unetFeeds(2, 8, 8, 77), unetFeeds(1, 12, 4, 154), unetFeeds(2, 4, 16, 9)],
    outputs: ['out_sample'],
    forms: all,
  });
  for (const name of ['NhwcConv', 'GroupNorm', 'SkipGroupNorm', 'BiasAdd', 'SkipLayerNormalization', 'Split'])
    t.ok(operators.has(name), name);
});

t.test('a GEGLU of a width that BiasSplitGelu knows, and projections that are convolutions', async (t) => {
  const config = {
    ...unet,
    block_out_channels: [16, 320],
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D', 'UpBlock2D'],
    layers_per_block: 1,
    transformer_layers_per_block: 1,
    attention_head_dim: [2, 5],
    use_linear_projection: false,
  };
  const operators = await compare(t, {
    build: (tensors, form) => buildUnet(tensors, config, form),
    feeds: [unetFeeds(2, 4, 6, 20)],
    outputs: ['out_sample'],
    forms: all,
  });
  t.ok(operators.has('BiasSplitGelu'));
});

t.test('image tokens of an adapter', async (t) => {
  const config = {
    ...unet,
    block_out_channels: [16, 32],
    down_block_types: ['DownBlock2D', 'CrossAttnDownBlock2D'],
    up_block_types: ['CrossAttnUpBlock2D', 'UpBlock2D'],
    transformer_layers_per_block: [1, 1],
    attention_head_dim: [2, 4],
  };
  const layers = [
    'down_blocks.1.attentions.0',
    'mid_block.attentions.0',
    'up_blocks.0.attentions.0',
    'up_blocks.0.attentions.1',
  ].map((path) => `${path}.transformer_blocks.0.attn2.processor`);
  const image = (batch: number, tokens: number) => ({
    ip_tokens: random(batch, tokens, 24),
    ip_scale: {
      data: Float32Array.from({ length: batch * layers.length }, (_, i) => (i % 3) / 2),
      dims: [batch, layers.length],
    },
  });
  await compare(t, {
    build: (tensors, form) => buildUnet(tensors, config, form),
    more: layers.flatMap((layer) => [`${layer}.to_k_ip.weight`, `${layer}.to_v_ip.weight`]),
    feeds: [
      { ...unetFeeds(2, 8, 8, 77), ...image(2, 4) },
      { ...unetFeeds(1, 4, 8, 77), ...image(1, 16) },
    ],
    outputs: ['out_sample'],
    forms: all,
  });
});

t.test("an adapter's image encoder, of both kinds", async (t) => {
  const { vision, weights } = await readAdapterKit(path.join(models, '../kit'));
  for (const kind of ['plain', 'plus'] as const) {
    const projection = weights[kind].filter(({ name }) => name.startsWith('image_proj.'));
    // "plus" looks at what the last layer is given
    const read = weights.image_encoder.filter(
      ({ name }) => kind === 'plain' || !/layers\.2\.|post_layernorm|visual_projection/.test(name),
    );
    await t.test(kind, (t) =>
      compare(t, {
        given: drawTensors([...read, ...projection]),
        build: (tensors, form) => buildImageEncoder(tensors, vision, form),
        feeds: [{ sample: random(1, 3, 32, 32) }],
        outputs: ['ip_tokens', 'empty_ip_tokens'],
        forms: [fused('float'), fused('float16', true)],
      }),
    );
  }
});

t.test('the VAE both ways', async (t) => {
  const config = {
    block_out_channels: [16, 32, 32],
    layers_per_block: 1,
    latent_channels: 4,
    norm_num_groups: 8,
  };
  await t.test('decoder', async (t) => {
    const operators = await compare(t, {
      build: (tensors, form) => buildDecoder(tensors, config, form),
      feeds: [{ latent_sample: random(1, 4, 8, 8) }, { latent_sample: random(2, 4, 3, 5) }],
      outputs: ['sample'],
      forms: [fused('float'), fused('float16'), halfAttention],
    });
    t.ok(operators.has('Expand'), "a bias goes into the norm as everybody's shift");
  });
  await t.test('encoder', (t) =>
    compare(t, {
      build: (tensors, form) => buildEncoder(tensors, config, form),
      feeds: [{ sample: random(1, 3, 32, 32) }, { sample: random(2, 3, 16, 24) }],
      outputs: ['latent_parameters'],
      forms: [fused('float'), fused('float16')],
    }),
  );
});

t.test('text encoders, with masks and other lengths', async (t) => {
  const config = {
    vocab_size: 50,
    hidden_size: 32,
    intermediate_size: 64,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    max_position_embeddings: 77,
    projection_dim: 24,
    hidden_act: 'gelu',
    eos_token_id: 49,
  };
  const words = (batch: number, length: number) => {
    const dims = [batch, length];
    const ids = Array.from({ length: batch * length }, (_, i) => ((i * 7) % 48) + 1);
    for (let row = 0; row < batch; row += 1) ids[(row + 1) * length - 1 - row] = 49;
    const mask = ids.map((_, i) => (i % 5 === 3 ? 0 : 1));
    return { input_ids: { data: ids, dims }, attention_mask: { data: mask, dims } };
  };
  await compare(t, {
    build: (tensors, form) => buildClipText(tensors, config, form),
    more: ['text_projection.weight'],
    feeds: [words(2, 77), words(1, 12)],
    outputs: ['text_embeds', 'hidden_states.1', 'last_hidden_state'],
    forms: all,
  });
});
