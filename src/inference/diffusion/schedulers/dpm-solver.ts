import { createNoiseSchedule, karrasSigmas, roundHalfEven, sigmaAt, solverTimesteps, timestepOf, withFinalZero, type NoiseScheduleConfig } from './noise-schedule.js';
import { firstStep, type ScheduleOptions, type Scheduler } from './types.js';

/**
 * DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095), midpoint, epsilon prediction, final sigma zero.
 * The sample is variance preserving: α = 1/√(σ²+1), s = σα, λ = ln(α/s) = -ln σ.
 * Source: diffusers, scheduling_dpmsolver_multistep.py.
 */
export function createDpmSolver(config: NoiseScheduleConfig, options: ScheduleOptions & { karras: boolean }): Scheduler {
  const schedule = createNoiseSchedule(config);
  const steps = options.steps;
  const plain = options.karras ? karrasSigmas(schedule, steps) : solverTimesteps(schedule, steps).map((timestep) => sigmaAt(schedule, timestep));
  // low-noise timesteps may repeat, so steps are counted, never looked up by timestep
  const all = options.karras ? plain.map((sigma) => roundHalfEven(timestepOf(schedule, sigma))) : solverTimesteps(schedule, steps);
  const sigmas = withFinalZero(plain);
  const first = firstStep(options);
  const sigma = (index: number) => sigmas[first + index] as number;
  const alpha = (value: number) => 1 / Math.sqrt(value ** 2 + 1);
  const lambda = (value: number) => -Math.log(value);
  let previous: Float32Array | undefined;

  return {
    timesteps: all.slice(first),
    sigmas,
    initNoiseSigma: 1,
    needsNoise: false,
    scaleModelInput: (sample) => sample,
    step(index, modelOutput, sample) {
      const from = sigma(index);
      const to = sigma(index + 1);
      const x0 = sample.map((value, i) => (value - from * alpha(from) * (modelOutput[i] as number)) / alpha(from));
      const before = previous;
      previous = x0;
      // λ(0) is infinite: the last step lands on x0 itself, and is of first order
      if (to === 0) return x0;
      const h = lambda(to) - lambda(from);
      const keep = (to * alpha(to)) / (from * alpha(from));
      const gain = -alpha(to) * Math.expm1(-h);
      if (before === undefined) return sample.map((value, i) => keep * value + gain * (x0[i] as number));
      const ratio = (lambda(from) - lambda(sigma(index - 1))) / h;
      return sample.map((value, i) => {
        const current = x0[i] as number;
        return keep * value + gain * (current + (0.5 * (current - (before[i] as number))) / ratio);
      });
    },
    addNoise(original, noise) {
      const scale = alpha(sigma(0));
      return original.map((value, i) => scale * value + scale * sigma(0) * (noise[i] as number));
    },
  };
}
