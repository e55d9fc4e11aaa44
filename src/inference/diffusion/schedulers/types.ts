/**
 * A sampler over one schedule. Arrays are float32 of any one shape; steps are numbered from the first one that is run.
 * Multistep samplers keep history: one instance per generation, steps in order.
 */
export interface Scheduler {
  /** What the model is told at each step that is run. */
  readonly timesteps: readonly number[];
  /** The whole schedule, before `strength` cut it, with the final 0. */
  readonly sigmas: Float32Array;
  /** Unit noise times this is the start of a run from pure noise. */
  readonly initNoiseSigma: number;
  /** Model input of step `index` for the sample; a new array, or the sample itself where nothing is scaled. */
  scaleModelInput(sample: Float32Array, index: number): Float32Array;
  /** The sample after step `index`. `noise` is unit noise for ancestral samplers, see `needsNoise`. */
  step(index: number, modelOutput: Float32Array, sample: Float32Array, noise?: Float32Array): Float32Array;
  /** Start of an image-to-image run: the clean latents brought to the noise level of the first step that is run. */
  addNoise(original: Float32Array, noise: Float32Array): Float32Array;
  readonly needsNoise: boolean;
}

export interface ScheduleOptions {
  steps: number;
  /** Image-to-image: only the last `min(floor(steps·strength), steps)` steps are run; at least one. Absent: all. */
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
