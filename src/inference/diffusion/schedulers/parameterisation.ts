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

/** Lets the caller see and change the x0 prediction of a step, e.g. pin known latents; returns what to go on with. */
export type EditPrediction = (x0: Float32Array, index: number) => Float32Array;

/** The clean sample that the model's output means at `sigma`, as the caller wants it. */
export function predictX0(p: Parameterisation, sigma: number, sample: Float32Array, modelOutput: Float32Array, index: number, edit?: EditPrediction): Float32Array {
  const [fromSample, fromOutput] = p.x0(sigma);
  const x0 = sample.map((value, i) => fromSample * value + fromOutput * (modelOutput[i] as number));
  return edit?.(x0, index) ?? x0;
}
