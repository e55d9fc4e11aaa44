import { createEuler, createLcm } from './euler.js';
import { combine } from '../floats.js';
import { createFlowEuler, flowEulerSigmas, flowSigmas } from './flow.js';
import type { NoiseScheduleConfig } from './noise-schedule.js';
import { createDpmSolver, createFlowDpmSolver, createFlowUniPc, createUniPc } from './multistep.js';
import type { EditPrediction, ScheduleOptions, Scheduler } from './scheduler.js';
import type { FlowSchedulerName, SdxlSchedulerName } from '../../generation.js';

export type { Scheduler } from './scheduler.js';

/** The samplers of SDXL by name; `config` is the model folder's `scheduler_config.json`. */
export function createSdxlScheduler(
  name: SdxlSchedulerName,
  config: NoiseScheduleConfig,
  options: ScheduleOptions,
): Scheduler {
  const scheduler = forNoise(name, config, options);
  return config.prediction_type === 'v_prediction' ? ofVelocity(scheduler) : scheduler;
}

/** A model that predicts v = α·noise - σα·x0 (Salimans and Ho 2022) means the noise (v + σ·x) / √(σ²+1). */
function ofVelocity(scheduler: Scheduler): Scheduler {
  const first = scheduler.sigmas.length - 1 - scheduler.timesteps.length;
  return {
    ...scheduler,
    step(index, velocity, sample, noise) {
      const sigma = scheduler.sigmas[first + index] as number;
      const scale = 1 / Math.sqrt(sigma ** 2 + 1);
      const seen = scheduler.scaleModelInput(sample, index);
      return scheduler.step(index, combine([scale, velocity], [scale * sigma, seen]), sample, noise);
    },
  };
}

function forNoise(name: SdxlSchedulerName, config: NoiseScheduleConfig, options: ScheduleOptions): Scheduler {
  switch (name) {
    case 'euler':
      return createEuler(config, options);
    case 'euler_trailing':
      return createEuler({ ...config, timestep_spacing: 'trailing' }, options);
    case 'euler_ancestral':
      return createEuler(config, { ...options, ancestral: true });
    case 'euler_ancestral_trailing':
      return createEuler({ ...config, timestep_spacing: 'trailing' }, { ...options, ancestral: true });
    case 'lcm':
      return createLcm(config, options);
    case 'dpmpp_2m':
      return createDpmSolver(config, { ...options, karras: false });
    case 'dpmpp_2m_karras':
      return createDpmSolver(config, { ...options, karras: true });
    case 'unipc':
      return createUniPc(config, { ...options, karras: false });
    case 'unipc_karras':
      return createUniPc(config, { ...options, karras: true });
  }
}

interface FlowScheduleOptions extends ScheduleOptions {
  /** Moves the noise levels toward noise: `s·u / (1 + (s-1)·u)`. */
  shift: number;
  /** Sees, and may change, every x0 prediction. */
  editPrediction?: EditPrediction;
}

/** The noise levels of a flow sampler by name, without the final 0. */
export function flowSchedulerSigmas(name: FlowSchedulerName, steps: number, shift: number): number[] {
  switch (name) {
    case 'unipc':
      return flowSigmas('wan', steps, shift);
    case 'unipc_diffusers':
      return flowSigmas('diffusers', steps, shift);
    case 'dpmpp_2m':
      return flowSigmas('wan_dpm', steps, shift);
    case 'euler':
      return flowEulerSigmas(steps, shift);
  }
}

/** The samplers of flow-matching models by name. */
export function createFlowScheduler(name: FlowSchedulerName, options: FlowScheduleOptions): Scheduler {
  const sigmas = flowSchedulerSigmas(name, options.steps, options.shift);
  switch (name) {
    case 'unipc':
    case 'unipc_diffusers':
      return createFlowUniPc(sigmas, options);
    case 'dpmpp_2m':
      return createFlowDpmSolver(sigmas, options);
    case 'euler':
      return createFlowEuler(sigmas, options);
  }
}
