/** SDXL's training noise: betas, the table S[t] = sqrt((1-ᾱ)/ᾱ), and the ways to pick timesteps from it. */

const fround = Math.fround;

type TimestepSpacing = 'leading' | 'trailing' | 'linspace';

/** The keys of `scheduler_config.json` that change the schedule; absent ones have SDXL base's values. */
export interface NoiseScheduleConfig {
  beta_start?: number;
  beta_end?: number;
  beta_schedule?: string;
  num_train_timesteps?: number;
  timestep_spacing?: string;
  steps_offset?: number;
  /** `epsilon`, the noise; or `v_prediction` (Salimans and Ho 2022). */
  prediction_type?: string;
  /** The last timestep is pure noise (Lin et al. 2023). */
  rescale_betas_zero_snr?: boolean;
}

interface NoiseSchedule {
  trainSteps: number;
  spacing: TimestepSpacing;
  stepsOffset: number;
  /** S[t] for every training timestep, float64 of float32 table values. */
  sigmaTable: Float64Array;
}

/** Throws on settings no SDXL checkpoint is known to use, rather than drawing something wrong. */
export function createNoiseSchedule(config: NoiseScheduleConfig = {}): NoiseSchedule {
  const {
    beta_start = 0.00085,
    beta_end = 0.012,
    beta_schedule = 'scaled_linear',
    num_train_timesteps = 1000,
    timestep_spacing = 'leading',
    steps_offset = 1,
    prediction_type = 'epsilon',
  } = config;
  if (beta_schedule !== 'scaled_linear' && beta_schedule !== 'linear')
    throw new Error(`beta_schedule ${beta_schedule} is not supported`);
  if (prediction_type !== 'epsilon' && prediction_type !== 'v_prediction')
    throw new Error(`prediction_type ${prediction_type} is not supported`);
  if (timestep_spacing !== 'leading' && timestep_spacing !== 'trailing' && timestep_spacing !== 'linspace')
    throw new Error(`timestep_spacing ${timestep_spacing} is not supported`);
  const scaled = beta_schedule === 'scaled_linear';
  const first = scaled ? Math.sqrt(beta_start) : beta_start;
  const last = scaled ? Math.sqrt(beta_end) : beta_end;
  const alphaBars = new Float64Array(num_train_timesteps);
  let alphaBar = 1;
  for (let t = 0; t < num_train_timesteps; t += 1) {
    const root = fround(first + ((last - first) * t) / (num_train_timesteps - 1));
    alphaBar = fround(alphaBar * fround(1 - (scaled ? fround(root * root) : root)));
    alphaBars[t] = alphaBar;
  }
  if (config.rescale_betas_zero_snr === true) rescaleToZeroSnr(alphaBars);
  const sigmaTable = alphaBars.map((signal) => Math.sqrt((1 - signal) / signal));
  return {
    trainSteps: num_train_timesteps,
    spacing: timestep_spacing,
    stepsOffset: steps_offset,
    sigmaTable,
  };
}

/** Moves sqrt(ᾱ) so that the first stays and the last is none (Lin et al. 2023), or 2^-24 as in diffusers. */
function rescaleToZeroSnr(alphaBars: Float64Array): void {
  const [first, last] = [alphaBars[0], alphaBars.at(-1)].map((value) => Math.sqrt(value as number)) as [
    number,
    number,
  ];
  for (const [t, value] of alphaBars.entries())
    alphaBars[t] = (((Math.sqrt(value) - last) * first) / (first - last)) ** 2;
  alphaBars[alphaBars.length - 1] = 2 ** -24;
}

/** S at a fractional timestep, linear between table entries. */
export function sigmaAt(schedule: NoiseSchedule, timestep: number): number {
  const table = schedule.sigmaTable;
  const clamped = Math.min(Math.max(timestep, 0), table.length - 1);
  const low = Math.floor(clamped);
  const high = Math.min(low + 1, table.length - 1);
  return (table[low] as number) + (clamped - low) * ((table[high] as number) - (table[low] as number));
}

