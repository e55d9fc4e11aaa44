import { type NoiseScheduleConfig, solverSchedule, withFinalZero } from './noise-schedule.js';
import { combine } from '../floats.js';
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

/** `edit` sees, and may change, every prediction. */
type FlowOptions = ScheduleOptions & { editPrediction?: EditPrediction };

/** What both solvers work with, steps numbered from the first one that is run. */
interface Run {
  p: Parameterisation;
  /** Steps that are run. */
  count: number;
  sigma(index: number): number;
  /** Half the log signal-to-noise ratio before a step. */
  lambda(index: number): number;
}

/** The sample after a step, of the clean sample that the model predicts in it. */
type Step = (index: number, prediction: Float32Array, sample: Float32Array) => Float32Array;

/** For SDXL's noise (epsilon prediction), on the training timesteps or on Karras' levels. */
function forNoise(createStep: (run: Run) => Step) {
  return (config: NoiseScheduleConfig, options: ScheduleOptions & { karras: boolean }): Scheduler => {
    const { timesteps, sigmas } = solverSchedule(config, options.steps, options.karras);
    return createSolver(variancePreserving, timesteps, sigmas, options, createStep);
  };
}

/** For flow matching (Wan): `sigmas` without the final zero; the model sees truncated integers. */
function forFlow(createStep: (run: Run) => Step, timestepOf: (sigma: number) => number) {
  return (sigmas: readonly number[], options: FlowOptions): Scheduler =>
    createSolver(flow, sigmas.map(timestepOf), withFinalZero(sigmas), options, createStep);
}

function createSolver(
  p: Parameterisation,
  timesteps: number[],
  sigmas: Float32Array,
  options: FlowOptions,
  createStep: (run: Run) => Step,
): Scheduler {
  const first = firstStep(options);
  const sigma = (index: number) => sigmas[first + index] as number;
  const step = createStep({
    p,
    count: timesteps.length - first,
    sigma,
    lambda: (index) => p.lambda(sigma(index)),
  });
  return {
    timesteps: timesteps.slice(first),
    sigmas,
    initNoiseSigma: 1,
    needsNoise: false,
    scaleModelInput: (sample) => sample,
    step: (index, modelOutput, sample) =>
      step(index, predictX0(p, sigma(index), sample, modelOutput, index, options.editPrediction), sample),
    addNoise: (original, noise) =>
      original.map((value, i) => p.alpha(sigma(0)) * value + p.noise(sigma(0)) * (noise[i] as number)),
  };
}

/**
 * Second-order step from `from` to `from + 1` along the predictions of this step and the one before it, of
 * first order where there is none. λ(0) is infinite: the last step lands on the prediction itself. From pure
 * noise (flow matching, σ = 1) h is infinite: exp(-h) is 0, and the next step's slope vanishes.
 */
function advance(
  { p, sigma, lambda }: Run,
  from: number,
  sample: Float32Array,
  prediction: Float32Array,
  before: Float32Array | undefined,
): Float32Array {
  if (sigma(from + 1) === 0) return prediction.slice();
  const h = lambda(from + 1) - lambda(from);
  const keep = p.noise(sigma(from + 1)) / p.noise(sigma(from));
  const gain = -p.alpha(sigma(from + 1)) * Math.expm1(-h);
  if (before === undefined) return combine([keep, sample], [gain, prediction]);
  const slope = 0.5 / ((lambda(from) - lambda(from - 1)) / h);
  return combine([keep, sample], [gain * (1 + slope), prediction], [-gain * slope, before]);
}

/**
 * DPM-Solver++ 2M (Lu et al. 2022, arXiv 2211.01095), midpoint, final sigma zero.
 * Source: diffusers, scheduling_dpmsolver_multistep.py; for flow matching Wan 2.1, wan/utils/fm_solvers.py.
 */
function dpmStep(run: Run): Step {
  let previous: Float32Array | undefined;
  return (index, prediction, sample) => {
    const before = previous;
    previous = prediction;
    return advance(run, index, sample, prediction, before);
  };
}

export const createDpmSolver = forNoise(dpmStep);
export const createFlowDpmSolver = forFlow(dpmStep, (sigma) => Math.trunc(sigma * 1000));

/**
 * UniPC of order 2, B(h) = e^h - 1 ("bh2"), data prediction, lower order at the end (Zhao et al. 2023, arXiv
 * 2302.04867). The corrector of step i runs at the start of step i+1, where the model has been asked anyway.
 * Source: diffusers, scheduling_unipc_multistep.py.
 */
function uniPcStep(run: Run): Step {
  const { p, count, sigma, lambda } = run;
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
    const gain = -alpha * phi;
    if (lastOrder === 1 || older === undefined)
      return combine([keep, sample], [0.5 * gain, m0], [0.5 * gain, prediction]);
    const r1 = (lambda(index - 2) - lambda(index - 1)) / h;
    const phi2 = phi / -h - 1;
    const b1 = phi2 / phi;
    const b2 = (2 * (phi2 / -h - 0.5)) / phi;
    const c1 = (b1 - b2) / (1 - r1);
    const c2 = b1 - c1;
    // m0, the slope to the older one c1 (older - m0) / r1, and that to the newer one c2 (prediction - m0)
    const atBase = gain * (1 - c1 / r1 - c2);
    return combine([keep, sample], [atBase, m0], [(gain * c1) / r1, older], [gain * c2, prediction]);
  }

  return (index, prediction, sample) => {
    lastSample = index > 0 ? correct(index, prediction) : sample;
    history = [...history.slice(-1), prediction];
    lastOrder = Math.min(2, count - index, index + 1);
    return advance(run, index, lastSample, prediction, lastOrder === 1 ? undefined : history[0]);
  };
}

export const createUniPc = forNoise(uniPcStep);
export const createFlowUniPc = forFlow(uniPcStep, (sigma) => Math.trunc(Math.fround(sigma) * 1000));
