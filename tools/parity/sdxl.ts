import path from 'node:path';
import { largestDifference, type Measure, peakSignalToNoise, standardDeviation } from './measure.js';
import { readPicture } from '../../src/inference/diffusion/pictures.js';
import { createGenerator } from '../../src/inference/diffusion/random.js';
import { readSafetensors } from './safetensors.js';
import { createDpmSolver } from '../../src/inference/diffusion/schedulers/multistep.js';
import { createEuler } from '../../src/inference/diffusion/schedulers/euler.js';
import type { Scheduler } from '../../src/inference/diffusion/schedulers/scheduler.js';
import { conditionText, zeroConditioning } from '../../src/inference/sdxl/conditioning.js';
import { denoise } from '../../src/inference/sdxl/denoise.js';
import type { SdxlModel } from '../../src/inference/sdxl/model.js';
import { decodeToFloats, encodePicture } from '../../src/inference/sdxl/vae.js';

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
export async function measureSdxlCase(model: SdxlModel, folder: string, item: SdxlCase): Promise<Measure[]> {
  const recorded = await readSafetensors(path.join(folder, item.file));
  const tensor = (name: string): Float32Array => {
    const stored = recorded.get(name);
    if (stored === undefined) throw new Error(`${item.file} has no tensor ${name}`);
    return stored.data instanceof Float32Array ? stored.data : Float32Array.from(stored.data, Number);
  };
  const measures: Measure[] = [];
  const near = (what: string, actual: ArrayLike<number>, name: string, bound: number, scale = 1) => {
    const value = largestDifference(actual, tensor(name)) / scale;
    measures.push({ what, value, bound, unit: 'max', ok: value <= bound });
  };

  const positive = await conditionText(model, item.prompt, { parseWeights: false });
  const negative =
    item.negative_prompt === null
      ? zeroConditioning(positive)
      : await conditionText(model, item.negative_prompt, { parseWeights: false });
  near('prompt embeddings', positive.embeds, 'prompt_embeds', 1e-4);
  near('negative embeddings', negative.embeds, 'negative_prompt_embeds', 1e-4);
  near('pooled', positive.pooled, 'pooled_prompt_embeds', 1e-4);
  near('negative pooled', negative.pooled, 'negative_pooled_prompt_embeds', 1e-4);

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
    if (image === 0) near('timesteps', scheduler.timesteps, 'timesteps', 0);
  }
  near('noise', noises, 'noise', 1e-6);
  near('sigmas', scheduler.sigmas, 'sigmas', 1e-5);
  const spread = standardDeviation(tensor('latents_final'));
  near('latents, first step', first, 'latents_first', 1e-3, standardDeviation(tensor('latents_first')));
  near('latents, last step', final, 'latents_final', 1e-3, spread);
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
