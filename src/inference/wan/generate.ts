import { rm } from 'node:fs/promises';
import path from 'node:path';
import { denoise, type Denoised } from './denoise.js';
import { dropFrames, latentShape, type LatentShape, takeFrame } from './latents.js';
import { requireValid, type WanModel } from './model.js';
import { encodeReferences, type KnownLatents } from './references.js';
import type { EncodedPrompt, PromptCache } from './text.js';
import { prepareVace, type VaceControl } from './vace.js';
import { decodeClip } from './vae.js';
import { type ClipWriter, fileWriter } from '../diffusion/file-writer.js';
import type { LatentPreview } from '../diffusion/latent-preview.js';
import { type Picture, pictureFile, toPictures } from '../diffusion/pictures.js';
import { createGenerator } from '../diffusion/random.js';
import { followStages, type Stages } from '../diffusion/stages.js';
import { requireVideoTools } from '../diffusion/video-file.js';
import {
  type GeneratedFile,
  type WanGenerateParams,
  type WanGenerateResult,
  wanReferenceMode,
} from '../generation.js';
import { type RequestContext, throwIfCancelled } from '../engine.js';
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

/** What the stages of one request share. */
interface Request {
  pipeline: WanPipeline;
  params: WanGenerateParams;
  /** Of the clip, without what VACE puts in front of it. */
  shape: LatentShape;
  stages: Stages;
  signal: AbortSignal;
}

interface Inputs {
  positive: EncodedPrompt;
  negative: EncodedPrompt;
  known: KnownLatents | null;
  control: VaceControl | null;
}

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
  const { signal } = context;
  requireValid(model, params);
  if (params.output === 'video') pipeline.videoTools ??= (await pipeline.findTools?.()) ?? null;
  const tools = params.output === 'video' ? requireVideoTools(pipeline.videoTools) : null;
  const videoFile = path.join(params.outputDir, '0.mp4');
  const stages = followStages(context);
  const request: Request = { pipeline, params, shape: latentShape(model, params), stages, signal };
  let video: ClipWriter | undefined;
  try {
    const { inputs, denoised, first } = await context.compute(async () => {
      throwIfCancelled(signal);
      const encoded = await encodeInputs(request);
      const drawn = await stages.timed('denoise', () => drawLatents(request, encoded));
      throwIfCancelled(signal);
      if (tools !== null) {
        const options = { ...params, parameters: params.parametersText, signal };
        video = await fileWriter.openVideo(tools, videoFile, options);
      }
      return { inputs: encoded, denoised: drawn, first: await decode(request, drawn.latents, video) };
    });
    const files = await stages.timed('encode', () => writeFiles(request, video, first));
    await stages.previewWritten();
    return describeResult(request, inputs, denoised, files);
  } catch (error) {
    await Promise.allSettled([video?.abandon(), stages.previewWritten()]);
    for (const file of [videoFile, pictureFile(params, pictureName(params))]) await rm(file, { force: true });
    throw error;
  }
}

async function encodeInputs({ pipeline, params, shape, stages }: Request): Promise<Inputs> {
  const { model, texts } = pipeline;
  const { references, referenceStrength: strength } = params;
  stages.report('text', 0, 2);
  const [positive, negative] = await stages.timed('text', async () => {
    const wanted = await texts(params.prompt);
    await stages.checkpoint();
    stages.report('text', 1, 2);
    return [wanted, await texts(params.negativePrompt ?? '')] as const;
  });
  const isVace = model.vaceHints > 0;
  if (!isVace && wanReferenceMode(references) === 'none')
    return { positive, negative, known: null, control: null };
  await stages.checkpoint();
  stages.report('reference', 0, 1);
  return stages.timed('reference', async () => ({
    positive,
    negative,
    known: isVace ? null : await encodeReferences(model, references, shape, strength),
    control: isVace ? await prepareVace(model, references, shape, strength, stages.checkpoint) : null,
  }));
}

