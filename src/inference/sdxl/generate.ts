import { rm } from 'node:fs/promises';
import path from 'node:path';
import { type AdapterInput, denoise } from './denoise.js';
import type { SdxlModel } from './model.js';
import { adapterInput, imageToImageStrength } from './reference.js';
import type { EncodedText, TextCache } from './text-cache.js';
import { decodeLatents, encodePicture } from './vae.js';
import { concat } from '../diffusion/guidance.js';
import type { LatentPreview } from '../diffusion/latent-preview.js';
import { cropCentre, type Picture, readPicture, writeImage, writePreview } from '../diffusion/pictures.js';
import { createGenerator, type Generator } from '../diffusion/random.js';
import { createSdxlScheduler, type Scheduler } from '../diffusion/schedulers/index.js';
import {
  type GeneratedFile,
  pictureExtensions,
  type SdxlGenerateParams,
  type SdxlGenerateResult,
} from '../engine-protocol.js';
import { EngineFailure, type RequestContext, throwIfCancelled, yieldToMessages } from '../engine.js';
import type { RowLimit } from '../onnx/rows.js';

export interface Pipeline {
  model: SdxlModel;
  texts: TextCache;
  /** Null until warm-up has fitted it. */
  preview: LatentPreview | null;
  /** Images drawn together; fewer when memory runs out. */
  batchSize: number;
  rowLimit: RowLimit;
}

/**
 * Ancestral samplers draw their step noise from a generator of its own, this far from the image's seed (as
 * the recorded references do).
 */
const stepNoiseSeedOffset = 100_000;

/**
 * One SDXL request: text once, then batch by batch denoise and decode on the device, files written while the
 * next one computes.
 */
export async function generateImages(
  pipeline: Pipeline,
  params: SdxlGenerateParams,
  context: RequestContext,
): Promise<SdxlGenerateResult> {
  const { model } = pipeline;
  requireSize(model, params);
  // sizes between the graph's multiples are drawn a little larger and cropped
  const drawn = {
    ...params,
    width: roundUp(params.width, model.sizeMultiple),
    height: roundUp(params.height, model.sizeMultiple),
  };
  const timings: Record<string, number> = { text: 0, reference: 0, denoise: 0, decode: 0, encode: 0 };
  const clock = createClock(timings);
  const writing: Array<Promise<GeneratedFile>> = [];
  let text: EncodedText | undefined;
  let reference: PreparedReference = {};
  let scheduler: Scheduler | undefined;
  try {
    await context.compute(async () => {
      throwIfCancelled(context.signal);
      context.emit({ kind: 'progress', stage: 'text', step: 0, steps: 1 });
      text = await clock('text', () => pipeline.texts.encode(params));
      if (params.reference !== undefined) {
        context.emit({ kind: 'progress', stage: 'reference', step: 0, steps: 1 });
        reference = await clock('reference', () => prepareReference(pipeline, drawn));
      }
      for (let first = 0; first < params.numImages; first += pipeline.batchSize) {
        scheduler = createSdxlScheduler(params.scheduler, model.schedulerConfig, {
          steps: params.steps,
          ...(reference.strength === undefined ? {} : { strength: reference.strength }),
        });
        const images = Math.min(pipeline.batchSize, params.numImages - first);
        const latents = await drawLatents(pipeline, drawn, {
          first,
          images,
          text,
          reference,
          scheduler,
          clock,
          context,
        });
        const size = latents.length / images;
        for (let image = first; image < first + images; image += 1) {
          context.emit({ kind: 'progress', stage: 'decode', step: image, steps: params.numImages });
          const whole = await clock('decode', () =>
            decodeLatents(
              model,
              latents.subarray((image - first) * size, (image - first + 1) * size),
              drawn.width,
              drawn.height,
            ),
          );
          const picture = cropCentre(whole, params.width, params.height);
          await yieldToMessages();
          throwIfCancelled(context.signal);
          const name = `${image}.${pictureExtensions[params.format]}`;
          const seed = params.seed + image;
          const write = clock('encode', () =>
            writeImage(path.join(params.outputDir, name), picture, {
              format: params.format,
              parameters: params.parametersText.replace('Seed: {seed}', `Seed: ${seed}`),
              seed,
            }),
          );
          write.catch(() => undefined);
          writing.push(write);
        }
      }
    });
    context.emit({ kind: 'progress', stage: 'encode', step: 0, steps: params.numImages });
    const files = await Promise.all(writing);
    throwIfCancelled(context.signal);
    context.emit({ kind: 'progress', stage: 'encode', step: params.numImages, steps: params.numImages });
    return describeResult(
      params,
      files,
      timings,
      text,
      reference,
      params.explain ? explain(pipeline, params, text, scheduler, timings) : undefined,
    );
  } catch (error) {
    await Promise.allSettled(writing);
    await Promise.all(
      Array.from({ length: params.numImages }, (_, i) =>
        rm(path.join(params.outputDir, `${i}.${pictureExtensions[params.format]}`), { force: true }),
      ),
    );
    throw error;
  }
}

type Clock = <T>(stage: string, work: () => Promise<T>) => Promise<T>;

function createClock(timings: Record<string, number>): Clock {
  return async (stage, work) => {
    const startedAt = performance.now();
    try {
      return await work();
    } finally {
      timings[stage] = (timings[stage] ?? 0) + (performance.now() - startedAt) / 1000;
    }
  };
}

interface PreparedReference {
  adapter?: AdapterInput;
  /** Image-to-image: the fitted picture and how much of the schedule is run on it. */
  picture?: Picture;
  strength?: number;
}

