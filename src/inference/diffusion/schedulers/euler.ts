import {
  createNoiseSchedule,
  eulerTimesteps,
  sigmaAt,
  withFinalZero,
  type NoiseScheduleConfig,
} from './noise-schedule.js';
import { firstStep, type ScheduleOptions, type Scheduler } from './scheduler.js';

/**
 * Euler and Euler ancestral on Karras' x (σ-scaled) parameterisation, epsilon prediction, no churn.
 * Source: diffusers, scheduling_euler_discrete.py and scheduling_euler_ancestral_discrete.py.
 */
export function createEuler(
  config: NoiseScheduleConfig,
  options: ScheduleOptions & { ancestral?: boolean },
): Scheduler {
  const schedule = createNoiseSchedule(config);
  const all = eulerTimesteps(schedule, options.steps);
  const sigmas = withFinalZero(all.map((timestep) => sigmaAt(schedule, timestep)));
  const first = firstStep(options);
  const largest = sigmas[0] as number;
  const sigma = (index: number) => sigmas[first + index] as number;

  return {
    timesteps: all.slice(first),
    sigmas,
    initNoiseSigma: schedule.spacing === 'leading' ? Math.sqrt(largest ** 2 + 1) : largest,
    needsNoise: options.ancestral === true,
    scaleModelInput(sample, index) {
      const scale = 1 / Math.sqrt(sigma(index) ** 2 + 1);
      return sample.map((value) => value * scale);
    },
    step(index, modelOutput, sample, noise) {
      const from = sigma(index);
      const to = sigma(index + 1);
      if (options.ancestral !== true)
        return sample.map((value, i) => value + (modelOutput[i] as number) * (to - from));
      if (noise === undefined) throw new Error('Euler ancestral needs unit noise for every step');
      const up = Math.sqrt((to ** 2 * (from ** 2 - to ** 2)) / from ** 2);
      const down = Math.sqrt(to ** 2 - up ** 2);
      return sample.map(
        (value, i) => value + (modelOutput[i] as number) * (down - from) + (noise[i] as number) * up,
      );
    },
    addNoise: (original, noise) => original.map((value, i) => value + (noise[i] as number) * sigma(0)),
  };
}
