import { generateClip, type WanPipeline } from './generate.js';
import { openWanModel, probeGraph } from './model.js';
import { createPromptCache } from './text.js';
import { decodeClip } from './vae.js';
import { createDiffusionEngine } from '../diffusion/diffusion-engine.js';
import { collectGarbage } from '../diffusion/floats.js';
import { learnLatentPreview } from '../diffusion/latent-preview.js';
import type { Engine } from '../engine.js';
import { findVideoTools, videoToolsCure } from '../../lib/video-tools.js';

export function createWanEngine(): Engine {
  return createDiffusionEngine<WanPipeline>({
    kind: 'wan',
    probeGraph,

    async open({ modelDir, device, threads, options = {} }, log) {
      const model = await openWanModel(modelDir, { device, threads });
      const findTools = () =>
        findVideoTools(typeof options['ffmpeg'] === 'string' ? options['ffmpeg'] : undefined);
      const videoTools = await findTools();
      if (videoTools === null) log('warn', `Only pictures can be made here, no videos. ${videoToolsCure}`);
      return { model, texts: createPromptCache(model), preview: null, videoTools, findTools };
    },

    describe: ({ model, videoTools }) => ({
      features: [...model.features, ...(videoTools === null ? [] : ['video_encoder'])],
      defaultWidth: model.defaultWidth,
      defaultHeight: model.defaultHeight,
      defaultFrames: model.defaultFrames,
      sizeMultiple: model.sizeMultiple,
    }),

    // two latent frames, so that both of the VAE's graphs and the video encoder have run
    drawSmall: (pipeline, outputDir, context) => {
      const { model, videoTools } = pipeline;
      const output = videoTools === null ? 'image' : 'video';
      return generateClip(
        pipeline,
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
          frames: output === 'image' ? 1 : 1 + model.framesPerLatent,
          seed: 0,
          output,
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
    },

    fitPreview: ({ model }) =>
      learnLatentPreview(
        { channels: model.channels, scale: model.vaeScale, blots: 8 },
        async (latents, side) => {
          let decoded = new Float32Array();
          const shape = { channels: model.channels, frames: 1, height: side, width: side };
          await decodeClip(model, latents, shape, async (frame) => {
            decoded = Float32Array.from(frame);
          });
          return decoded;
        },
      ),

    methods: (loaded) => ({
      'wan.generate': async (params, context) => {
        try {
          return await generateClip(loaded(), params, context);
        } finally {
          // a clip's tensors lie outside the heap, where nothing hurries the collector
          collectGarbage();
        }
      },
    }),
  });
}
