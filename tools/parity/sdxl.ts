import path from 'node:path';
import { largestDifference, type Measure, near, peakSignalToNoise, standardDeviation } from './measure.js';
import type { MeasuredCase } from './parts.js';
import { readPicture } from '../../src/inference/diffusion/pictures.js';
import { createGenerator } from '../../src/inference/diffusion/random.js';
import { openRecords } from './safetensors.js';
import { createDpmSolver } from '../../src/inference/diffusion/schedulers/multistep.js';
import { createEuler } from '../../src/inference/diffusion/schedulers/euler.js';
import type { Scheduler } from '../../src/inference/diffusion/schedulers/scheduler.js';
import { conditionText, zeroConditioning } from '../../src/inference/sdxl/conditioning.js';
import { type AdapterInput, denoise } from '../../src/inference/sdxl/denoise.js';
import type { SdxlModel } from '../../src/inference/sdxl/model.js';
import { decodeToFloats, encodePicture } from '../../src/inference/sdxl/vae.js';

/** Both text encoders, the UNet and both halves of the VAE, each alone on recorded inputs. */
export async function measureSdxlComponents(kit: string, model: SdxlModel): Promise<MeasuredCase[]> {
  const open = (name: string) => openRecords(path.join(kit, 'sdxl-tiny/components', `${name}.safetensors`));
  const measured: MeasuredCase[] = [];
  const texts = await open('text_encoders');
  for (const [i, { session, layers, pooled }] of model.encoders.entries()) {
    const suffix = i === 0 ? '' : '_2';
    const ids = { data: texts.floats(`input_ids${suffix}`), dims: texts.dims(`input_ids${suffix}`) };
    const mask = { data: ids.data.map(() => 1), dims: ids.dims };
    const outputs = [`hidden_states.${layers - 1}`, ...(pooled ? ['text_embeds'] : [])];
    const feeds = { input_ids: ids, ...(session.hasInput('attention_mask') ? { attention_mask: mask } : {}) };
    const { [outputs[0] as string]: hidden, text_embeds: embeds } = await session.run(feeds, outputs);
    measured.push({
      name: `text encoder ${i + 1}`,
      measures: [
        near('penultimate', hidden?.data ?? [], texts.floats(`penultimate${suffix}`), 1e-4),
        ...(pooled ? [near('pooled', embeds?.data ?? [], texts.floats('pooled_2'), 1e-4)] : []),
      ],
    });
  }
  const unet = await open('unet');
  for (let k = 0; unet.has(`${k}/out`); k += 1) {
    const tensor = (name: string) => ({ data: unet.floats(`${k}/${name}`), dims: unet.dims(`${k}/${name}`) });
    const { out_sample: out } = await model.unet.run(
      {
        sample: tensor('sample'),
        timestep: { data: tensor('timestep').data, dims: [] },
        encoder_hidden_states: tensor('encoder_hidden_states'),
        text_embeds: tensor('text_embeds'),
        time_ids: tensor('time_ids'),
      },
      ['out_sample'],
    );
    measured.push({
      name: `UNet, ${tensor('sample').dims.join('×')}`,
      measures: [near('noise', out.data, tensor('out').data, 1e-4)],
    });
  }
  const vae = await open('vae');
  for (let k = 0; vae.has(`${k}/image`); k += 1) {
    const [, , height = 0, width = 0] = vae.dims(`${k}/image`);
    const image = { data: vae.floats(`${k}/image`), dims: vae.dims(`${k}/image`) };
    const encoded = await model.vaeEncoder?.run({ sample: image }, ['latent_parameters']);
    const latents = vae.floats(`${k}/z`).map((value) => value * model.scalingFactor);
    measured.push({
      name: `VAE, ${width}×${height}`,
      measures: [
        near(
          'mean and log variance',
          encoded?.latent_parameters.data ?? [],
          [...vae.floats(`${k}/mean`), ...vae.floats(`${k}/logvar`)],
          1e-4,
        ),
        near(
          'decoded',
          await decodeToFloats(model, latents, width, height),
          vae.floats(`${k}/decoded`),
          1e-4,
        ),
      ],
    });
  }
  return measured;
}

/** One recorded run of diffusers' SDXL pipelines, as the parity kit's `cases.json` states it. */
export interface SdxlCase {
  name: string;
  file: string;
  prompt: string;
  negative_prompt: string | null;
  height: number;
  width: number;
  steps: number;
  guidance: number;
  seeds: number[];
  scheduler: string;
  strength?: number;
  init_png?: string;
}

