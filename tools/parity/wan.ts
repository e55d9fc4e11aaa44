/** WAN against the kit's records: tokens, text encoder, transformer, VAE in chunks, whole runs. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { createGenerator } from '../../src/inference/diffusion/random.js';
import { openRecords } from './safetensors.js';
import { loadT5Tokenizer, truncateIds } from '../../src/inference/diffusion/tokenizers.js';
import { denoise } from '../../src/inference/wan/denoise.js';
import { denormalise, latentShape, type LatentShape } from '../../src/inference/wan/latents.js';
import type { WanModel } from '../../src/inference/wan/model.js';
import { encodePrompt, textInputs } from '../../src/inference/wan/text.js';
import { decodeClip, encodeClip } from '../../src/inference/wan/vae.js';
import { near, peakSignalToNoise, same, standardDeviation, type Measure } from './measure.js';
import { readCases, type MeasuredCase } from './parts.js';

interface TokenCase {
  text: string;
  input_ids: number[];
  attention_mask: number[];
  untruncated_ids: number[];
}

const equal = (a: readonly number[], b: readonly number[]) =>
  a.length === b.length && a.every((value, i) => value === b[i]);

/**
 * `folder`: `t5`, whose tokenizer is that of the model `wan-tiny` in `models`, or `t5-bytes` (with byte fallback,
 * as UMT5 has it).
 */
export async function measureT5Tokens(kit: string, folder: string, models: string): Promise<MeasuredCase[]> {
  const tokenizer = await loadT5Tokenizer(
    folder === 't5' ? path.join(models, 'wan-tiny/tokenizer') : path.join(kit, 'tokenizers', folder),
  );
  return (await readCases<TokenCase[]>(kit, `tokenizers/${folder}/cases.json`)).map((item) => {
    const ids = tokenizer.encode(item.text);
    const kept = item.input_ids.slice(
      0,
      item.attention_mask.reduce((sum, value) => sum + value, 0),
    );
    return {
      name: JSON.stringify(item.text.slice(0, 50)),
      measures: [
        same('ids', equal(ids, item.untruncated_ids)),
        same('cut', equal(truncateIds(ids, item.input_ids.length), kept)),
      ],
    };
  });
}

export async function measureWanText(kit: string, model: WanModel): Promise<MeasuredCase[]> {
  const folder = path.join(kit, 'wan-tiny/components');
  const records = await openRecords(path.join(folder, 'text_encoder.safetensors'));
  const { texts } = JSON.parse(await readFile(path.join(folder, 'text_encoder.json'), 'utf8')) as {
    texts: string[];
  };
  const [ids, mask, embeds] = [
    records.floats('input_ids'),
    records.floats('attention_mask'),
    records.floats('prompt_embeds'),
  ];
  const length = model.tokenizer.maxLength;
  const measured: MeasuredCase[] = [];
  for (const [i, text] of texts.entries()) {
    const encoded = await encodePrompt(model, text);
    const kept = mask.subarray(i * length, (i + 1) * length).reduce((sum, value) => sum + value, 0);
    const size = encoded.embeds.length;
    measured.push({
      name: JSON.stringify(text.slice(0, 50)),
      measures: [
        same('ids', equal(encoded.ids, [...ids.subarray(i * length, i * length + kept)])),
        near('embeddings', encoded.embeds, embeds.subarray(i * size, (i + 1) * size), 1e-4),
      ],
    });
  }
  return measured;
}

export async function measureWanTransformer(kit: string, model: WanModel): Promise<MeasuredCase[]> {
  const records = await openRecords(path.join(kit, 'wan-tiny/components/transformer.safetensors'));
  const measured: MeasuredCase[] = [];
  const empty = await encodePrompt(model, '');
  for (let i = 0; records.has(`${i}/out`); i += 1) {
    const tensor = (name: string) => ({
      data: records.floats(`${i}/${name}`),
      dims: records.dims(`${i}/${name}`),
    });
    const text = tensor('encoder_hidden_states');
    const feeds = { hidden_states: tensor('hidden_states'), timestep: tensor('timestep') };
    const out = await model.transformer.run({ ...feeds, ...(await textInputs(model, text)) }, ['sample']);
    const outEmpty = await model.transformer.run(
      { ...feeds, ...(await textInputs(model, { data: empty.embeds, dims: text.dims })) },
      ['sample'],
    );
    measured.push({
      name: `${tensor('hidden_states').dims.join('×')}, timestep ${feeds.timestep.data.join()}`,
      measures: [
        near('velocity', out.sample.data, records.floats(`${i}/out`), 1e-4),
        near('velocity, empty text', outEmpty.sample.data, records.floats(`${i}/out_empty_text`), 1e-4),
      ],
    });
  }
  return measured;
}

