import {
  createNoiseSchedule,
  eulerTimesteps,
  sigmaAt,
  withFinalZero,
  type NoiseScheduleConfig,
} from './noise-schedule.js';
import { firstStep, type ScheduleOptions, type Scheduler, variancePreserving } from './scheduler.js';
import { combine } from '../floats.js';

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

/** Steps of the teacher's schedule that a latent consistency model was distilled on. */
const teacherSteps = 50;
/** Of the boundary condition: at timestep 0 the model's answer is its input. */
const boundary = { deviation: 0.5, timestepScaling: 10 };

/**
 * Latent consistency models (Luo et al. 2023, arXiv 2310.04378): every step predicts the clean sample, and all but
 * the last add fresh noise to it. Source: diffusers, scheduling_lcm.py.
 */
export function createLcm(config: NoiseScheduleConfig, options: ScheduleOptions): Scheduler {
  const schedule = createNoiseSchedule(config);
  const { steps } = options;
  if (steps > teacherSteps) throw new Error(`lcm takes at most ${teacherSteps} steps, not ${steps}`);
  const stride = Math.floor(schedule.trainSteps / teacherSteps);
  const all = Array.from(
    { length: steps },
    (_, i) => (teacherSteps - Math.floor((i * teacherSteps) / steps)) * stride - 1,
  );
  const sigmas = withFinalZero(all.map((timestep) => sigmaAt(schedule, timestep)));
  const first = firstStep(options);
  const timesteps = all.slice(first);
  const sigma = (index: number) => sigmas[first + index] as number;
  const { alpha, noise: noiseShare } = variancePreserving;

  return {
    timesteps,
    sigmas,
    initNoiseSigma: 1,
    needsNoise: true,
    scaleModelInput: (sample) => sample,
    step(index, modelOutput, sample, noise) {
      const scaled = (timesteps[index] as number) * boundary.timestepScaling;
      const spread = scaled ** 2 + boundary.deviation ** 2;
      const [keep, take] = [boundary.deviation ** 2 / spread, scaled / Math.sqrt(spread)];
      const [signal, share] = [alpha(sigma(index)), noiseShare(sigma(index))];
      const clean = combine([keep + take / signal, sample], [(-take * share) / signal, modelOutput]);
      if (index === timesteps.length - 1) return clean;
      if (noise === undefined) throw new Error('lcm needs unit noise for every step');
      return combine([alpha(sigma(index + 1)), clean], [noiseShare(sigma(index + 1)), noise]);
    },
    addNoise: (original, noise) => combine([alpha(sigma(0)), original], [noiseShare(sigma(0)), noise]),
  };
}