async function prepareReference(pipeline: Pipeline, params: SdxlGenerateParams): Promise<PreparedReference> {
  if (params.reference === undefined) return {};
  const layers = pipeline.model.adapterLayers;
  if (layers !== null) return { adapter: await adapterInput(pipeline.model, params.reference, layers) };
  return {
    picture: await readPicture(params.reference.path, params.width, params.height),
    strength: imageToImageStrength(params.reference),
  };
}

interface Batch {
  /** Index of the first image within the request. */
  first: number;
  images: number;
  text: EncodedText;
  reference: PreparedReference;
  scheduler: Scheduler;
  clock: Clock;
  context: RequestContext;
}

/** Latents [images, C, h, w] of images that are denoised together, each from its own seed. */
async function drawLatents(
  pipeline: Pipeline,
  params: SdxlGenerateParams,
  { first, images, text, reference, scheduler, clock, context }: Batch,
): Promise<Float32Array> {
  const { model } = pipeline;
  const { width, height } = params;
  const seeds = Array.from({ length: images }, (_, i) => params.seed + first + i);
  const starts: Float32Array[] = [];
  for (const seed of seeds)
    starts.push(await startLatents(model, params, createGenerator(seed), reference.picture, scheduler));
  const size = starts[0]?.length ?? 0;
  const stepNoises = seeds.map((seed) => createGenerator(seed + stepNoiseSeedOffset));
  const stepsOfImage = scheduler.timesteps.length;
  return clock('denoise', () =>
    denoise(model, concat(starts), {
      images,
      rowLimit: pipeline.rowLimit,
      positive: text.positive,
      negative: text.negative,
      guidanceScale: params.guidanceScale,
      width,
      height,
      scheduler,
      stepNoise: () => concat(stepNoises.map((generator) => generator.randn(size))),
      ...(reference.adapter === undefined ? {} : { adapter: reference.adapter }),
      signal: context.signal,
      async onStep(index, current) {
        const step = first * stepsOfImage + (index + 1) * images;
        context.emit({ kind: 'progress', stage: 'denoise', step, steps: stepsOfImage * params.numImages });
        if (
          pipeline.preview !== null &&
          params.previewEverySteps > 0 &&
          (index + 1) % params.previewEverySteps === 0 &&
          index + 1 < stepsOfImage
        ) {
          const file = path.join(params.outputDir, `preview-${step}.webp`);
          const pixels = pipeline.preview.render(
            current.subarray(0, size),
            width / model.vaeScale,
            height / model.vaeScale,
          );
          await writePreview(file, pixels, width, height);
          context.emit({ kind: 'preview', step, path: file, contentType: 'image/webp' });
        }
      },
    }),
  );
}

/**
 * Noise from the image's own seed; with a reference the posterior is drawn first and the noise second, as
 * diffusers does.
 */
async function startLatents(
  model: SdxlModel,
  { width, height }: SdxlGenerateParams,
  generator: Generator,
  picture: Picture | undefined,
  scheduler: Scheduler,
): Promise<Float32Array> {
  const count = model.latentChannels * (height / model.vaeScale) * (width / model.vaeScale);
  if (picture === undefined) return generator.randn(count).map((value) => value * scheduler.initNoiseSigma);
  const original = await encodePicture(model, picture, generator);
  return scheduler.addNoise(original, generator.randn(count));
}

const roundUp = (pixels: number, multiple: number) => Math.ceil(pixels / multiple) * multiple;

function requireSize(model: SdxlModel, params: SdxlGenerateParams): void {
  for (const field of ['width', 'height'] as const) {
    if (!Number.isInteger(params[field]) || params[field] <= 0 || params[field] % model.vaeScale !== 0) {
      throw new EngineFailure(
        'invalid_parameters',
        `config.${field} must be a positive multiple of ${model.vaeScale}`,
        `config.${field}`,
      );
    }
  }
}

/** What `--explain` shows: names and numbers, never a tensor. */
function explain(
  { texts, rowLimit }: Pipeline,
  { scheduler: name }: SdxlGenerateParams,
  text: EncodedText | undefined,
  scheduler: Scheduler | undefined,
  timings: Record<string, number>,
): Record<string, unknown> {
  return {
    tokens: text?.tokens ?? [],
    negative_tokens: text?.negativeTokens ?? [],
    scheduler: name,
    timesteps: scheduler?.timesteps ?? [],
    sigmas: Array.from(scheduler?.sigmas ?? []),
    timings,
    text_from_cache: text?.fromCache ?? false,
    text_cache: texts.use(),
    ...(Number.isFinite(rowLimit.rows) ? { rows_per_unet_call: rowLimit.rows } : {}),
  };
}

function describeResult(
  params: SdxlGenerateParams,
  files: GeneratedFile[],
  timings: Record<string, number>,
  text: EncodedText | undefined,
  reference: PreparedReference,
  explanation: Record<string, unknown> | undefined,
): SdxlGenerateResult {
  if (text === undefined) throw new Error('a finished request has its text encoded');
  const { combined } = text;
  return {
    files,
    timings,
    weightsUsed: combined.used,
    weightsDropped: combined.dropped,
    tokenCount: combined.tokenCount,
    truncated: combined.truncated,
    ...(params.reference === undefined
      ? {}
      : { referenceMethod: reference.adapter === undefined ? 'img2img' : 'ip_adapter' }),
    ...(explanation === undefined ? {} : { explain: explanation }),
  };
}
