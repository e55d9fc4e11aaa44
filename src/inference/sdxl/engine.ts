import { generateImages, type Pipeline } from './generate.js';
import { openSdxlModel, probeGraph } from './model.js';
import { createTextCache, describePrompt } from './text-cache.js';
import { decodeToFloats } from './vae.js';
import { createDiffusionEngine } from '../diffusion/diffusion-engine.js';
import { learnLatentPreview } from '../diffusion/latent-preview.js';
import type { Engine } from '../engine.js';

/**
 * A GPU draws a job's images together. On a CPU a batch of six takes as long as six images one by one, which
 * come with earlier files, progress and cancellation, and are the same bytes as an image drawn alone.
 */
const largestBatch = 6;

export function createSdxlEngine(): Engine {
  return createDiffusionEngine<Pipeline>({
    kind: 'sdxl',
    probeGraph,

    async open({ modelDir, device, threads, deviceMemoryBytes = null, options = {} }, log) {
      const model = await openSdxlModel(modelDir, {
        log,
        device,
        threads,
        deviceMemoryBytes,
        longPrompts: options['longPrompts'] === 'chunk' ? 'chunk' : 'truncate',
      });
      return {
        model,
        texts: createTextCache(model),
        preview: null,
        batchSize: device === 'cpu' ? 1 : largestBatch,
        rowLimit: { rows: Infinity },
      };
    },

    describe: ({ model }) => ({
      features: model.features,
      defaultWidth: model.defaultSize,
      defaultHeight: model.defaultSize,
    }),

    drawSmall: (pipeline, outputDir, context) =>
      generateImages(
        pipeline,
        {
          jobId: 'warm-up',
          outputDir,
          prompt: 'a red circle',
          negativePrompt: null,
          parseWeights: false,
          weights: [],
          // the fused layer norms of CUDA take their time for the first four passes of a process
          steps: pipeline.model.device === 'cuda' ? 5 : 2,
          guidanceScale: 6,
          scheduler: 'dpmpp_2m_karras',
          width: pipeline.model.defaultSize,
          height: pipeline.model.defaultSize,
          seed: 0,
          numImages: 1,
          format: 'png',
          previewEverySteps: 0,
          parametersText: '',
          explain: false,
        },
        context,
      ),

    fitPreview: ({ model }) =>
      learnLatentPreview(
        { channels: model.latentChannels, scale: model.vaeScale, blots: 4 },
        (latents, side) => decodeToFloats(model, latents, side * model.vaeScale, side * model.vaeScale),
      ),

    methods: (loaded) => ({
      'sdxl.generate': async (params, context) => generateImages(loaded(), params, context),
      'sdxl.describePrompt': async (params, context) =>
        context.compute(() => describePrompt(loaded().model, params)),
    }),
  });
}