/** Runs a case through the service's own pipeline parts and measures every recorded stage against it. */
export async function measureSdxlCase(
  model: SdxlModel,
  folder: string,
  item: SdxlCase,
  adapter?: AdapterInput,
): Promise<Measure[]> {
  const { floats: tensor, has } = await openRecords(path.join(folder, item.file));
  const measures: Measure[] = [];
  const compare = (what: string, actual: ArrayLike<number>, name: string, bound: number, scale = 1) => {
    const value = largestDifference(actual, tensor(name)) / scale;
    measures.push({ what, value, bound, unit: 'max', ok: value <= bound });
  };

  const positive = await conditionText(model, item.prompt, { parseWeights: false });
  const negative =
    item.negative_prompt === null
      ? zeroConditioning(positive)
      : await conditionText(model, item.negative_prompt, { parseWeights: false });
  // runs with an adapter have the texts of others, and only what is their own is recorded
  if (adapter === undefined || has('prompt_embeds')) {
    compare('prompt embeddings', positive.embeds, 'prompt_embeds', 1e-4);
    compare('negative embeddings', negative.embeds, 'negative_prompt_embeds', 1e-4);
    compare('pooled', positive.pooled, 'pooled_prompt_embeds', 1e-4);
    compare('negative pooled', negative.pooled, 'negative_pooled_prompt_embeds', 1e-4);
  }

  const count = model.latentChannels * (item.height / model.vaeScale) * (item.width / model.vaeScale);
  const final: number[] = [];
  const first: number[] = [];
  const pixels: number[] = [];
  let noises: number[] = [];
  let scheduler = createScheduler(model, item);
  for (const [image, seed] of item.seeds.entries()) {
    scheduler = createScheduler(model, item);
    const generator = createGenerator(seed);
    let start: Float32Array;
    if (item.strength === undefined) {
      const noise = generator.randn(count);
      noises = [...noises, ...noise];
      start = noise.map((value) => value * scheduler.initNoiseSigma);
    } else {
      const picture = await readPicture(
        path.join(folder, 'cases', path.basename(item.init_png ?? '')),
        item.width,
        item.height,
      );
      const original = await encodePicture(model, picture, generator);
      const noise = generator.randn(count);
      noises = [...noises, ...noise];
      start = scheduler.addNoise(original, noise);
    }
    const latents = await denoise(model, start, {
      images: 1,
      rowLimit: { rows: Infinity },
      positive,
      negative,
      guidanceScale: item.guidance,
      width: item.width,
      height: item.height,
      scheduler,
      ...(adapter === undefined ? {} : { adapter }),
      signal: new AbortController().signal,
      onStep(index, current) {
        if (index === 0) first.push(...current);
      },
    });
    final.push(...latents);
    const planes = await decodeToFloats(model, latents, item.width, item.height);
    const area = item.width * item.height;
    for (let i = 0; i < area; i += 1)
      for (let c = 0; c < 3; c += 1)
        pixels.push(Math.min(Math.max((planes[c * area + i] as number) / 2 + 0.5, 0), 1));
    if (image === 0) compare('timesteps', scheduler.timesteps, 'timesteps', 0);
  }
  if (adapter === undefined || has('noise')) compare('noise', noises, 'noise', 1e-6);
  compare('sigmas', scheduler.sigmas, 'sigmas', 1e-5);
  const spread = standardDeviation(tensor('latents_final'));
  compare('latents, first step', first, 'latents_first', 1e-3, standardDeviation(tensor('latents_first')));
  compare('latents, last step', final, 'latents_final', 1e-3, spread);
  const decibels = peakSignalToNoise(pixels, tensor('image'));
  measures.push({ what: 'image', value: decibels, bound: 50, unit: 'dB', ok: decibels >= 50 });
  return measures;
}

function createScheduler(model: SdxlModel, { scheduler, steps, strength }: SdxlCase): Scheduler {
  const options = { steps, ...(strength === undefined ? {} : { strength }) };
  if (scheduler === 'euler') return createEuler(model.schedulerConfig, options);
  if (scheduler === 'dpmpp2m_karras')
    return createDpmSolver(model.schedulerConfig, { ...options, karras: true });
  throw new Error(`the kit names a scheduler that is not known: ${scheduler}`);
}
