import { rm } from 'node:fs/promises';
import { type AdapterInput, denoise } from './denoise.js';
import type { SdxlModel } from './model.js';
import { adapterInput, imageToImageStrength } from './reference.js';
import type { EncodedText, TextCache } from './text-cache.js';
import { decodeLatents, encodePicture } from './vae.js';
import { fileWriter } from '../diffusion/file-writer.js';
import { concat } from '../diffusion/floats.js';
import type { LatentPreview } from '../diffusion/latent-preview.js';
import { cropCentre, type Picture, pictureFile, readPicture } from '../diffusion/pictures.js';
import { createGenerator, type Generator } from '../diffusion/random.js';
import { createSdxlScheduler, type Scheduler } from '../diffusion/schedulers/index.js';
import { followStages, type Stages } from '../diffusion/stages.js';
import type { GeneratedFile, SdxlGenerateParams, SdxlGenerateResult } from '../generation.js';
import { EngineFailure, type RequestContext, throwIfCancelled } from '../engine.js';
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

/** What the stages of one request share. */
interface Request {
  pipeline: Pipeline;
  /**
   * As asked, but for the size: between the graph's multiples a picture is drawn a little larger and cropped.
   */
  drawn: SdxlGenerateParams;
  stages: Stages;
  signal: AbortSignal;
}

interface Inputs {
  text: EncodedText;
  reference: PreparedReference;
  /** Schedulers keep history: each batch has its own. */
  createScheduler(): Scheduler;
}

/**
 * Ancestral samplers draw their step noise from a generator of its own, this far from the image's seed (as
 * the recorded references do).
 */
const stepNoiseSeedOffset = 100_000;

/**
 * One SDXL request: text once, then batch by batch denoise and decode on the device, files written while the
 * next one computes. A request that fails or is cancelled leaves no picture behind.
 */
export async function generateImages(
  pipeline: Pipeline,
  params: SdxlGenerateParams,
  context: RequestContext,
): Promise<SdxlGenerateResult> {
  const { signal } = context;
  const stages = followStages(context);
  const request: Request = { pipeline, drawn: drawnSize(pipeline.model, params), stages, signal };
  const { numImages } = params;
  const writing: Array<Promise<GeneratedFile>> = [];
  try {
    const inputs = await context.compute(async () => {
      throwIfCancelled(signal);
      const encoded = await encodeInputs(request);
      for (let first = 0; first < numImages; first += pipeline.batchSize) {
        const images = Math.min(pipeline.batchSize, numImages - first);
        const latents = await drawLatents(request, encoded, first, images);
        for (let i = 0; i < images; i += 1) {
          stages.report('decode', first + i, numImages);
          const { width, height } = request.drawn;
          const whole = await stages.timed('decode', () =>
            decodeLatents(pipeline.model, latents[i] as Float32Array, width, height),
          );
          await stages.checkpoint();
          const picture = cropCentre(whole, params.width, params.height);
          const write = stages.timed('encode', () =>
            fileWriter.image(params, String(first + i), picture, params.seed + first + i),
          );
          write.catch(() => undefined);
          writing.push(write);
        }
      }
      return encoded;
    });
    stages.report('encode', 0, numImages);
    const files = await Promise.all(writing);
    await stages.previewWritten();
    throwIfCancelled(signal);
    stages.report('encode', numImages, numImages);
    return describeResult(request, inputs, files);
  } catch (error) {
    await Promise.allSettled([...writing, stages.previewWritten()]);
    await Promise.all(
      Array.from({ length: numImages }, (_, i) => rm(pictureFile(params, String(i)), { force: true })),
    );
    throw error;
  }
}

/** @throws EngineFailure `invalid_parameters` for sizes that are no whole number of latents */
function drawnSize(model: SdxlModel, params: SdxlGenerateParams): SdxlGenerateParams {
  for (const field of ['width', 'height'] as const) {
    if (!Number.isInteger(params[field]) || params[field] <= 0 || params[field] % model.vaeScale !== 0) {
      throw new EngineFailure(
        'invalid_parameters',
        `config.${field} must be a positive multiple of ${model.vaeScale}`,
        `config.${field}`,
      );
    }
  }
  const roundUp = (pixels: number) => Math.ceil(pixels / model.sizeMultiple) * model.sizeMultiple;
  return { ...params, width: roundUp(params.width), height: roundUp(params.height) };
}

