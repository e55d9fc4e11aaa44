import { cp, mkdir, readdir, rename, rm, unlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { loadAll, type TensorBytes, writeSafetensors } from '../../helpers/checkpoints.js';
import { writeOriginalSdxl } from '../../helpers/original-sdxl.js';
import { writeTorchZip } from '../../helpers/torch-zip.js';
import { models } from '../../parity/kit.js';
import { importCheckpoint } from '../../../src/inference/checkpoint/import.js';
import { requiredFiles } from '../../../src/inference/checkpoint/model-layout.js';
import { readSafetensors } from '../../../src/inference/checkpoint/safetensors.js';
import { findModelGraphs } from '../../../src/inference/graphs/model-graphs.js';
import { openSdxlModel } from '../../../src/inference/sdxl/model.js';
import { adapterInput } from '../../../src/inference/sdxl/reference.js';
import { drawTensors, readAdapterKit, writeAdapterModel } from '../../../tools/parity/adapter.js';

const kit = path.join(models, '../kit');
const recorded = await readAdapterKit(kit);
const tiny = path.join(models, 'sdxl-tiny');
const picture = path.join(kit, 'sdxl-tiny/cases/adapter_reference.png');
const onCpu = { device: 'cpu', threads: 1 } as const;

const write = async (folder: string, adapter: 'plain' | 'plus') =>
  writeAdapterModel(folder, tiny, recorded, { adapter, factors: null });

/** Image tokens, and what the UNet makes of nothing but them. */
async function look(t: Test, folder: string) {
  const model = await openSdxlModel(folder, onCpu);
  t.teardown(() => model.release());
  t.ok(model.features.includes('ip_adapter'), 'references enter as image tokens');
  const reference = { path: picture, type: 'character', strength: 1 } as const;
  const { tokens, scales } = await adapterInput(model, reference, model.adapterLayers as never);
  const zeros = (...dims: number[]) => ({ data: new Float32Array(dims.reduce((a, b) => a * b, 1)), dims });
  const { out_sample: out } = await model.unet.run(
    {
      sample: zeros(1, 4, 8, 8),
      timestep: zeros(),
      encoder_hidden_states: zeros(1, 77, 80),
      text_embeds: zeros(1, 48),
      time_ids: zeros(1, 6),
      ip_tokens: tokens,
      ip_scale: { data: scales, dims: [1, scales.length] },
    },
    ['out_sample'],
  );
  t.ok(scales.every((scale) => Math.fround(scale) === Math.fround(0.6)));
  return [...tokens.data, ...out.data];
}

t.test('as a file of torch.save, and beside a single-file checkpoint: bit for bit the same', async (t) => {
  const folder = t.testdir();
  const [plain, single] = [path.join(folder, 'sdxl'), path.join(folder, 'single')];
  await write(plain, 'plain');
  const expected = await look(t, plain);
  // the service has the configurations of the full-size model only
  for (const part of ['unet', 'text_encoder', 'text_encoder_2', 'vae'])
    await cp(path.join(tiny, part, 'config.json'), path.join(single, part, 'config.json'));
  await writeOriginalSdxl(tiny, path.join(single, 'fox_v20.safetensors'), 2, 4);
  const encoder = path.join(plain, 'ip_adapter/models/image_encoder');
  await cp(encoder, path.join(single, 'image_encoder'), { recursive: true });
  await mkdir(path.join(single, 'ip_adapter'));
  const file = path.join(single, 'ip_adapter/ip-adapter_sdxl_vit-h.bin');
  await writeTorchZip(file, drawTensors(recorded.weights.plain), ['image_proj', 'ip_adapter']);
  t.same(await look(t, single), expected);
  t.not(new Set(expected).size, 1);

  const lone = path.join(folder, 'sdxl-fox.safetensors');
  await rename(path.join(single, 'fox_v20.safetensors'), lone);
  await rename(path.join(single, 'ip_adapter'), path.join(folder, 'ip_adapter'));
  await rename(path.join(single, 'image_encoder'), path.join(folder, 'ip_adapter/image_encoder'));
  const adapter = requiredFiles('sdxl', lone).filter((name) => name.includes('ip_adapter'));
  t.same(
    adapter.map((name) => path.relative(path.join(folder, 'ip_adapter'), name)),
    ['ip-adapter_sdxl_vit-h.bin', 'image_encoder/config.json', 'image_encoder/model.safetensors'],
    'beside a file without a folder',
  );
});

const floats = (...shape: number[]): TensorBytes => ({
  dtype: 'F32',
  shape,
  bytes: Buffer.alloc(4 * shape.reduce((product, extent) => product * extent, 1)),
});

t.test('adapters of another model or kind, and damaged ones, are refused in a sentence', async (t) => {
  const folder = path.join(t.testdir(), 'sdxl');
  await write(folder, 'plus');
  const place = path.join(folder, 'ip_adapter/sdxl_models');
  const file = path.join(place, 'ip-adapter-plus.safetensors');
  const [plain, plus] = [drawTensors(recorded.weights.plain), drawTensors(recorded.weights.plus)];
  const graph = (name: string) => findModelGraphs('sdxl', folder).required(name, 'cpu');
  const changed = async (
    from: ReadonlyMap<string, TensorBytes>,
    change: (all: Map<string, TensorBytes>) => unknown,
    name = 'unet/model',
  ) => {
    const copy = new Map(from);
    change(copy);
    await writeSafetensors(file, copy);
    return graph(name);
  };
  const refused = (found: Promise<unknown>, message: RegExp) =>
    t.rejects(found, { code: 'model_invalid', message });
  const sd15 = (all: Map<string, TensorBytes>) => {
    all.clear();
    for (const [name, shape] of Object.entries({ proj: [3072, 1024], norm: [768] }))
      all
        .set(`image_proj.${name}.weight`, floats(...shape))
        .set(`image_proj.${name}.bias`, floats(shape[0] as number));
    for (const kind of ['k', 'v']) all.set(`ip_adapter.1.to_${kind}_ip.weight`, floats(320, 768));
  };
  await refused(
    changed(plain, sd15),
    /plus\.safetensors: is an IP-Adapter for Stable Diffusion 1: its tokens have 768 values, this model's text has 80$/,
  );
  await refused(
    changed(plain, (all) => all.delete('ip_adapter.5.to_v_ip.weight')),
    /lacks ip_adapter\.5\.to_v_ip\.weight: this UNet has 12 layers that look$/,
  );
  await refused(
    changed(plain, (all) => all.set('ip_adapter.25.to_k_ip.weight', floats(64, 80))),
    /has ip_adapter\.25\.to_k_ip\.weight, but this UNet only 12 layers that look$/,
  );
  await refused(
    changed(plain, (all) => all.set('ip_adapter.1.to_k_ip.weight', floats(32, 80))),
    /ip_adapter\.1\.to_k_ip\.weight is \[32, 80\], down_blocks\.1\.attentions\.0\.\S+ of this UNet takes \[64, 80\]$/,
  );
  await refused(
    changed(
      plain,
      (all) => all.delete('image_proj.norm.weight') && all.set('image_proj.proj.0.weight', floats(8, 8)),
    ),
    /of another kind than the plain one and "plus": faces are not read here$/,
  );
  await refused(
    changed(plain, (all) => all.set('lora.up', floats(1))),
    /no part of an IP-Adapter: lora\.up$/,
  );
  await refused(
    changed(
      await loadAll(await readSafetensors(path.join(tiny, 'vae/diffusion_pytorch_model.safetensors'))),
      () => {},
    ),
    /is no IP-Adapter/,
  );
  const encoder = (from: typeof plain, change: Parameters<typeof changed>[1]) =>
    changed(from, change, 'image_encoder/model');
  await refused(
    encoder(plain, (all) => all.set('image_proj.proj.weight', floats(320, 1280))),
    /reads 1280 values of a picture, this image encoder gives 24: it belongs to another one$/,
  );
  await refused(
    encoder(plain, (all) => all.set('image_proj.proj.weight', floats(321, 24))),
    /gives 321 values, no tokens of 80$/,
  );
  await refused(
    encoder(plus, (all) => all.set('image_proj.latents', floats(6, 40))),
    /image_proj\.latents is \[6, 40\], which should have 3 extents/,
  );
  await refused(
    encoder(plus, (all) => all.set('image_proj.layers.1.0.to_q.weight', floats(100, 40))),
    /layers\.1\.0\.to_q gives 100 values, no heads of 64$/,
  );
  await refused(
    encoder(plus, (all) => all.delete('image_proj.layers.2.0.to_kv.weight')),
    /lacks image_proj\.layers\.2\.0\.to_kv\.weight$/,
  );
  await refused(
    encoder(plus, (all) => all.delete('image_proj.layers.2.0.to_q.weight')),
    /tensors that its configuration does not ask for: image_proj\.layers\.2\./,
  );
  await writeFile(file, Buffer.alloc(100));
  await refused(graph('unet/model'), /plus\.safetensors: is no safetensors file/);

  await writeSafetensors(file, plus);
  await writeSafetensors(path.join(place, 'ip-adapter.safetensors'), plain);
  await refused(
    graph('unet/model'),
    /holds 2 adapters \(ip-adapter-plus\.safetensors, ip-adapter\.safetensors\): keep/,
  );
  await unlink(path.join(place, 'ip-adapter.safetensors'));
  await rm(path.join(folder, 'ip_adapter/models'), { recursive: true });
  await t.rejects(openSdxlModel(folder, onCpu), {
    code: 'model_missing',
    message: /lacks ip_adapter\/image_encoder\/config\.json, ip_adapter\/image_encoder\/model\.safetensors/,
  });
  t.same(await readdir(place), ['ip-adapter-plus.safetensors']);
});

t.test('an import puts adapter and image encoder where they belong, or leaves all as it was', async (t) => {
  const modelsDir = path.join(t.testdir(), 'models');
  const model = path.join(modelsDir, 'sdxl-fox');
  await write(model, 'plain');
  // as its publisher has it, with the encoder of other adapters beside
  const home = path.join(t.testdirName, 'IP-Adapter');
  await rename(path.join(model, 'ip_adapter'), home);
  const source = path.join(home, 'sdxl_models/ip-adapter-plain.safetensors');
  const other = path.join(home, 'sdxl_models/image_encoder');
  await cp(path.join(home, 'models/image_encoder'), other, { recursive: true });
  await writeFile(
    path.join(other, 'config.json'),
    JSON.stringify({ ...recorded.vision, projection_dim: 32 }),
  );
  const take = (file: string, more: { name?: string; force?: boolean } = {}) => {
    const [onTotal, onBytes] = [() => {}, () => {}];
    const { signal } = new AbortController();
    return importCheckpoint(file, {
      modelsDir,
      name: 'sdxl-fox',
      force: false,
      signal,
      onTotal,
      onBytes,
      ...more,
    });
  };
  const refused = (found: Promise<unknown>, message: RegExp) =>
    t.rejects(found, { name: 'CheckpointError', message });
  const inside = async () => (await readdir(path.join(model, 'ip_adapter'), { recursive: true })).sort();

  await refused(
    take(source, { name: 'sdxl-wolf' }),
    /is an IP-Adapter, which adds references .* \(--as NAME\)$/,
  );
  const done = await take(source);
  t.match(done, { engine: 'sdxl', isAdapter: true, stillThere: 0, tensors: 24 + 4 + 56 });
  const placed = [
    'image_encoder',
    'image_encoder/config.json',
    'image_encoder/model.safetensors',
    'ip-adapter-plain.safetensors',
  ];
  t.same(await inside(), placed);
  await look(t, model);
  await refused(take(source), /has an adapter already: --force replaces it$/);

  const plus = new Map(drawTensors(recorded.weights.plus));
  const better = path.join(home, 'sdxl_models/ip-adapter-plus.safetensors');
  plus.set('image_proj.proj_out.bias', {
    ...floats(80),
    bytes: Buffer.from(new Float32Array(80).fill(NaN).buffer),
  });
  await writeSafetensors(better, plus);
  await refused(
    take(better, { force: true }),
    /image_proj\.proj_out\.bias has values that are infinite or no number$/,
  );
  t.same(await inside(), placed, 'the one that was there stays');
  await writeSafetensors(better, drawTensors(recorded.weights.plus));
  await take(better, { force: true });
  t.same(await inside(), [...placed.slice(0, 3), 'ip-adapter-plus.safetensors']);

  const alone = path.join(t.testdirName, 'ip-adapter.bin');
  await rm(path.join(model, 'ip_adapter'), { recursive: true });
  await writeTorchZip(alone, drawTensors(recorded.weights.plain), ['image_proj', 'ip_adapter']);
  await refused(take(alone), /needs the image encoder .* into image_encoder beside it$/);
  t.same(await readdir(path.join(modelsDir, '.incoming')), []);
});