/** The recorded clips were encoded and decoded in one piece; here they go through the streaming graphs. */
export async function measureWanVae(kit: string, model: WanModel): Promise<MeasuredCase[]> {
  const records = await openRecords(path.join(kit, 'wan-tiny/components/vae.safetensors'));
  const measured: MeasuredCase[] = [];
  for (let i = 0; records.has(`${i}/video`); i += 1) {
    const [, , frames = 0, height = 0, width = 0] = records.dims(`${i}/video`);
    const video = records.floats(`${i}/video`);
    const area = width * height;
    const frameAt = (frame: number) =>
      Float32Array.from(
        { length: 3 * area },
        (_, at) => video[(Math.floor(at / area) * frames + frame) * area + (at % area)] as number,
      );
    const normalised = await encodeClip(model, frames, { width, height }, frameAt);
    const shape = latentShape(model, { width, height, frames });
    const latents = records.floats(`${i}/latents`);
    measured.push({
      name: `${frames} frames of ${width}×${height}`,
      measures: [
        near('mean', denormalise(model, normalised), records.floats(`${i}/mean`), 1e-4),
        near('normalised', normalised, records.floats(`${i}/normalized`), 1e-4),
        near('un-normalised', denormalise(model, latents), records.floats(`${i}/z`), 1e-5),
        near(
          'decoded',
          await decodeWhole(model, latents, shape, frames),
          records.floats(`${i}/decoded`),
          1e-4,
        ),
        near(
          'there and back',
          await decodeWhole(model, normalised, shape, frames),
          records.floats(`${i}/reconstructed`),
          1e-4,
        ),
      ],
    });
  }
  return measured;
}

/** [3, frames, H, W], as diffusers gives a clip. */
async function decodeWhole(
  model: WanModel,
  latents: Float32Array,
  shape: LatentShape,
  frames: number,
): Promise<Float32Array> {
  const area = shape.width * shape.height * model.vaeScale ** 2;
  const clip = new Float32Array(3 * frames * area);
  let frame = 0;
  await decodeClip(model, latents, shape, async (chunk) => {
    for (let at = 0; at < chunk.length; at += 3 * area, frame += 1) {
      for (let c = 0; c < 3; c += 1)
        clip.set(chunk.subarray(at + c * area, at + (c + 1) * area), (c * frames + frame) * area);
    }
  });
  return clip;
}

/** One recorded run of diffusers' WanPipeline. */
export interface WanCase {
  name: string;
  file: string;
  prompt: string;
  negative_prompt: string | null;
  height: number;
  width: number;
  frames: number;
  steps: number;
  guidance: number;
  seed: number;
}

/**
 * Runs a case through the service's own parts and measures every recorded stage against it. The kit's
 * scheduler is diffusers', shift 5.
 */
export async function measureWanCase(model: WanModel, folder: string, item: WanCase): Promise<Measure[]> {
  const records = await openRecords(path.join(folder, item.file));
  const positive = await encodePrompt(model, item.prompt);
  const negative = await encodePrompt(model, item.negative_prompt ?? '');
  const shape = latentShape(model, item);
  const noise = createGenerator(item.seed).randn(shape.channels * shape.frames * shape.height * shape.width);
  let first: Float32Array = new Float32Array();
  const { latents, scheduler } = await denoise(model, noise, shape, {
    positive,
    negative,
    known: null,
    guidanceScale: item.guidance,
    scheduler: 'unipc_diffusers',
    steps: item.steps,
    shift: 5,
    signal: new AbortController().signal,
    onStep(index, current) {
      if (index === 0) first = current;
    },
  });
  const planes = await decodeWhole(model, latents, shape, item.frames);
  const area = item.width * item.height;
  const pixels = Float32Array.from({ length: planes.length }, (_, i) => {
    const [frame, pixel, channel] = [Math.floor(i / (3 * area)), Math.floor(i / 3) % area, i % 3];
    return (planes[(channel * item.frames + frame) * area + pixel] as number) / 2 + 0.5;
  });
  const decibels = peakSignalToNoise(pixels, records.floats('frames'));
  const relative = (what: string, actual: Float32Array, name: string) => {
    const reference = records.floats(name);
    const spread = standardDeviation(reference);
    return near(
      what,
      actual.map((value) => value / spread),
      reference.map((value) => value / spread),
      1e-3,
    );
  };
  return [
    near('prompt embeddings', positive.embeds, records.floats('prompt_embeds'), 1e-4),
    near('negative embeddings', negative.embeds, records.floats('negative_prompt_embeds'), 1e-4),
    near('noise', noise, records.floats('noise'), 1e-6),
    near('timesteps', scheduler.timesteps, records.floats('timesteps'), 0),
    near('sigmas', scheduler.sigmas, records.floats('sigmas'), 1e-6),
    relative('latents, first step', first, 'latents_first'),
    relative('latents, last step', latents, 'latents_final'),
    { what: 'frames', value: decibels, bound: 50, unit: 'dB', ok: decibels >= 50 },
  ];
}
