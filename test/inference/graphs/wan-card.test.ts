import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { models } from '../../parity/kit.js';
import { openForm } from '../../helpers/portable.js';
import { randomCheckpoint } from '../../helpers/random-checkpoint.js';
import type { TensorTable } from '../../../src/inference/checkpoint/tensor-table.js';
import {
  buildWanTransformer,
  type WanTransformerConfig,
} from '../../../src/inference/graphs/wan-transformer.js';
import { openWanModel, type WanModel } from '../../../src/inference/wan/model.js';
import { createCausalStream, decodeClip, encodeClip } from '../../../src/inference/wan/vae.js';
import { loadAll, writeSafetensors } from '../../helpers/checkpoints.js';
import { readPart } from '../../../src/inference/checkpoint/parts.js';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { architectures, trialForms } from '../../../src/inference/graphs/architectures.js';
import type { Graph } from '../../../src/inference/graphs/graph.js';
import type { Form } from '../../../src/inference/graphs/lowering.js';
import { openSession, type OnnxSession, type Values } from '../../../src/inference/onnx/session.js';
import { largestDifference } from '../../../tools/parity/measure.js';

const scratch = t.testdir();

/** The card's form in float32, where only the order of sums differs; and as it is computed there. */
const wide = {
  lowering: architectures.wan['transformer/model']?.forms.cuda?.lowering,
  type: 'float',
} as Form;
const halfForm = { ...wide, type: 'float16' } as const;

async function build(folder: string, name: string, form: Form): Promise<Graph> {
  const builder = architectures.wan[name];
  if (builder === undefined) throw new Error(name);
  const weights = path.join(
    folder,
    builder.part,
    builder.part === 'text_encoder' ? 'model' : 'diffusion_pytorch_model',
  );
  const config = JSON.parse(await readFile(path.join(folder, builder.part, 'config.json'), 'utf8')) as never;
  return builder.build(await readPart(`${weights}.safetensors`), config, form);
}

async function run(graph: Graph, feeds: Record<string, Values>, output: string): Promise<Float32Array> {
  const session = await openForm(graph, scratch);
  const { data } = (await session.run(feeds, [output]))[output] as { data: Float32Array };
  await session.release();
  return data;
}

const random = createGenerator(11);
const floats = (...dims: number[]) => ({ data: random.randn(dims.reduce((a, b) => a * b, 1)), dims });
const relative = (actual: Float32Array, expected: Float32Array) =>
  largestDifference(actual, expected) / Math.max(...expected.map(Math.abs));

for (const [name, sizes] of [
  [
    'wan-tiny',
    [
      [2, 4, 6],
      [1, 8, 4],
    ],
  ],
  ['wan-tiny-vace', [[3, 4, 4]]],
] as const) {
  t.test(`${name}: the card's transformer computes what the CPU's does`, async (t) => {
    const folder = path.join(models, name);
    const config = JSON.parse(await readFile(path.join(folder, 'transformer/config.json'), 'utf8')) as {
      in_channels: number;
      text_dim: number;
      vace_layers?: number[];
    };
    for (const [i, [frames, height, width]] of sizes.entries()) {
      const rows = 2 - i;
      const words = 5 + 3 * i;
      const given = { encoder_hidden_states: floats(rows, words, config.text_dim) };
      const shape = [rows, config.in_channels, frames, height, width];
      const text = async (form: Form) => {
        const data = await run(await build(folder, 'transformer/text', form), given, 'text_states');
        return { data, dims: [rows, words, data.length / rows / words] };
      };
      const feeds = {
        hidden_states: floats(...shape),
        timestep: { data: Array<number>(rows).fill(700 - i), dims: [rows] },
        text_states: await text(trialForms.cpu),
        ...(config.vace_layers === undefined
          ? {}
          : {
              control_hidden_states: floats(rows, 96, frames, height, width),
              control_hidden_states_scale: floats(config.vace_layers.length),
            }),
      };
      t.ok(relative((await text(wide)).data, feeds.text_states.data) < 1e-5, 'text');
      const result = async (form: Form) =>
        run(await build(folder, 'transformer/model', form), feeds, 'sample');
      const expected = await result(trialForms.cpu);
      t.ok(new Set(expected).size > 100);
      const differs = relative(await result(wide), expected);
      t.ok(differs < 1e-5, `float32, ${shape.join('×')}: ${differs}`);
      const rounded = relative(await result(halfForm), expected);
      t.ok(rounded < 1e-2 && rounded > 1e-5, `fp16, ${shape.join('×')}: ${rounded}`);
    }
  });
}

