import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import { generateImages, type Pipeline } from './generate.js';
import { openSdxlModel, probeGraph } from './model.js';
import { createTextCache, describePrompt } from './text-cache.js';
import { decodeToFloats } from './vae.js';
import { fitLatentPreview } from '../diffusion/latent-preview.js';
import { createGenerator } from '../diffusion/random.js';
import { type Engine, EngineFailure, requireModelFiles } from '../engine.js';
import { chooseDevice } from '../onnx/device.js';

/**
 * A GPU draws a job's images together. On a CPU a batch of six takes as long as six images one by one, which
 * come with earlier files, progress and cancellation, and are the same bytes as an image drawn alone.
 */
const largestBatch = 6;

/** SDXL behind the engine protocol. */
export function createSdxlEngine(): Engine {
  let pipeline: Pipeline | undefined;
  const loaded = (): Pipeline => {
    if (pipeline === undefined) throw new EngineFailure('not_loaded', 'load the SDXL model first');
    return pipeline;
  };

  return {
    async load({ modelDir, device: preference, threads: asked, deviceMemoryBytes, options = {} }) {
      const startedAt = performance.now();
      requireModelFiles('sdxl', modelDir);
      await pipeline?.model.release();
      pipeline = undefined;
      const threads = asked > 0 ? asked : Math.min(availableParallelism(), 16);
      const { device, notes } = await chooseDevice(preference, path.join(modelDir, probeGraph), threads);
      const model = await openSdxlModel(modelDir, {
        device,
        threads,
        deviceMemoryBytes: deviceMemoryBytes ?? null,
        longPrompts: options['longPrompts'] === 'chunk' ? 'chunk' : 'truncate',
      });
      const batchSize = device === 'cpu' ? 1 : largestBatch;
      pipeline = {
        model,
        texts: createTextCache(model),
        preview: null,
        batchSize,
        rowLimit: { rows: Infinity },
      };
      return {
        device,
        deviceNotes: notes,
        loadSeconds: (performance.now() - startedAt) / 1000,
        model: {
          name: path.basename(modelDir),
          features: model.features,
          defaultWidth: model.defaultSize,
          defaultHeight: model.defaultSize,
        },
      };
    },

    async warmUp(context) {
      const ready = loaded();
      const { model } = ready;
      const outputDir = await mkdtemp(path.join(tmpdir(), 'ourvidz-warm-up-'));
      try {
        await generateImages(
          ready,
          {
            jobId: 'warm-up',
            outputDir,
            prompt: 'a red circle',
            negativePrompt: null,
            parseWeights: false,
            weights: [],
            steps: 2,
            guidanceScale: 6,
            scheduler: 'dpmpp_2m_karras',
            width: model.defaultSize,
            height: model.defaultSize,
            seed: 0,
            numImages: 1,
            format: 'png',
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
        // soft blots of every colour the latents can mean; 16 latents square are enough for five unknowns
        const side = 16;
        const coarse = createGenerator(1).randn(model.latentChannels * 16);
        const latents = Float32Array.from({ length: model.latentChannels * side * side }, (_, i) => {
          const [c, y, x] = [Math.floor(i / side ** 2), Math.floor(i / side) % side, i % side];
          return coarse[c * 16 + Math.floor(y / 4) * 4 + Math.floor(x / 4)] as number;
        });
        const size = side * model.vaeScale;
        const decoded = await decodeToFloats(model, latents, size, size);
        ready.preview = fitLatentPreview(latents, decoded, {
          channels: model.latentChannels,
          width: side,
          height: side,
          scale: model.vaeScale,
        });
      });
    },

    methods: {
      'sdxl.generate': async (params, context) => generateImages(loaded(), params, context),
      'sdxl.describePrompt': async (params, context) =>
        context.compute(() => describePrompt(loaded().model, params)),
    },

    async unload() {
      await pipeline?.model.release();
      pipeline = undefined;
    },
  };
}
