import { cp, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { models } from '../../parity/kit.js';
import { loadAll, writeSafetensors } from '../../helpers/checkpoints.js';
import { writeOriginalSdxl } from '../../helpers/original-sdxl.js';
import { readSafetensors } from '../../../src/inference/checkpoint/safetensors.js';
import { openSdxlModel, type SdxlModel } from '../../../src/inference/sdxl/model.js';
import { conditionText, zeroConditioning } from '../../../src/inference/sdxl/conditioning.js';
import { denoise } from '../../../src/inference/sdxl/denoise.js';
import { decodeToFloats, encodePicture } from '../../../src/inference/sdxl/vae.js';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { largestDifference } from '../../../tools/parity/measure.js';
import { createEuler } from '../../../src/inference/diffusion/schedulers/euler.js';

async function draw(model: SdxlModel): Promise<Float32Array[]> {
  const size = { width: 64, height: 64 };
  const positive = await conditionText(model, 'a red fox in the snow', { parseWeights: false });
  const generator = createGenerator(7);
  const data = Uint8Array.from(Array.from({ length: 12_288 }, (_, i) => (i * 37) % 256));
  const original = await encodePicture(model, { ...size, data }, generator);
  const scheduler = createEuler(model.schedulerConfig, { steps: 4, strength: 0.9 });
  const latents = await denoise(model, scheduler.addNoise(original, generator.randn(original.length)), {
    ...size,
    images: 1,
    rowLimit: { rows: Infinity },
    positive,
    negative: zeroConditioning(positive),
    guidanceScale: 5,
    scheduler,
    signal: new AbortController().signal,
    onStep: () => {},
  });
  return [positive.embeds, positive.pooled, original, latents, await decodeToFloats(model, latents, 64, 64)];
}

t.test(
  'a single file in the original layout draws what the folder it was made from draws, bit for bit',
  async (t) => {
    const folder = path.join(models, 'sdxl-tiny');
    const single = path.join(t.testdir(), 'sdxl');
    // the service has the configurations of the full-size model only
    for (const part of ['unet', 'text_encoder', 'text_encoder_2', 'vae'])
      await cp(path.join(folder, part, 'config.json'), path.join(single, part, 'config.json'));
    await writeOriginalSdxl(folder, path.join(single, 'fox_v20.safetensors'), 2, 4);
    const [one, other] = (await Promise.all(
      [folder, single].map((each) => openSdxlModel(each, { device: 'cpu', threads: 1 })),
    )) as [SdxlModel, SdxlModel];
    t.teardown(() => Promise.all([one.release(), other.release()]));
    const [expected, actual] = [await draw(one), await draw(other)];
    for (const [i, what] of ['embeddings', 'pooled', 'encoded', 'latents', 'picture'].entries())
      t.equal(largestDifference(actual[i] ?? [], expected[i] ?? []), 0, what);
    t.not(new Set(expected[4]).size, 1, 'there is a picture');
  },
);

t.test('a folder with its UNet in two files and an index draws the same, bit for bit', async (t) => {
  const folder = path.join(models, 'sdxl-tiny');
  const sharded = path.join(t.testdir(), 'sdxl');
  await cp(folder, sharded, { recursive: true });
  const stem = path.join(sharded, 'unet/diffusion_pytorch_model');
  const tensors = [...(await loadAll(await readSafetensors(`${stem}.safetensors`)))];
  const half = Math.floor(tensors.length / 2);
  const shards = [tensors.slice(0, half), tensors.slice(half)];
  const weights: Record<string, string> = {};
  for (const [i, shard] of shards.entries()) {
    const name = `diffusion_pytorch_model-0000${i + 1}-of-00002.safetensors`;
    await writeSafetensors(path.join(sharded, 'unet', name), new Map(shard));
    for (const [tensor] of shard) weights[tensor] = name;
  }
  await writeFile(`${stem}.safetensors.index.json`, JSON.stringify({ weight_map: weights }));
  await rm(`${stem}.safetensors`);
  const [one, other] = (await Promise.all(
    [folder, sharded].map((each) => openSdxlModel(each, { device: 'cpu', threads: 1 })),
  )) as [SdxlModel, SdxlModel];
  t.teardown(() => Promise.all([one.release(), other.release()]));
  const [expected, actual] = [await draw(one), await draw(other)];
  for (const [i, values] of expected.entries()) t.equal(largestDifference(actual[i] ?? [], values), 0);
});
