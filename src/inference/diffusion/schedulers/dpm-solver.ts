import { type NoiseScheduleConfig, solverSchedule, withFinalZero } from './noise-schedule.js';
import {
  type EditPrediction,
  firstStep,
  flow,
  type Parameterisation,
  predictX0,
  type ScheduleOptions,
  type Scheduler,
  variancePreserving,
} from './scheduler.js';

/** DPM-Solver++ 2M for SDXL's noise (epsilon prediction), on the training timesteps or on Karras' levels. */
export function createDpmSolver(
  config: NoiseScheduleConfig,
  options: ScheduleOptions & { karras: boolean },
): Scheduler {
  const { timesteps, sigmas } = solverSchedule(config, options.steps, options.karras);
  return createSolver(variancePreserving, timesteps, sigmas, options);
}

/**
 * DPM-Solver++ 2M for flow matching (Wan 2.1, wan/utils/fm_solvers.py): `sigmas` without the final zero; the
 * model sees truncated integers.
 */
export function createFlowDpmSolver(
  sigmas: readonly number[],
  options: ScheduleOptions & { editPrediction?: EditPrediction },
): Scheduler {
  return createSolver(
    flow,
    sigmas.map((sigma) => Math.trunc(sigma * 1000)),
    withFinalZero(sigmas),
    options,
  );
}

/**
 * DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095), midpoint, final sigma zero.
 * Source: diffusers, scheduling_dpmsolver_multistep.py.
 */
function createSolver(
  p: Parameterisation,
  all: number[],
  sigmas: Float32Array,
  options: ScheduleOptions & { editPrediction?: EditPrediction },
): Scheduler {
  const first = firstStep(options);
  const sigma = (index: number) => sigmas[first + index] as number;
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
      const x0 = predictX0(p, from, sample, modelOutput, index, options.editPrediction);
      const before = previous;
      previous = x0;
      // λ(0) is infinite: the last step lands on x0 itself, and is of first order
      if (to === 0) return x0.slice();
      // from pure noise (flow matching, σ = 1) h is infinite: exp(-h) is 0, and the next step's slope
      // vanishes
      const h = p.lambda(to) - p.lambda(from);
      const keep = p.noise(to) / p.noise(from);
      const gain = -p.alpha(to) * Math.expm1(-h);
      if (before === undefined) return sample.map((value, i) => keep * value + gain * (x0[i] as number));
      const ratio = (p.lambda(from) - p.lambda(sigma(index - 1))) / h;
      return sample.map((value, i) => {
        const current = x0[i] as number;
        return keep * value + gain * (current + (0.5 * (current - (before[i] as number))) / ratio);
      });
    },
    addNoise: (original, noise) =>
      original.map((value, i) => p.alpha(sigma(0)) * value + p.noise(sigma(0)) * (noise[i] as number)),
  };
}
