import { combine } from '../floats.js';

/**
 * A sampler over one schedule. Arrays are float32 of any one shape; steps are numbered from the first one
 * that is run. Multistep samplers keep history: one instance per generation, steps in order.
 */
export interface Scheduler {
  /** What the model is told at each step that is run. */
  readonly timesteps: readonly number[];
  /** The whole schedule, before `strength` cut it, with the final 0. */
  readonly sigmas: Float32Array;
  /** Unit noise times this is the start of a run from pure noise. */
  readonly initNoiseSigma: number;
  /**
   * Model input of step `index` for the sample; a new array, or the sample itself where nothing is scaled.
   */
  scaleModelInput(sample: Float32Array, index: number): Float32Array;
  /** The sample after step `index`. `noise` is unit noise for ancestral samplers, see `needsNoise`. */
  step(index: number, modelOutput: Float32Array, sample: Float32Array, noise?: Float32Array): Float32Array;
  /**
   * Start of an image-to-image run: the clean latents brought to the noise level of the first step that is
   * run.
   */
  addNoise(original: Float32Array, noise: Float32Array): Float32Array;
  readonly needsNoise: boolean;
}

export interface ScheduleOptions {
  steps: number;
  /**
   * Image-to-image: only the last `min(floor(steps·strength), steps)` steps are run; at least one. Absent:
   * all.
   */
  strength?: number;
  /** Begin at this step of the schedule, 0 being the first; `strength` is not looked at then. */
  first?: number;
}

/** Index of the first step that is run (diffusers, StableDiffusionXLImg2ImgPipeline.get_timesteps). */
export function firstStep({ steps, strength, first }: ScheduleOptions): number {
  if (first !== undefined) return Math.max(0, Math.min(first, steps - 1));
  if (strength === undefined) return 0;
  return steps - Math.max(1, Math.min(Math.trunc(steps * strength), steps));
}

/** How a noise level splits into signal and noise, and what the model's output means. */
export interface Parameterisation {
  alpha(sigma: number): number;
  noise(sigma: number): number;
  /** Half the log signal-to-noise ratio, ln α - ln(noise). */
  lambda(sigma: number): number;
  /** The clean sample the model predicts, as `a·sample + b·output`. */
  x0(sigma: number): [number, number];
}

/** SDXL's: α = 1/√(σ²+1), noise = σα; the model predicts the noise. */
export const variancePreserving: Parameterisation = {
  alpha: (sigma) => 1 / Math.sqrt(sigma ** 2 + 1),
  noise: (sigma) => sigma / Math.sqrt(sigma ** 2 + 1),
  lambda: (sigma) => -Math.log(sigma),
  x0: (sigma) => [Math.sqrt(sigma ** 2 + 1), -sigma],
};

/** Flow matching: x = (1-σ)·x0 + σ·noise; the model predicts the velocity noise - x0. */
export const flow: Parameterisation = {
  alpha: (sigma) => 1 - sigma,
  noise: (sigma) => sigma,
  lambda: (sigma) => Math.log(1 - sigma) - Math.log(sigma),
  x0: (sigma) => [1, -sigma],
};

/**
 * Lets the caller see and change the x0 prediction of a step, e.g. pin known latents; returns what to go on
 * with.
 */
export type EditPrediction = (x0: Float32Array, index: number) => Float32Array;

/** The clean sample that the model's output means at `sigma`, as the caller wants it. */
export function predictX0(
  p: Parameterisation,
  sigma: number,
  sample: Float32Array,
  modelOutput: Float32Array,
  index: number,
  edit?: EditPrediction,
): Float32Array {
  const [fromSample, fromOutput] = p.x0(sigma);
  const x0 = combine([fromSample, sample], [fromOutput, modelOutput]);
  return edit?.(x0, index) ?? x0;
}