t.test("the card's text encoder computes what the CPU's does", async (t) => {
  const folder = path.join(models, 'wan-tiny');
  for (const [rows, words] of [
    [2, 7],
    [1, 64],
  ] as const) {
    const dims = [rows, words];
    const ids = Array.from({ length: rows * words }, (_, i) => (i * 37) % 300);
    const mask = ids.map((_, i) => (i % words < words - 2 || i < words ? 1 : 0));
    const feeds = { input_ids: { data: ids, dims }, attention_mask: { data: mask, dims } };
    const result = async (form: Form) =>
      run(await build(folder, 'text_encoder/model', form), feeds, 'last_hidden_state');
    const expected = await result(trialForms.cpu);
    const differs = relative(await result(wide), expected);
    t.ok(differs < 1e-5, `float32: ${differs}`);
    const rounded = relative(await result(halfForm), expected);
    t.ok(rounded < 1e-2 && rounded > 1e-5, `fp16: ${rounded}`);
  }
});

const folder = path.join(models, 'wan-tiny');

async function streamOf(t: Test, half: 'decoder' | 'encoder') {
  const [init, step] = await Promise.all(
    ['init', 'step'].map(async (part) => {
      const graph = await build(folder, `vae_${half}/${part}`, trialForms.cpu);
      const session = await openSession(
        { title: graph.title, model: graph.encode() },
        { device: 'cpu', threads: 1 },
      );
      t.teardown(() => session.release());
      return session;
    }),
  );
  const names = half === 'decoder' ? ['latent_frame', 'video_frames'] : ['video_frames', 'latent_mean'];
  return createCausalStream(
    { init: init as OnnxSession, step: step as OnnxSession },
    names[0] as string,
    names[1] as string,
  );
}

/** Chunks of frames through init and step. */
async function streamed(t: Test, half: 'decoder' | 'encoder', frames: Values, chunks: readonly number[]) {
  const stream = await streamOf(t, half);
  const size = frames.dims.slice(1).reduce((a, b) => a * b, 1);
  const made: Float32Array[] = [];
  let at = 0;
  for (const count of chunks) {
    const data = (frames.data as Float32Array).slice(at * size, (at + count) * size);
    made.push((await stream.next({ data, dims: [count, ...frames.dims.slice(1)] })).data);
    at += count;
  }
  stream.release();
  return Float32Array.from(made.flatMap((each) => [...each]));
}

for (const [half, frames] of [
  ['decoder', floats(6, 16, 6, 4)],
  ['encoder', floats(17, 3, 32, 16)],
] as const)
  t.test(`the VAE's ${half} gives the same whatever it is handed at a time`, async (t) => {
    const isDecoder = half === 'decoder';
    const ones = isDecoder ? [1, 1, 1, 1, 1, 1] : [1, 4, 4, 4, 4];
    const expected = await streamed(t, half, frames, ones);
    for (const chunks of isDecoder
      ? [
          [1, 2, 3],
          [1, 5],
        ]
      : [
          [1, 8, 8],
          [1, 12, 4],
        ])
      t.ok(largestDifference(await streamed(t, half, frames, chunks), expected) < 1e-6, chunks.join());

    const outputs = isDecoder ? ['first_frame', 'video_frames'] : ['first_mean', 'latent_means'];
    for (const [form, most] of [
      [wide, 1e-5],
      [halfForm, 2e-2],
    ] as const) {
      const session = await openForm(await build(folder, `vae_${half}/clip`, form), scratch);
      const input = isDecoder ? 'latent_frames' : 'video_frames';
      const out = await session.run({ [input]: frames }, outputs);
      const whole = Float32Array.from(outputs.flatMap((name) => [...(out[name]?.data ?? [])]));
      const differs = relative(whole, expected);
      t.ok(whole.length === expected.length && differs < most, `a whole clip, ${form.type}: ${differs}`);

      const size = frames.dims.slice(1).reduce((a, b) => a * b, 1);
      const still = { data: frames.data.slice(0, size), dims: [1, ...frames.dims.slice(1)] };
      const first = (await session.run({ [input]: still }, outputs))[outputs[0] as string]?.data;
      t.ok(relative(first as Float32Array, expected.slice(0, first?.length)) < most, 'a clip of one frame');
      await session.release();
    }
  });

t.test('text states beyond what fp16 holds stay finite and right', async (t) => {
  const builder = architectures.wan['text_encoder/model'];
  const config = JSON.parse(await readFile(path.join(folder, 'text_encoder/config.json'), 'utf8')) as never;
  const table = await loadAll(await readPart(path.join(folder, 'text_encoder/model.safetensors')));
  // as trained T5 models are: the first layer's feed-forward part is far larger than the rest
  const factors: Record<string, number> = { wi_0: 10, wi_1: 4000 };
  for (const [name, factor] of Object.entries(factors)) {
    const entry = table.get(`encoder.block.0.layer.1.DenseReluDense.${name}.weight`);
    const values = new Float32Array(Uint8Array.from(entry?.bytes ?? []).buffer).map(
      (value) => value * factor,
    );
    entry?.bytes.set(new Uint8Array(values.buffer));
  }
  const file = path.join(scratch, 'large.safetensors');
  await writeSafetensors(file, table);
  const dims = [1, 64];
  const ids = Array.from({ length: 64 }, (_, i) => (i * 37) % 300);
  const feeds = {
    input_ids: { data: ids, dims },
    attention_mask: { data: ids.map((_, i) => (i < 40 ? 1 : 0)), dims },
  };
  const tensors = await readPart(file);
  const result = async (form: Form) =>
    run(builder?.build(tensors, config, form) as Graph, feeds, 'last_hidden_state');
  const expected = await result(trialForms.cpu);
  const differs = relative(await result(halfForm), expected);
  t.ok(differs < 1e-2, `${differs}`);
});

