import { combine } from '../floats.js';
import { withFinalZero } from './noise-schedule.js';
import { type EditPrediction, firstStep, type ScheduleOptions, type Scheduler } from './scheduler.js';

/** `s·u / (1 + (s-1)·u)`: moves a flow-matching schedule toward noise for larger pictures. */
function shiftSigma(u: number, shift: number): number {
  return (shift * u) / (1 + (shift - 1) * u);
}

/** Sigma grids in use for Wan; those of UniPC differ by up to 0.004 and give different videos. */
type FlowGrid = 'wan' | 'wan_dpm' | 'diffusers';

/**
 * Noise levels of N flow-matching steps, without the final 0.
 * `wan`: the original repository's UniPC (fm_solvers_unipc.py) and diffusers before 0.37; `wan_dpm`: its
 * DPM++ (fm_solvers.py), which begins at pure noise; `diffusers`: 0.37 and later.
 */
export function flowSigmas(grid: FlowGrid, steps: number, shift: number): number[] {
  const linspace = (from: number, to: number) =>
    Array.from({ length: steps }, (_, i) => from + ((to - from) * i) / steps);
  if (grid === 'wan') return linspace(0.999, 0).map((u) => shiftSigma(u, shift));
  if (grid === 'wan_dpm') return linspace(1, 0).map((u) => shiftSigma(u, shift));
  const sigmas = linspace(1, 0.001).map((u) => shiftSigma(u, shift));
  // σ = 1 has no signal: its λ is infinite
  if (sigmas[0] === 1) sigmas[0] = 1 - 1e-6;
  return sigmas;
}

/**
 * Noise levels of diffusers' FlowMatchEulerDiscreteScheduler with a static shift, which acts on both ends and
 * on the grid.
 */
export function flowEulerSigmas(steps: number, shift: number, trainSteps = 1000): number[] {
  // the lower end is float32 there, operation by operation; the last timestep shows it
  const { fround } = Math;
  const unshifted = fround(1 / trainSteps);
  const lowest = fround(fround(shift * unshifted) / fround(1 + fround((shift - 1) * unshifted)));
  return Array.from({ length: steps }, (_, i) =>
    shiftSigma(steps === 1 ? 1 : 1 + ((lowest - 1) * i) / (steps - 1), shift),
  );
}

/** Euler on the flow ODE: x' = x + (σ' - σ)·v. Timesteps are 1000·σ, not rounded. */
export function createFlowEuler(
  sigmasWithoutZero: readonly number[],
  options: ScheduleOptions & { editPrediction?: EditPrediction },
): Scheduler {
  const sigmas = withFinalZero(sigmasWithoutZero);
  const first = firstStep(options);
  const sigma = (index: number) => sigmas[first + index] as number;
  const { editPrediction } = options;

  /** The velocity that leads to the edited prediction: v = (x - x0)/σ. */
  function editVelocity(
    edit: EditPrediction,
    velocity: Float32Array,
    sample: Float32Array,
    index: number,
  ): Float32Array {
    const x0 = edit(combine([1, sample], [-sigma(index), velocity]), index);
    return combine([1 / sigma(index), sample], [-1 / sigma(index), x0]);
  }

  return {
    timesteps: Array.from(sigmas.subarray(first, -1), (value) => Math.fround(value * 1000)),
    sigmas,
    initNoiseSigma: 1,
    needsNoise: false,
    scaleModelInput: (sample) => sample,
    step(index, modelOutput, sample) {
      const velocity =
        editPrediction === undefined ? modelOutput : editVelocity(editPrediction, modelOutput, sample, index);
      return combine([1, sample], [sigma(index + 1) - sigma(index), velocity]);
    },
    addNoise: (original, noise) =>
      original.map((value, i) => (1 - sigma(0)) * value + sigma(0) * (noise[i] as number)),
  };
}
