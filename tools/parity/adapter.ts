import { copyFile, mkdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { near } from './measure.js';
import { type MeasuredCase, readCases } from './parts.js';
import { openRecords } from './safetensors.js';
import { measureSdxlCase, type SdxlCase } from './sdxl.js';
import { type TensorBytes, writeSafetensors } from '../../test/helpers/checkpoints.js';
import { createGenerator } from '../../src/inference/diffusion/random.js';
import type { Device } from '../../src/inference/engine-protocol.js';
import type { ReferenceType } from '../../src/inference/generation.js';
import { openSdxlModel } from '../../src/inference/sdxl/model.js';
import { adapterInput } from '../../src/inference/sdxl/reference.js';

/** A tensor that torch's generator draws: `randn(shape, seed) · scale + offset`. */
interface DrawnTensor {
  name: string;
  shape: number[];
  seed: number;
  scale: number;
  offset: number;
}

/** One recorded run with an adapter, as `adapters.json` of the kit states it. */
interface AdapterCase extends SdxlCase {
  adapter: 'plain' | 'plus';
  reference: string;
  reference_type: ReferenceType;
  reference_strength: number;
  /** Of each layer; null: the service's own. */
  factors: Record<string, number> | null;
}

interface AdapterKit {
  vision: object;
  cases: AdapterCase[];
  weights: Record<'image_encoder' | 'plain' | 'plus', DrawnTensor[]>;
}

export const readAdapterKit = (kit: string) => readCases<AdapterKit>(kit, 'sdxl-tiny/adapters.json');

/** Tensors by name, as float32. */
export function drawTensors(recipes: readonly DrawnTensor[]): Map<string, TensorBytes> {
  return new Map(
    recipes.map(({ name, shape, seed, scale, offset }): [string, TensorBytes] => {
      const count = shape.reduce((product, extent) => product * extent, 1);
      const values = createGenerator(seed)
        .randn(count)
        .map((value) => Math.fround(Math.fround(value * scale) + offset));
      const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
      return [name, { dtype: 'F32', shape, bytes }];
    }),
  );
}

/** The tiny SDXL in `folder` with an adapter of the kit, as its publisher has the files. */
export async function writeAdapterModel(
  folder: string,
  model: string,
  kit: AdapterKit,
  { adapter, factors }: Pick<AdapterCase, 'adapter' | 'factors'>,
): Promise<void> {
  const place = path.join(folder, 'ip_adapter');
  const encoder = path.join(place, 'models/image_encoder');
  await mkdir(encoder, { recursive: true });
  for (const part of [
    'unet',
    'vae',
    'text_encoder',
    'text_encoder_2',
    'tokenizer',
    'tokenizer_2',
    'scheduler',
  ])
    await symlink(path.join(model, part), path.join(folder, part));
  await copyFile(path.join(model, 'model_index.json'), path.join(folder, 'model_index.json'));
  await writeFile(path.join(encoder, 'config.json'), JSON.stringify(kit.vision));
  await writeSafetensors(path.join(encoder, 'model.safetensors'), drawTensors(kit.weights.image_encoder));
  await mkdir(path.join(place, 'sdxl_models'));
  await writeSafetensors(
    path.join(place, `sdxl_models/ip-adapter-${adapter}.safetensors`),
    drawTensors(kit.weights[adapter]),
  );
  if (factors === null) return;
  const types = { composition: factors, style: factors, character: factors };
  await writeFile(path.join(folder, 'adapter.json'), JSON.stringify({ types }));
}

/** Tokens, latents and picture of every recorded run with an adapter; the models are made in `folder`. */
export async function measureAdapters(
  kit: string,
  models: string,
  folder: string,
  device: Device,
): Promise<MeasuredCase[]> {
  const recorded = await readAdapterKit(kit);
  const measured: MeasuredCase[] = [];
  for (const item of recorded.cases) {
    const own = path.join(folder, item.name);
    await writeAdapterModel(own, path.resolve(models, 'sdxl-tiny'), recorded, item);
    const model = await openSdxlModel(own, { device, threads: 1 });
    if (model.adapterLayers === null) throw new Error(`${own} takes no references as image tokens`);
    const { reference_type: type, reference_strength: strength } = item;
    const reference = { path: path.join(kit, 'sdxl-tiny', item.reference), type, strength };
    const adapter = await adapterInput(model, reference, model.adapterLayers);
    const { floats } = await openRecords(path.join(kit, 'sdxl-tiny', item.file));
    const measures = [
      near('image tokens', adapter.tokens.data, floats('ip_tokens'), 1e-4),
      near('tokens of no picture', adapter.emptyTokens.data, floats('empty_ip_tokens'), 1e-4),
      ...(await measureSdxlCase(model, path.join(kit, 'sdxl-tiny'), item, adapter)),
    ];
    await model.release();
    measured.push({ name: item.name, measures });
  }
  return measured;
}