async function encodeInputs({ pipeline, drawn, stages }: Request): Promise<Inputs> {
  stages.report('text', 0, 1);
  const text = await stages.timed('text', () => pipeline.texts.encode(drawn));
  let reference: PreparedReference = {};
  if (drawn.reference !== undefined) {
    stages.report('reference', 0, 1);
    reference = await stages.timed('reference', () => prepareReference(pipeline.model, drawn));
  }
  const { strength } = reference;
  return {
    text,
    reference,
    createScheduler: () =>
      createSdxlScheduler(drawn.scheduler, pipeline.model.schedulerConfig, {
        steps: drawn.steps,
        ...(strength === undefined ? {} : { strength }),
      }),
  };
}

interface PreparedReference {
  adapter?: AdapterInput;
  /** Image-to-image: the fitted picture and how much of the schedule is run on it. */
  picture?: Picture;
  strength?: number;
}

async function prepareReference(
  model: SdxlModel,
  { reference, width, height }: SdxlGenerateParams,
): Promise<PreparedReference> {
  if (reference === undefined) return {};
  if (model.adapterLayers !== null)
    return { adapter: await adapterInput(model, reference, model.adapterLayers) };
  return {
    picture: await readPicture(reference.path, width, height),
    strength: imageToImageStrength(reference),
  };
}

/**
 * Latents [C, h, w] of images that are denoised together, each from its own seed.
 * @param first index of the first image within the request
 */
async function drawLatents(
  { pipeline, drawn, stages, signal }: Request,
  { text, reference, createScheduler }: Inputs,
  first: number,
  images: number,
): Promise<Float32Array[]> {
  const { model, preview, rowLimit } = pipeline;
  const scheduler = createScheduler();
  const seeds = Array.from({ length: images }, (_, i) => drawn.seed + first + i);
  const starts: Float32Array[] = [];
  for (const seed of seeds)
    starts.push(await startLatents(model, drawn, createGenerator(seed), reference.picture, scheduler));
  const size = starts[0]?.length ?? 0;
  const stepNoises = seeds.map((seed) => createGenerator(seed + stepNoiseSeedOffset));
  const steps = scheduler.timesteps.length;
  const latents = await stages.timed('denoise', () =>
    denoise(model, concat(starts), {
      images,
      rowLimit,
      positive: text.positive,
      negative: text.negative,
      guidanceScale: drawn.guidanceScale,
      width: drawn.width,
      height: drawn.height,
      scheduler,
      stepNoise: () => concat(stepNoises.map((generator) => generator.randn(size))),
      ...(reference.adapter === undefined ? {} : { adapter: reference.adapter }),
      signal,
      onStep(index, current) {
        const reported = first * steps + (index + 1) * images;
        stages.report('denoise', reported, steps * drawn.numImages);
        const shown = { step: index + 1, steps, reported, first, drawn: images, images: drawn.numImages };
        stages.preview(drawn, shown, preview, (i) => current.subarray(i * size, (i + 1) * size));
      },
    }),
  );
  return seeds.map((_, i) => latents.subarray(i * size, (i + 1) * size));
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

function describeResult(request: Request, inputs: Inputs, files: GeneratedFile[]): SdxlGenerateResult {
  const { drawn, stages } = request;
  const { combined } = inputs.text;
  return {
    files,
    timings: stages.timings,
    weightsUsed: combined.used,
    weightsDropped: combined.dropped,
    tokenCount: combined.tokenCount,
    truncated: combined.truncated,
    ...(combined.cut === '' ? {} : { cut: combined.cut }),
    ...(inputs.text.negativeCut === '' ? {} : { negativeCut: inputs.text.negativeCut }),
    ...(drawn.reference === undefined
      ? {}
      : { referenceMethod: inputs.reference.adapter === undefined ? 'img2img' : 'ip_adapter' }),
    ...(drawn.explain ? { explain: explain(request, inputs) } : {}),
  };
}

/** What `--explain` shows: names and numbers, never a tensor. */
function explain(
  { pipeline: { texts, rowLimit }, drawn, stages }: Request,
  { text, createScheduler }: Inputs,
): Record<string, unknown> {
  const { timesteps, sigmas } = createScheduler();
  return {
    tokens: text.tokens,
    negative_tokens: text.negativeTokens,
    scheduler: drawn.scheduler,
    timesteps,
    sigmas: Array.from(sigmas),
    timings: stages.timings,
    graph_seconds: stages.graphSeconds,
    text_from_cache: text.fromCache,
    text_cache: texts.use(),
    ...(Number.isFinite(rowLimit.rows) ? { rows_per_unet_call: rowLimit.rows } : {}),
  };
}
