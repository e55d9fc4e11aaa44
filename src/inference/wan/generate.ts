import { rm } from 'node:fs/promises';
import path from 'node:path';
import { denoise, type Denoised } from './denoise.js';
import { latentShape, type LatentShape, takeFrame } from './latents.js';
import { requireValid, type WanModel } from './model.js';
import { encodeReferences, type KnownLatents, referenceMode } from './references.js';
import type { EncodedPrompt, PromptCache } from './text.js';
import { prepareVace, type VaceControl } from './vace.js';
import { decodeClip } from './vae.js';
import { requireVideoTools } from '../diffusion/ffmpeg.js';
import type { LatentPreview } from '../diffusion/latent-preview.js';
import { type Picture, toPictures, writeImage, writePreview } from '../diffusion/pictures.js';
import { createGenerator } from '../diffusion/random.js';
import { openVideo, type VideoWriter } from '../diffusion/video-file.js';
import {
  type GeneratedFile,
  pictureExtensions,
  type WanGenerateParams,
  type WanGenerateResult,
  type WanReferenceMethod,
} from '../engine-protocol.js';
import { type RequestContext, throwIfCancelled, yieldToMessages } from '../engine.js';
import type { VideoTools } from '../../lib/video-tools.js';

export interface WanPipeline {
  model: WanModel;
  texts: PromptCache;
  /** Null until warm-up has fitted it. */
  preview: LatentPreview | null;
  /** Null: no ffmpeg here, pictures only. */
  videoTools: VideoTools | null;
  /** Looks again: somebody may have installed it since. */
  findTools?: () => Promise<VideoTools | null>;
}

/** What the stages of one request hand on. */
interface Run {
  positive?: EncodedPrompt;
  negative?: EncodedPrompt;
  known: KnownLatents | null;
  control?: VaceControl;
  denoised?: Denoised;
}

type Clock = <T>(stage: string, work: () => Promise<T>) => Promise<T>;

/**
 * One Wan request: text, references, denoising and decoding on the device; frames go into the encoder while
 * later ones are decoded, and what the encoder still has to do then needs no device. Nothing is left behind
 * by a request that fails or is cancelled: no encoder process, no file.
 */
export async function generateClip(
  pipeline: WanPipeline,
  params: WanGenerateParams,
  context: RequestContext,
): Promise<WanGenerateResult> {
  const { model } = pipeline;
  requireValid(model, params);
  if (params.output === 'video') pipeline.videoTools ??= (await pipeline.findTools?.()) ?? null;
  const tools = params.output === 'video' ? requireVideoTools(pipeline.videoTools) : null;
  const timings: Record<string, number> = { text: 0, reference: 0, denoise: 0, decode: 0, encode: 0 };
  const clock: Clock = async (stage, work) => {
    const startedAt = performance.now();
    try {
      return await work();
    } finally {
      timings[stage] = (timings[stage] ?? 0) + (performance.now() - startedAt) / 1000;
    }
  };
  const run: Run = { known: null };
  let video: VideoWriter | undefined;
  let poster: Picture | undefined;
  try {
    await context.compute(async () => {
      throwIfCancelled(context.signal);
      const shape = latentShape(model, params);
      await encodeInputs(pipeline, params, shape, run, context, clock);
      const latents = await clock('denoise', () => drawLatents(pipeline, params, shape, run, context));
      throwIfCancelled(context.signal);
      if (tools !== null) {
        video = openVideo(tools, path.join(params.outputDir, '0.mp4'), {
          ...params,
          parameters: params.parametersText,
          signal: context.signal,
        });
      }
      context.emit({ kind: 'progress', stage: 'decode', step: 0, steps: shape.frames });
      await clock('decode', () =>
        decodeClip(model, latents, shape, async (chunk, latentFrame) => {
          for (const picture of toPictures(chunk, params.width, params.height)) {
            poster ??= picture;
            await video?.write(picture);
          }
          context.emit({ kind: 'progress', stage: 'decode', step: latentFrame + 1, steps: shape.frames });
          await yieldToMessages();
          throwIfCancelled(context.signal);
        }),
      );
    });
    const files = await clock('encode', () => writeFiles(params, video, poster as Picture, context));
    return describeResult(model, params, run, files, timings);
  } catch (error) {
    await video?.abandon();
    await Promise.all(
      ['0.mp4', pictureName(params)].map((name) => rm(path.join(params.outputDir, name), { force: true })),
    );
    throw error;
  }
}

async function encodeInputs(
  pipeline: WanPipeline,
  params: WanGenerateParams,
  shape: LatentShape,
  run: Run,
  context: RequestContext,
  clock: Clock,
): Promise<void> {
  const { model } = pipeline;
  context.emit({ kind: 'progress', stage: 'text', step: 0, steps: 2 });
  await clock('text', async () => {
    run.positive = await pipeline.texts(params.prompt);
    await yieldToMessages();
    throwIfCancelled(context.signal);
    context.emit({ kind: 'progress', stage: 'text', step: 1, steps: 2 });
    run.negative = await pipeline.texts(params.negativePrompt ?? '');
  });
  const isVace = model.vaceHints > 0;
  if (!isVace && referenceMode(params.references) === 'none') return;
  const checkpoint = async () => {
    await yieldToMessages();
    throwIfCancelled(context.signal);
  };
  await checkpoint();
  context.emit({ kind: 'progress', stage: 'reference', step: 0, steps: 1 });
  await clock('reference', async () => {
    if (isVace)
      run.control = await prepareVace(model, params.references, shape, params.referenceStrength, checkpoint);
    else run.known = await encodeReferences(model, params.references, shape, params.referenceStrength);
  });
}

