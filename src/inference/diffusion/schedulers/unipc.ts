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

/** UniPC for SDXL's noise (epsilon prediction), on the training timesteps or on Karras' levels. */
export function createUniPc(
  config: NoiseScheduleConfig,
  options: ScheduleOptions & { karras: boolean },
): Scheduler {
  const { timesteps, sigmas } = solverSchedule(config, options.steps, options.karras);
  return createSolver(variancePreserving, timesteps, sigmas, options);
}

/** UniPC for flow matching (Wan): `sigmas` without the final zero; the model sees truncated integers. */
export function createFlowUniPc(
  sigmas: readonly number[],
  options: ScheduleOptions & { editPrediction?: EditPrediction },
): Scheduler {
  return createSolver(
    flow,
    sigmas.map((sigma) => Math.trunc(Math.fround(sigma) * 1000)),
    withFinalZero(sigmas),
    options,
  );
}

/**
 * UniPC of order 2, B(h) = e^h - 1 ("bh2"), data prediction, lower order at the end (Zhao et al. 2023, arXiv
 * 2302.04867). The corrector of step i runs at the start of step i+1, where the model has been asked anyway.
 * Source: diffusers, scheduling_unipc_multistep.py.
 */
function createSolver(
  p: Parameterisation,
  all: number[],
  sigmas: Float32Array,
  options: ScheduleOptions & { editPrediction?: EditPrediction },
): Scheduler {
  const first = firstStep(options);
  const count = all.length - first;
  const sigma = (index: number) => sigmas[first + index] as number;
  const lambda = (index: number) => p.lambda(sigma(index));
  /** Predictions of the last two steps, newest last. */
  let history: Float32Array[] = [];
  let lastSample: Float32Array | undefined;
  let lastOrder = 0;

  function correct(index: number, prediction: Float32Array): Float32Array {
    const sample = lastSample as Float32Array;
    const m0 = history.at(-1) as Float32Array;
    const older = history.at(-2);
    const h = lambda(index) - lambda(index - 1);
    const keep = p.noise(sigma(index)) / p.noise(sigma(index - 1));
    const alpha = p.alpha(sigma(index));
    const phi = Math.expm1(-h);
    if (lastOrder === 1 || older === undefined) {
      return sample.map(
        (value, i) =>
          keep * value -
          alpha * phi * (m0[i] as number) -
          alpha * phi * 0.5 * ((prediction[i] as number) - (m0[i] as number)),
      );
    }
    const r1 = (lambda(index - 2) - lambda(index - 1)) / h;
    const phi2 = phi / -h - 1;
    const b1 = phi2 / phi;
    const b2 = (2 * (phi2 / -h - 0.5)) / phi;
    const c1 = (b1 - b2) / (1 - r1);
    const c2 = b1 - c1;
    return sample.map((value, i) => {
      const base = m0[i] as number;
      const slope = ((older[i] as number) - base) / r1;
      return (
        keep * value -
        alpha * phi * base -
        alpha * phi * (c1 * slope + c2 * ((prediction[i] as number) - base))
      );
    });
  }

  function predict(index: number, order: number, sample: Float32Array): Float32Array {
    const m0 = history.at(-1) as Float32Array;
    const older = history.at(-2);
    // λ(0) is infinite: the last step lands on the prediction itself
    if (sigma(index + 1) === 0) return m0.slice();
    const h = lambda(index + 1) - lambda(index);
    const keep = p.noise(sigma(index + 1)) / p.noise(sigma(index));
    const gain = -p.alpha(sigma(index + 1)) * Math.expm1(-h);
    if (order === 1 || older === undefined)
      return sample.map((value, i) => keep * value + gain * (m0[i] as number));
    const ratio = (lambda(index - 1) - lambda(index)) / h;
    return sample.map(
      (value, i) =>
        keep * value +
        gain * ((m0[i] as number) + (0.5 * ((older[i] as number) - (m0[i] as number))) / ratio),
    );
  }

  return {
    timesteps: all.slice(first),
    sigmas,
    initNoiseSigma: 1,
    needsNoise: false,
    scaleModelInput: (sample) => sample,
    step(index, modelOutput, sample) {
      const prediction = predictX0(p, sigma(index), sample, modelOutput, index, options.editPrediction);
      const corrected = index > 0 ? correct(index, prediction) : sample;
      history = [...history.slice(-1), prediction];
      lastOrder = Math.min(2, count - index, index + 1);
      lastSample = corrected;
      return predict(index, lastOrder, corrected);
    },
    addNoise(original, noise) {
      return original.map((value, i) => p.alpha(sigma(0)) * value + p.noise(sigma(0)) * (noise[i] as number));
    },
  };
}