/** numpy's rounding: halves to even. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  if (rest !== 0.5) return Math.round(value);
  return floor % 2 === 0 ? floor : floor + 1;
}

/** Timesteps of the Euler family, descending (diffusers, EulerDiscreteScheduler.set_timesteps). */
export function eulerTimesteps(schedule: NoiseSchedule, steps: number): number[] {
  const { trainSteps, spacing, stepsOffset } = schedule;
  if (spacing === 'linspace')
    return Array.from({ length: steps }, (_, i) =>
      steps === 1 ? 0 : ((trainSteps - 1) * (steps - 1 - i)) / (steps - 1),
    );
  if (spacing === 'leading') {
    const ratio = Math.floor(trainSteps / steps);
    return Array.from({ length: steps }, (_, i) => (steps - 1 - i) * ratio + stepsOffset);
  }
  return Array.from({ length: steps }, (_, i) => roundHalfEven(trainSteps - (i * trainSteps) / steps) - 1);
}

/**
 * Timesteps of DPM-Solver and UniPC, which leave room for one more step (diffusers,
 * DPMSolverMultistepScheduler.set_timesteps).
 */
function solverTimesteps(schedule: NoiseSchedule, steps: number): number[] {
  const { trainSteps, spacing, stepsOffset } = schedule;
  if (spacing === 'linspace')
    return Array.from({ length: steps }, (_, i) => roundHalfEven(((trainSteps - 1) * (steps - i)) / steps));
  if (spacing === 'leading') {
    const ratio = Math.floor(trainSteps / (steps + 1));
    return Array.from({ length: steps }, (_, i) => (steps - i) * ratio + stepsOffset);
  }
  return Array.from({ length: steps }, (_, i) => roundHalfEven(trainSteps - (i * trainSteps) / steps) - 1);
}

/** Karras et al. 2022 (arXiv 2206.00364), equation 5, rho 7, over the table's whole range. */
function karrasSigmas(schedule: NoiseSchedule, steps: number): number[] {
  const table = schedule.sigmaTable;
  const low = (table[0] as number) ** (1 / 7);
  const high = (table[table.length - 1] as number) ** (1 / 7);
  return Array.from(
    { length: steps },
    (_, i) => (high + (steps === 1 ? 0 : i / (steps - 1)) * (low - high)) ** 7,
  );
}

/** Inverse of the table, linear in ln σ. */
export function timestepOf(schedule: NoiseSchedule, sigma: number): number {
  const table = schedule.sigmaTable;
  const target = Math.log(Math.max(sigma, 1e-10));
  let low = 0;
  let high = table.length - 1;
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (Math.log(table[middle] as number) <= target) low = middle;
    else high = middle;
  }
  const lowLog = Math.log(table[low] as number);
  const highLog = Math.log(table[high] as number);
  const weight = Math.min(Math.max((lowLog - target) / (lowLog - highLog), 0), 1);
  return (1 - weight) * low + weight * high;
}

/**
 * Timesteps and noise levels of DPM-Solver and UniPC. Stock SDXL's leading spacing ends at timestep
 * 1000/(steps+1), whose noise the last step has to guess away at once: with few steps outlines stay rough.
 * Karras' levels end at timestep 0.
 */
export function solverSchedule(
  config: NoiseScheduleConfig,
  steps: number,
  karras: boolean,
): { timesteps: number[]; sigmas: Float32Array } {
  const schedule = createNoiseSchedule(config);
  if (!karras) {
    const timesteps = solverTimesteps(schedule, steps);
    return { timesteps, sigmas: withFinalZero(timesteps.map((timestep) => sigmaAt(schedule, timestep))) };
  }
  const sigmas = karrasSigmas(schedule, steps);
  // low-noise timesteps may repeat, so steps are counted, never looked up by timestep
  return {
    timesteps: sigmas.map((sigma) => roundHalfEven(timestepOf(schedule, sigma))),
    sigmas: withFinalZero(sigmas),
  };
}

/** Float32 schedule with the final 0 appended. */
export function withFinalZero(sigmas: readonly number[]): Float32Array {
  return Float32Array.from([...sigmas, 0]);
}