/** Latents [C, F, h, w] of the clip from the seed's noise. */
async function drawLatents(
  pipeline: WanPipeline,
  params: WanGenerateParams,
  clip: LatentShape,
  run: Run,
  context: RequestContext,
): Promise<Float32Array> {
  const { model } = pipeline;
  const { positive, negative, known, control } = run;
  if (positive === undefined || negative === undefined)
    throw new Error('text is encoded before anything is drawn');
  const inFront = control?.referenceFrames ?? 0;
  const shape = { ...clip, frames: clip.frames + inFront };
  const noise = createGenerator(params.seed).randn(
    shape.channels * shape.frames * shape.height * shape.width,
  );
  const started = { steps: params.steps };
  context.emit({ kind: 'progress', stage: 'denoise', step: 0, steps: params.steps });
  run.denoised = await denoise(model, noise, shape, {
    positive,
    negative,
    known,
    ...params,
    ...(control === undefined ? {} : { control }),
    signal: context.signal,
    onSchedule(steps) {
      started.steps = steps;
    },
    async onStep(index, _latents, prediction) {
      const step = index + 1;
      context.emit({ kind: 'progress', stage: 'denoise', step, steps: started.steps });
      if (
        pipeline.preview === null ||
        params.previewEverySteps === 0 ||
        step % params.previewEverySteps !== 0 ||
        step === started.steps
      )
        return;
      const file = path.join(params.outputDir, `preview-${step}.webp`);
      const middle = takeFrame(prediction, shape, inFront + Math.floor(clip.frames / 2));
      await writePreview(
        file,
        pipeline.preview.render(middle, shape.width, shape.height),
        params.width,
        params.height,
      );
      context.emit({ kind: 'preview', step, path: file, contentType: 'image/webp' });
    },
  });
  return inFront === 0 ? run.denoised.latents : dropFrames(run.denoised.latents, shape, inFront);
}

function dropFrames(
  latents: Float32Array,
  { channels, frames, height, width }: LatentShape,
  count: number,
): Float32Array {
  const area = height * width;
  const kept = new Float32Array(channels * (frames - count) * area);
  for (let c = 0; c < channels; c += 1)
    kept.set(
      latents.subarray((c * frames + count) * area, (c + 1) * frames * area),
      c * (frames - count) * area,
    );
  return kept;
}

const pictureName = ({ output, format }: WanGenerateParams) =>
  `${output === 'video' ? 'poster' : '0'}.${pictureExtensions[format]}`;

/** The video and its poster, which is its first frame; or the picture. */
async function writeFiles(
  params: WanGenerateParams,
  video: VideoWriter | undefined,
  picture: Picture,
  context: RequestContext,
): Promise<GeneratedFile[]> {
  const steps = video === undefined ? 1 : params.frames;
  let last = -1;
  const report = (step: number) => {
    if (step > last) context.emit({ kind: 'progress', stage: 'encode', step, steps });
    last = Math.max(step, last);
  };
  report(0);
  const parameters = params.parametersText.replace('Seed: {seed}', `Seed: ${params.seed}`);
  const still = () =>
    writeImage(path.join(params.outputDir, pictureName(params)), picture, {
      format: params.format,
      parameters,
      seed: params.seed,
    });
  const files =
    video === undefined
      ? [await still()]
      : [
          await video.finish((frames) => {
            report(Math.min(frames, steps - 1));
          }),
          await still(),
        ];
  throwIfCancelled(context.signal);
  report(steps);
  return files;
}

function describeResult(
  model: WanModel,
  params: WanGenerateParams,
  { positive, negative, known, control, denoised }: Run,
  files: GeneratedFile[],
  timings: Record<string, number>,
): WanGenerateResult {
  if (positive === undefined || denoised === undefined)
    throw new Error('a finished request has its text encoded and its latents drawn');
  const mode = referenceMode(params.references);
  const method: WanReferenceMethod | undefined =
    mode === 'none'
      ? undefined
      : control !== undefined
        ? 'vace'
        : known?.clean === true
          ? 'latent_clean'
          : 'latent_overwrite';
  const tokens = positive.ids.map((id) => ({ token: model.tokenizer.tokenText(id), id }));
  return {
    files,
    timings,
    frames: params.frames,
    tokenCount: positive.tokenCount,
    truncated: positive.truncated,
    referenceMode: mode,
    ...(method === undefined ? {} : { referenceMethod: method }),
    ...(params.explain
      ? {
          explain: {
            tokens,
            negative_token_count: negative?.tokenCount ?? 0,
            timesteps: denoised.scheduler.timesteps,
            sigmas: Array.from(denoised.scheduler.sigmas),
            timings,
            ...(known === null
              ? {}
              : {
                  reference: {
                    firmness: known.firmness,
                    released_below_sigma: known.release,
                    latent_frames: [...known.frames.keys()],
                  },
                }),
          },
        }
      : {}),
  };
}
