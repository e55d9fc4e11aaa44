import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { generateClip, type WanPipeline } from './generate.js';
import { openWanModel, probeGraph, type WanModel } from './model.js';
import { createPromptCache } from './text.js';
import { decodeClip } from './vae.js';
import { fitLatentPreview, type LatentPreview } from '../diffusion/latent-preview.js';
import { createGenerator } from '../diffusion/random.js';
import { type Engine, EngineFailure, requireModelFiles } from '../engine.js';
import { chooseDevice } from '../onnx/device.js';
import { findVideoTools, videoToolsCure } from '../../lib/video-tools.js';

/** Wan 2.1 behind the engine protocol. */
export function createWanEngine(): Engine {
  let pipeline: WanPipeline | undefined;
  const loaded = (): WanPipeline => {
    if (pipeline === undefined) throw new EngineFailure('not_loaded', 'load the Wan model first');
    return pipeline;
  };

  return {
    async load({ modelDir, device: preference, threads: asked, options = {} }, log) {
      const startedAt = performance.now();
      requireModelFiles('wan', modelDir);
      await pipeline?.model.release();
      pipeline = undefined;
      const threads = asked > 0 ? asked : Math.min(availableParallelism(), 16);
      const { device, notes } = await chooseDevice(preference, path.join(modelDir, probeGraph), threads);
      const model = await openWanModel(modelDir, { device, threads });
      const findTools = () =>
        findVideoTools(typeof options['ffmpeg'] === 'string' ? options['ffmpeg'] : undefined);
      const videoTools = await findTools();
      if (videoTools === null) log('warn', `Videos cannot be encoded here, pictures can. ${videoToolsCure}`);
      pipeline = { model, texts: createPromptCache(model), preview: null, videoTools, findTools };
      return {
        device,
        deviceNotes: notes,
        loadSeconds: (performance.now() - startedAt) / 1000,
        model: {
          name: path.basename(modelDir),
          features: [...model.features, ...(videoTools === null ? [] : ['video_encoder'])],
          defaultWidth: model.defaultWidth,
          defaultHeight: model.defaultHeight,
          defaultFrames: model.defaultFrames,
          sizeMultiple: model.sizeMultiple,
        },
      };
    },

    /** Two latent frames, so that every graph and the video encoder have run. */
    async warmUp(context) {
      const ready = loaded();
      const { model, videoTools } = ready;
      const outputDir = await mkdtemp(path.join(tmpdir(), 'ourvidz-warm-up-'));
      const video = videoTools !== null;
      try {
        await generateClip(
          ready,
          {
            jobId: 'warm-up',
            outputDir,
            prompt: 'a red circle',
            negativePrompt: null,
            steps: 2,
            guidanceScale: 5,
            shift: 5,
            scheduler: 'unipc',
            width: model.defaultWidth,
            height: model.defaultHeight,
            frames: video ? 1 + model.framesPerLatent : 1,
            seed: 0,
            output: video ? 'video' : 'image',
            format: 'png',
            crf: 23,
            framesPerSecond: 16,
            references: {},
            referenceStrength: null,
            previewEverySteps: 0,
            parametersText: '',
            explain: false,
          },
          context,
        );
      } finally {
        await rm(outputDir, { recursive: true, force: true });
      }
      await context.compute(async () => {
        ready.preview = await fitPreview(model);
      });
    },

    methods: {
      'wan.generate': async (params, context) => {
        try {
          return await generateClip(loaded(), params, context);
        } finally {
          // a clip's tensors lie outside the heap, where nothing hurries the collector
          collectGarbage();
        }
      },
    },

    async unload() {
      await pipeline?.model.release();
      pipeline = undefined;
    },
  };
}

/**
 * Colours of normalised latents, learnt from one decoded frame of soft blots of every colour the latents can
 * mean.
 */
async function fitPreview(model: WanModel): Promise<LatentPreview> {
  const side = 16;
  const blots = 8;
  const coarse = createGenerator(1).randn(model.channels * blots * blots);
  const latents = Float32Array.from({ length: model.channels * side * side }, (_, i) => {
    const [c, y, x] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
    return coarse[
      c * blots * blots + Math.floor((y * blots) / side) * blots + Math.floor((x * blots) / side)
    ] as number;
  });
  let decoded = new Float32Array();
  await decodeClip(
    model,
    latents,
    { channels: model.channels, frames: 1, height: side, width: side },
    async (frame) => {
      decoded = Float32Array.from(frame);
    },
  );
  return fitLatentPreview(latents, decoded, {
    channels: model.channels,
    width: side,
    height: side,
    scale: model.vaeScale,
  });
}

// the collector's entry is a flag of V8; a context made after it is set has the function
setFlagsFromString('--expose-gc');

/**
 * Frees what is unreachable now, rather than when V8 thinks it worth while: for tensors that a finished
 * request held.
 */
export const collectGarbage = runInNewContext('gc') as () => void;
