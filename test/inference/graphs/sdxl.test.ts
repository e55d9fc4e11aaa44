import { readFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { kitFolder, requireKit } from '../../parity/kit.js';
import { buildClipText, type ClipTextConfig } from '../../../src/inference/graphs/clip-text.js';
import {
  buildDecoder,
  buildEncoder,
  type AutoencoderConfig,
} from '../../../src/inference/graphs/autoencoder.js';
import { buildUnet, type UnetConfig } from '../../../src/inference/graphs/unet.js';
import type { Graph } from '../../../src/inference/graphs/graph.js';
import { openSession } from '../../../src/inference/onnx/session.js';
import { readSafetensors as readTable } from '../../../src/inference/checkpoint/safetensors.js';
import { largestDifference } from '../../../tools/parity/measure.js';
import { readSafetensors } from '../../../tools/parity/safetensors.js';

const model = path.join(kitFolder, 'sdxl-tiny');
const config = async <T>(part: string) =>
  JSON.parse(await readFile(path.join(model, part, 'config.json'), 'utf8')) as T;
const open = (graph: Graph) =>
  openSession({ title: graph.title, model: graph.encode() }, { device: 'cpu', threads: 1 });

async function recorded(name: string) {
  const tensors = await readSafetensors(path.join(model, 'components', `${name}.safetensors`));
  return (key: string) => {
    const { data, dims } = tensors.get(key) as { data: ArrayLike<number | bigint>; dims: number[] };
    return { data: Float32Array.from(data as ArrayLike<number>, Number), dims };
  };
}

t.test('text encoders give what transformers gives', async (t) => {
  if (!requireKit(t, 'sdxl-tiny')) return;
  const reference = await recorded('text_encoders');
  for (const [part, end] of [
    ['text_encoder', ''],
    ['text_encoder_2', '_2'],
  ] as const) {
    const graph = buildClipText(
      await readTable(path.join(model, part, 'model.safetensors')),
      await config<ClipTextConfig>(part),
      'cpu',
      part,
    );
    t.same(graph.unused(), [], `${part}: every tensor is used`);
    const session = await open(graph);
    t.teardown(() => session.release());
    const ids = reference(`input_ids${end}`);
    const pooled = end === '' ? 'pooler_output' : 'text_embeds';
    const names = ['hidden_states.0', 'hidden_states.4', 'last_hidden_state', pooled];
    const results = await session.run(
      { input_ids: ids, attention_mask: { data: new Float32Array(ids.data.length).fill(1), dims: ids.dims } },
      names,
    );
    for (const [name, key] of [
      ['hidden_states.0', 'embeddings'],
      ['hidden_states.4', 'penultimate'],
      ['last_hidden_state', 'last_hidden_state'],
      [pooled, 'pooled'],
    ] as const) {
      const difference = largestDifference(results[name]?.data ?? [], reference(`${key}${end}`).data, true);
      t.ok(difference <= 1e-5, `${part} ${name}: ${difference}`);
    }
  }
});

t.test('the VAE encodes and decodes as diffusers does', async (t) => {
  if (!requireKit(t, 'sdxl-tiny')) return;
  const reference = await recorded('vae');
  const table = await readTable(path.join(model, 'vae/diffusion_pytorch_model.safetensors'));
  const settings = await config<AutoencoderConfig>('vae');
  const [encoder, decoder] = [buildEncoder(table, settings, 'cpu'), buildDecoder(table, settings, 'cpu')];
  const unread = new Set(decoder.unused());
  t.same(
    encoder.unused().filter((name) => unread.has(name)),
    [],
    'every tensor is used',
  );
  const [encode, decode] = [await open(encoder), await open(decoder)];
  t.teardown(() => Promise.all([encode.release(), decode.release()]));
  for (let k = 0; k < 3; k += 1) {
    const { latent_parameters: moments } = await encode.run({ sample: reference(`${k}/image`) }, [
      'latent_parameters',
    ]);
    const both = [...reference(`${k}/mean`).data, ...reference(`${k}/logvar`).data];
    const encoded = largestDifference(moments.data, both, true);
    t.ok(encoded <= 1e-4, `moments ${k}: ${encoded}`);
    const { sample } = await decode.run({ latent_sample: reference(`${k}/z`) }, ['sample']);
    const decoded = largestDifference(sample.data, reference(`${k}/decoded`).data, true);
    t.ok(decoded <= 1e-5, `picture ${k}: ${decoded}`);
  }
});

t.test('the UNet predicts what diffusers predicts', async (t) => {
  if (!requireKit(t, 'sdxl-tiny')) return;
  const reference = await recorded('unet');
  const table = await readTable(path.join(model, 'unet/diffusion_pytorch_model.safetensors'));
  const graph = buildUnet(table, await config<UnetConfig>('unet'), 'cpu');
  t.same(graph.unused(), [], 'every tensor is used');
  const session = await open(graph);
  t.teardown(() => session.release());
  for (let k = 0; k < 3; k += 1) {
    const names = ['sample', 'encoder_hidden_states', 'text_embeds', 'time_ids'];
    const feeds = Object.fromEntries(names.map((name) => [name, reference(`${k}/${name}`)]));
    const timestep = { data: reference(`${k}/timestep`).data, dims: [] };
    const { out_sample: out } = await session.run({ ...feeds, timestep }, ['out_sample']);
    const difference = largestDifference(out.data, reference(`${k}/out`).data, true);
    t.ok(difference <= 1e-5, `pass ${k}: ${difference}`);
  }
});