t.test('a clip that is decoded and encoded whole is what chunks of it are', async (t) => {
  const model = await openWanModel(folder, { device: 'cpu', threads: 1 });
  t.teardown(() => model.release());
  const whole = async (half: string) => {
    const session = await openForm(await build(folder, `vae_${half}/clip`, wide), scratch);
    t.teardown(() => session.release());
    return { clip: session };
  };
  const onCard = { ...model, vaeDecoder: await whole('decoder'), vaeEncoder: await whole('encoder') };
  for (const frames of [1, 3]) {
    const shape = { channels: model.channels, frames, height: 4, width: 6 };
    const latents = random.randn(model.channels * frames * 24);
    const decoded = async (each: WanModel) => {
      const chunks: Float32Array[] = [];
      await decodeClip(each, latents, shape, async (chunk) => {
        chunks.push(chunk.slice());
      });
      return chunks;
    };
    const [expected, actual] = [await decoded(model), await decoded(onCard)];
    t.same(
      actual.map(({ length }) => length),
      expected.map(({ length }) => length),
    );
    for (const [i, chunk] of expected.entries())
      t.ok(largestDifference(actual[i] as Float32Array, chunk) < 1e-5, `chunk ${i} of ${frames}`);
    const pictures = expected.flatMap((chunk) =>
      Array.from({ length: chunk.length / 4608 }, (_, i) => chunk.subarray(i * 4608, (i + 1) * 4608)),
    );
    const encoded = (each: WanModel) =>
      encodeClip(each, pictures.length, { width: 48, height: 32 }, (i) => pictures[i] as Float32Array);
    t.ok(relative(await encoded(onCard), await encoded(model)) < 1e-5, `encoding of ${frames}`);
  }
});

/** Wide enough that its matrices are not cast at every opening. */
const large: WanTransformerConfig = {
  patch_size: [1, 2, 2],
  num_attention_heads: 3,
  attention_head_dim: 96,
  in_channels: 16,
  out_channels: 16,
  text_dim: 32,
  freq_dim: 32,
  ffn_dim: 320,
  num_layers: 2,
  cross_attn_norm: true,
};

for (const dtype of ['F32', 'BF16', 'F16'] as const)
  t.test(`${dtype} weights in several files: only what is stored otherwise is written again`, async (t) => {
    const at = path.join(scratch, dtype);
    await mkdir(at);
    const make = (tensors: TensorTable) => buildWanTransformer(tensors, large, trialForms.cpu);
    const whole = await randomCheckpoint(path.join(at, 'whole.safetensors'), make, { dtype });
    const stored = [...(await loadAll(whole))];
    const weightMap: Record<string, string> = {};
    for (const shard of [0, 1, 2]) {
      const file = `diffusion_pytorch_model-0000${shard + 1}-of-00003.safetensors`;
      const part = stored.filter((_, i) => i % 3 === shard);
      await writeSafetensors(path.join(at, file), new Map(part));
      for (const [name] of part) weightMap[name] = file;
    }
    await rm(path.join(at, 'whole.safetensors'));
    const index = path.join(at, 'diffusion_pytorch_model.safetensors.index.json');
    await writeFile(index, JSON.stringify({ metadata: {}, weight_map: weightMap }));
    const tensors = await readPart(index);
    const feeds = {
      hidden_states: floats(1, 16, 2, 4, 4),
      timestep: { data: [321], dims: [1] },
      text_states: floats(1, 6, 288),
    };
    const expected = await run(make(tensors), feeds, 'sample');
    const graph = buildWanTransformer(tensors, large, halfForm);
    const differs = relative(await run(graph, feeds, 'sample'), expected);
    t.ok(differs < 1e-2, `${differs}`);
    const packed = graph.packed.map(({ name }) => name);
    if (dtype === 'F16') t.same(packed, [], 'used where it lies');
    else t.equal(packed.length, 2 * 10, "the blocks' matrices");
    t.ok(graph.packed.every((each) => each.dtype === 'F16'));
  });

t.test('no operator on WebGPU has more outputs than a shader has buffers', async (t) => {
  for (const name of ['transformer/model', 'text_encoder/model', 'vae_decoder/step', 'vae_encoder/step']) {
    const graph = await build(folder, name, trialForms.webgpu);
    for (const { name: node, output } of graph.model().graph.node)
      t.ok(output.length <= 6, `${node}: ${output.length} outputs`);
  }
});
