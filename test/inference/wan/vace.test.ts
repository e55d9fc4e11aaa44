import { cp, mkdir, symlink } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import t, { type Test } from 'tap';
import { createGenerator } from '../../../src/inference/diffusion/random.js';
import { readSafetensors } from '../../../tools/parity/safetensors.js';
import type { WanReferences } from '../../../src/inference/generation.js';
import { denoise } from '../../../src/inference/wan/denoise.js';
import { generateClip } from '../../../src/inference/wan/generate.js';
import { latentShape } from '../../../src/inference/wan/latents.js';
import { openWanModel } from '../../../src/inference/wan/model.js';
import { encodePrompt } from '../../../src/inference/wan/text.js';
import { foldedMask, prepareVace } from '../../../src/inference/wan/vace.js';
import { projectRoot } from '../../../src/lib/project.js';
import { largestDifference } from '../../../tools/parity/measure.js';
import { requireCommand } from '../../helpers/requirements.js';
import { pipelineOf, recordingContext, temporaryFolder, tinyFolder, wanParams } from './support.js';

const side = 32;
const frames = 9;

/** The folder of the tiny model with the VACE transformer in place of its own. */
async function openVace(t: Test) {
  const folder = await temporaryFolder(t);
  for (const part of ['model_index.json', 'scheduler', 'text_encoder', 'tokenizer', 'vae'])
    await symlink(path.join(tinyFolder, part), path.join(folder, part));
  await mkdir(path.join(folder, 'transformer'));
  await cp(
    path.join(projectRoot(), 'test/parity/models/wan-tiny-vace/transformer'),
    path.join(folder, 'transformer'),
    { recursive: true },
  );
  const model = await openWanModel(folder, { device: 'cpu', threads: 1 });
  t.teardown(() => model.release());
  return model;
}

/** The pictures of tools/parity/record_vace.py. */
async function drawPicture(t: Test, phase: number): Promise<string> {
  const data = Uint8Array.from({ length: side * side * 3 }, (_, i) => {
    const [y, x, c] = [Math.floor(i / (3 * side)), Math.floor(i / 3) % side, i % 3];
    return (7 * x + 3 * y * (c + 1) + 40 * phase) % 256;
  });
  const file = path.join(await temporaryFolder(t), `${phase}.png`);
  await sharp(data, { raw: { width: side, height: side, channels: 3 } })
    .png()
    .toFile(file);
  return file;
}

t.test("a VACE checkpoint is conditioned as diffusers' WanVACEPipeline does it", async (t) => {
  const model = await openVace(t);
  t.ok(model.features.includes('vace'));
  const recorded = await readSafetensors(path.join(projectRoot(), 'test/fixtures/vace.safetensors'));
  const [first, last, reference] = [
    await drawPicture(t, 1),
    await drawPicture(t, 2),
    await drawPicture(t, 3),
  ];
  const modes: Record<string, WanReferences> = {
    none: {},
    start: { start: first },
    end: { end: last },
    both: { start: first, end: last },
    single: { reference },
  };
  const results = new Map<string, Float32Array>();
  for (const [mode, references] of Object.entries(modes)) {
    const shape = latentShape(model, { width: side, height: side, frames });
    const control = await prepareVace(model, references, shape, null, async () => {});
    const whole = { ...shape, frames: shape.frames + control.referenceFrames };
    const { latents } = await denoise(model, createGenerator(11).randn(16 * whole.frames * 16), whole, {
      positive: await encodePrompt(model, 'a red circle moves from left to right'),
      negative: await encodePrompt(model, ''),
      guidanceScale: 4,
      scheduler: 'unipc_diffusers',
      steps: 4,
      shift: 5,
      known: null,
      control,
      signal: new AbortController().signal,
      onStep() {},
    });
    const expected = recorded.get(mode);
    t.same(expected?.dims, [1, 16, whole.frames, 4, 4], `${mode}: latent frames`);
    const difference = largestDifference(latents, expected?.data as Float32Array);
    t.ok(difference <= 1e-4, `${mode}: latents within ${difference}`);
    results.set(mode, latents);
  }
  for (const mode of ['start', 'end', 'both'])
    t.ok(
      largestDifference(results.get(mode) as Float32Array, results.get('none') as Float32Array) > 1e-3,
      `${mode} is not none`,
    );
});

t.test(
  'reference frames are cut off before decoding',
  { skip: requireCommand('ffmpeg') || requireCommand('ffprobe') },
  async (t) => {
    const pipeline = await pipelineOf(await openVace(t));
    for (const references of [
      { reference: await drawPicture(t, 3) },
      { start: await drawPicture(t, 1), end: await drawPicture(t, 2) },
      {},
    ] as WanReferences[]) {
      const result = await generateClip(
        pipeline,
        wanParams(await temporaryFolder(t), { frames: 5, references, referenceStrength: 0.85 }),
        recordingContext(),
      );
      t.match(result, { frames: 5, files: [{ frames: 5 }, {}] });
      t.equal(result.referenceMethod, Object.keys(references).length === 0 ? undefined : 'vace');
    }
    const picture = await generateClip(
      pipeline,
      wanParams(await temporaryFolder(t), {
        frames: 1,
        output: 'image',
        references: { start: await drawPicture(t, 1) },
      }),
      recordingContext(),
    );
    t.match(picture, { frames: 1, referenceMode: 'start', referenceMethod: 'vace' });
  },
);

t.test("masks reach latent frames by torch's nearest-exact", async (t) => {
  // torch.nn.functional.interpolate(mask, size=(n, …), mode="nearest-exact") of masks that keep frame 0, or
  // the last one
  t.same(
    foldedMask(9, 3, (frame) => frame !== 0),
    [1, 1, 1],
  );
  t.same(
    foldedMask(9, 3, (frame) => frame !== 1),
    [0, 1, 1],
  );
  t.same(
    foldedMask(9, 3, (frame) => frame !== 7),
    [1, 1, 0],
  );
  t.same(
    foldedMask(1, 1, () => false),
    [0],
  );
});