/** Latents [C, F, h, w] of the clip from the seed's noise. */
async function drawLatents(
  { pipeline, params, shape: clip, stages, signal }: Request,
  { positive, negative, known, control }: Inputs,
): Promise<Denoised> {
  const inFront = control?.referenceFrames ?? 0;
  const shape = { ...clip, frames: clip.frames + inFront };
  const noise = createGenerator(params.seed).randn(
    shape.channels * shape.frames * shape.height * shape.width,
  );
  let { steps } = params;
  stages.report('denoise', 0, steps);
  const denoised = await denoise(pipeline.model, noise, shape, {
    ...params,
    positive,
    negative,
    known,
    ...(control === null ? {} : { control }),
    signal,
    onSchedule(count) {
      steps = count;
    },
    onStep(index, _latents, prediction) {
      stages.report('denoise', index + 1, steps);
      stages.preview(params, { step: index + 1, steps }, pipeline.preview, () =>
        takeFrame(prediction, shape, inFront + Math.floor(clip.frames / 2)),
      );
    },
  });
  return { ...denoised, latents: dropFrames(denoised.latents, shape, inFront) };
}

/**
 * Decodes the clip into the video's encoder, if there is one.
 * @returns the picture, if there is no encoder
 */
async function decode(
  { pipeline, params, shape, stages }: Request,
  latents: Float32Array,
  video: ClipWriter | undefined,
): Promise<Picture | undefined> {
  let first: Picture | undefined;
  stages.report('decode', 0, shape.frames);
  await stages.timed('decode', () =>
    decodeClip(pipeline.model, latents, shape, async (chunk, latentFrame) => {
      for (const picture of toPictures(chunk, params.width, params.height)) {
        if (video === undefined) first ??= picture;
        else await video.write(picture);
      }
      stages.report('decode', latentFrame + 1, shape.frames);
      await stages.checkpoint();
    }),
  );
  return first;
}

const pictureName = ({ output }: WanGenerateParams) => (output === 'video' ? 'poster' : '0');

/** The video and its poster, which is its first frame; or the picture. */
async function writeFiles(
  { params, stages, signal }: Request,
  video: ClipWriter | undefined,
  picture: Picture | undefined,
): Promise<GeneratedFile[]> {
  const name = pictureName(params);
  const steps = video === undefined ? 1 : params.frames;
  let last = -1;
  const report = (step: number) => {
    if (step > last) stages.report('encode', step, steps);
    last = Math.max(step, last);
  };
  report(0);
  const files =
    video === undefined
      ? [await fileWriter.image(params, name, picture as Picture, params.seed)]
      : await video.finish({ request: params, name, seed: params.seed }, (frames) => {
          report(Math.min(frames, steps - 1));
        });
  throwIfCancelled(signal);
  report(steps);
  return files;
}

function describeResult(
  { pipeline, params, stages }: Request,
  inputs: Inputs,
  { scheduler }: Denoised,
  files: GeneratedFile[],
): WanGenerateResult {
  const { positive, known, control } = inputs;
  const mode = wanReferenceMode(params.references);
  const method = control !== null ? 'vace' : known?.clean === true ? 'latent_clean' : 'latent_overwrite';
  return {
    files,
    timings: stages.timings,
    frames: params.frames,
    tokenCount: positive.tokenCount,
    truncated: positive.truncated,
    referenceMode: mode,
    ...(mode === 'none' ? {} : { referenceMethod: method }),
    ...(params.explain
      ? {
          explain: {
            ...explain(pipeline.model, inputs, scheduler),
            timings: stages.timings,
            graph_seconds: stages.graphSeconds,
          },
        }
      : {}),
  };
}

/** What `--explain` shows: names and numbers, never a tensor. */
function explain(
  { tokenizer }: WanModel,
  { positive, negative, known }: Inputs,
  { timesteps, sigmas }: Denoised['scheduler'],
): Record<string, unknown> {
  return {
    tokens: positive.ids.map((id) => ({ token: tokenizer.tokenText(id), id })),
    negative_token_count: negative.tokenCount,
    timesteps,
    sigmas: Array.from(sigmas),
    ...(known === null
      ? {}
      : {
          reference: {
            firmness: known.firmness,
            released_below_sigma: known.release,
            latent_frames: [...known.frames.keys()],
          },
        }),
  };
}
