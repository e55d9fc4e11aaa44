import { concat, guide } from '../diffusion/floats.js';
import { createFlowScheduler, flowSchedulerSigmas, type Scheduler } from '../diffusion/schedulers/index.js';
import { checkpoint } from '../engine.js';
import type { FlowSchedulerName } from '../generation.js';
import { runInRows } from '../onnx/rows.js';
import type { LatentShape } from './latents.js';
import type { WanModel } from './model.js';
import { mixKnownFrames, pinKnownFrames, showKnownFrames, type KnownLatents } from './references.js';
import { type EncodedPrompt, textInputs } from './text.js';
import type { VaceControl } from './vace.js';

/**
 * Tokens up to which both passes of the guidance share one call; a longer clip fills a device by itself and
 * needs its memory.
 */
const sharedCallTokens = 4096;

export interface DenoiseOptions {
  positive: EncodedPrompt;
  /** Unused when the guidance scale is 1 or less: there is no second pass then. */
  negative: EncodedPrompt;
  guidanceScale: number;
  scheduler: FlowSchedulerName;
  steps: number;
  shift: number;
  known: KnownLatents | null;
  /** VACE's inputs, the same for both passes. */
  control?: VaceControl;
  signal: AbortSignal;
  /** How many steps will be run. */
  onSchedule?(steps: number): void;
  /** After each step: the sample, and the clean clip the model predicted in it. */
  onStep(index: number, latents: Float32Array, prediction: Float32Array): void | Promise<void>;
}

export interface Denoised {
  latents: Float32Array;
  /** The schedule that was run. */
  scheduler: Scheduler;
}

/**
 * Flow matching with classifier-free guidance: unit noise [C, F, h, w] in, latents out; v = neg + g·(pos -
 * neg) in float32. A clip that is known as a whole begins at the noise level where it is released.
 */
export async function denoise(
  model: WanModel,
  noise: Float32Array,
  shape: LatentShape,
  options: DenoiseOptions,
): Promise<Denoised> {
  const { positive, negative, guidanceScale, known, signal } = options;
  const sigmas = flowSchedulerSigmas(options.scheduler, options.steps, options.shift);
  const first = known !== null && known.frames.size === shape.frames ? firstBelow(sigmas, known.release) : 0;
  const held = (index: number) =>
    known !== null && known.frames.size < shape.frames && (sigmas[first + index] as number) >= known.release;
  let prediction = noise;
  const scheduler = createFlowScheduler(options.scheduler, {
    steps: options.steps,
    shift: options.shift,
    first,
    editPrediction(x0, index) {
      prediction = known !== null && held(index) ? pinKnownFrames(x0, shape, known) : x0;
      return prediction;
    },
  });

  options.onSchedule?.(scheduler.timesteps.length);

  const guided = guidanceScale > 1;
  const sides = guided ? [negative, positive] : [positive];
  const rows = sides.length;
  const dims = [1, shape.channels, shape.frames, shape.height, shape.width];
  const conditioning = {
    ...(await textInputs(model, {
      data: concat(sides.map(({ embeds }) => embeds)),
      dims: [rows, model.tokenizer.maxLength, positive.embeds.length / model.tokenizer.maxLength],
    })),
    ...(options.control === undefined ? {} : { control_hidden_states: options.control.states }),
  };
  const tokens = (shape.frames * shape.height * shape.width) / model.latentsPerToken;
  const shared =
    options.control === undefined
      ? {}
      : {
          control_hidden_states_scale: { data: options.control.scale, dims: [options.control.scale.length] },
        };
  const limit = { rows: tokens <= sharedCallTokens ? rows : 1 };

  let latents =
    known === null ? noise : mixKnownFrames(noise, shape, known, scheduler.sigmas[first] as number);
  for (const [index, timestep] of scheduler.timesteps.entries()) {
    await checkpoint(signal);
    const shown = known?.clean === true && held(index) ? showKnownFrames(latents, shape, known) : latents;
    // every row has the same timestep: built transformers compute the modulation of one for all
    const feeds = {
      ...conditioning,
      hidden_states: { data: shown, dims },
      timestep: { data: [timestep], dims: [1] },
    };
    const output = await runInRows(model.transformer, feeds, 'sample', { rows, shared, limit, signal });
    latents = scheduler.step(index, guided ? guide(output, guidanceScale) : concat(output), latents);
    await options.onStep(index, latents, prediction);
  }
  return { latents, scheduler };
}

/** First step at or below a noise level; the last step when there is none. */
function firstBelow(sigmas: readonly number[], level: number): number {
  const found = sigmas.findIndex((sigma) => sigma <= level);
  return found < 0 ? sigmas.length - 1 : found;
}
