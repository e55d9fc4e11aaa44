import { readFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { models } from '../../parity/kit.js';
import { writeOriginalWan } from '../../helpers/original-wan.js';
import { loadAll, type TensorBytes } from '../../helpers/checkpoints.js';
import { writeTorchZip } from '../../helpers/torch-zip.js';
import { readSafetensors } from '../../../src/inference/checkpoint/safetensors.js';
import { readTorchZip } from '../../../src/inference/checkpoint/torch-zip.js';
import { buildUmt5, type Umt5Config } from '../../../src/inference/graphs/umt5.js';
import { plain } from '../../../src/inference/graphs/plain.js';
import { openSession } from '../../../src/inference/onnx/session.js';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { openWanModel, type WanModel } from '../../../src/inference/wan/model.js';
import { encodePrompt, textInputs } from '../../../src/inference/wan/text.js';
import { decodeClip, encodeClip } from '../../../src/inference/wan/vae.js';
import { largestDifference } from '../../../tools/parity/measure.js';

const cpu = { lowering: plain, type: 'float' } as const;

/** Every graph once, each fed with what the one before gave. */
async function compute(model: WanModel): Promise<Float32Array[]> {
  const { embeds: text } = await encodePrompt(model, 'a red fox in the snow');
  const shape = { channels: model.channels, frames: 2, height: 8, width: 8 };
  const noise = createGenerator(3).randn(shape.channels * 2 * 64);
  const dims = [1, shape.channels, 2, 8, 8];
  const feeds = {
    hidden_states: { data: noise, dims },
    timestep: { data: [500], dims: [1] },
    ...(await textInputs(model, { data: text, dims: [1, text.length / model.textWidth, model.textWidth] })),
  };
  const { sample } = await model.transformer.run(feeds, ['sample']);
  const frames: Float32Array[] = [];
  await decodeClip(model, sample.data, shape, async (chunk) => {
    frames.push(
      ...Array.from({ length: chunk.length / 12_288 }, (_, i) => chunk.slice(i * 12_288, (i + 1) * 12_288)),
    );
  });
  const encoded = await encodeClip(
    model,
    frames.length,
    { width: 64, height: 64 },
    (i) => frames[i] as Float32Array,
  );
  return [text, sample.data, ...frames, encoded];
}

t.test(
  "Wan's own folder computes what the diffusers folder it was made from does, bit for bit",
  async (t) => {
    const folder = path.join(models, 'wan-tiny');
    const original = path.join(t.testdir(), 'Wan2.1-T2V-1.3B');
    await writeOriginalWan(folder, original);
    const opened: WanModel[] = [];
    for (const each of [folder, original])
      opened.push(await openWanModel(each, { device: 'cpu', threads: 1 }));
    t.teardown(() => Promise.all(opened.map((model) => model.release())));
    const [expected, actual] = [await compute(opened[0] as WanModel), await compute(opened[1] as WanModel)];
    t.equal(actual.length, 8);
    for (const [i, values] of expected.entries()) {
      t.equal(largestDifference(actual[i] ?? [], values), 0, `result ${i}`);
      t.ok(new Set(values).size > 10, `result ${i} is something`);
    }
  },
);

t.test('weights stored as bfloat16 compute exactly as the same values in float32', async (t) => {
  const source = path.join(models, 'wan-tiny');
  const table = await loadAll(await readSafetensors(path.join(source, 'text_encoder/model.safetensors')));
  const stored = { BF16: new Map<string, TensorBytes>(), F32: new Map<string, TensorBytes>() };
  for (const [name, { shape, bytes }] of table) {
    const upper = Buffer.from(bytes.filter((_, i) => i % 4 >= 2));
    stored.BF16.set(name, { dtype: 'BF16', shape, bytes: upper });
    stored.F32.set(name, {
      dtype: 'F32',
      shape,
      bytes: Buffer.from(bytes.map((byte, i) => (i % 4 >= 2 ? byte : 0))),
    });
  }
  const config = JSON.parse(
    await readFile(path.join(source, 'text_encoder/config.json'), 'utf8'),
  ) as Umt5Config;
  const results: Float32Array[] = [];
  for (const [dtype, tensors] of Object.entries(stored)) {
    const file = path.join(t.testdir(), `${dtype}.pth`);
    await writeTorchZip(file, tensors);
    const graph = buildUmt5(await readTorchZip(file), config, cpu);
    const session = await openSession({ title: dtype, model: graph.encode() }, { device: 'cpu', threads: 1 });
    const dims = [2, 5];
    const feeds = {
      input_ids: { data: [5, 9, 1, 0, 0, 700, 3, 44, 8, 1], dims },
      attention_mask: { data: [1, 1, 1, 0, 0, 1, 1, 1, 1, 1], dims },
    };
    results.push((await session.run(feeds, ['last_hidden_state'])).last_hidden_state.data);
    await session.release();
  }
  t.equal(largestDifference(results[0] as Float32Array, results[1] as Float32Array), 0);
  t.ok(new Set(results[0]).size > 100);
});
