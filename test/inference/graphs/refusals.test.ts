import { readFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { models } from '../../parity/kit.js';
import { readPart } from '../../../src/inference/checkpoint/parts.js';
import type { TensorEntry } from '../../../src/inference/checkpoint/tensor-table.js';
import { findModelGraphs } from '../../../src/inference/graphs/model-graphs.js';
import { buildUnet, type UnetConfig } from '../../../src/inference/graphs/unet.js';
import { plain } from '../../../src/inference/graphs/plain.js';
import { openSession } from '../../../src/inference/onnx/session.js';

const folder = path.join(models, 'sdxl-tiny/unet');
const weights = path.join(folder, 'diffusion_pytorch_model.safetensors');

const cpu = { lowering: plain, type: 'float' } as const;

t.test(
  'what a checkpoint lacks or has in another shape, and settings that are not known, are named',
  async (t) => {
    const table = await readPart(weights);
    const config = JSON.parse(await readFile(path.join(folder, 'config.json'), 'utf8')) as UnetConfig;
    const changed = (name: string, entry: TensorEntry | null) => {
      const copy = new Map(table);
      if (entry === null) copy.delete(name);
      else copy.set(name, entry);
      return copy;
    };
    const name = 'mid_block.attentions.0.transformer_blocks.1.attn2.to_k.weight';
    const entry = table.get(name) as TensorEntry;
    t.throws(() => buildUnet(changed(name, null), config, cpu), { message: new RegExp(`lacks ${name}`) });
    t.throws(() => buildUnet(changed(name, { ...entry, shape: [80, 64] }), config, cpu), {
      message: new RegExp(`${name} is \\[80, 64\\], the configuration asks for \\[64, 80\\]`),
    });
    t.throws(() => buildUnet(changed(name, { ...entry, dtype: 'I32' }), config, cpu), {
      message: new RegExp(`${name} is of type I32`),
    });
    t.same(buildUnet(changed('lora.up.weight', entry), config, cpu).unused(), ['lora.up.weight']);
    t.throws(() => buildUnet(table, { ...config, up_block_types: ['AttnUpBlock2D', 'UpBlock2D'] }, cpu), {
      message: /AttnUpBlock2D/,
    });
    t.throws(
      () => buildUnet(table, { ...config, resnet_time_scale_shift: 'scale_shift' } as UnetConfig, cpu),
      { message: /resnet_time_scale_shift "scale_shift"/ },
    );
  },
);

t.test('a node that fails says which layer it is', async (t) => {
  const graph = await findModelGraphs('sdxl', path.join(models, 'sdxl-tiny')).required('unet/model', 'cpu');
  const session = await openSession(graph, { device: 'cpu', threads: 1 });
  t.teardown(() => session.release());
  const floats = (...dims: number[]) => ({ data: new Float32Array(dims.reduce((a, b) => a * b, 1)), dims });
  const feeds = { text_embeds: floats(1, 48), time_ids: floats(1, 6), timestep: floats() };
  await t.rejects(
    session.run(
      // an odd half cannot be doubled to what it came from
      { ...feeds, sample: floats(1, 4, 7, 8), encoder_hidden_states: floats(1, 77, 80) },
      ['out_sample'],
    ),
    { message: /up_blocks\.1\.resnets\.0\/Concat/ },
  );
});
