import type { SdxlSchedulerName } from '../../engine-protocol.js';
import { createDpmSolver } from './dpm-solver.js';
import { createEuler } from './euler.js';
import type { NoiseScheduleConfig } from './noise-schedule.js';
import type { ScheduleOptions, Scheduler } from './types.js';
import { createUniPc } from './unipc.js';

export type { Scheduler } from './types.js';

/** The samplers of SDXL by name; `config` is the model folder's `scheduler_config.json`. */
export function createSdxlScheduler(name: SdxlSchedulerName, config: NoiseScheduleConfig, options: ScheduleOptions): Scheduler {
  switch (name) {
    case 'euler': return createEuler(config, options);
    case 'euler_trailing': return createEuler({ ...config, timestep_spacing: 'trailing' }, options);
    case 'euler_ancestral': return createEuler(config, { ...options, ancestral: true });
    case 'dpmpp_2m': return createDpmSolver(config, { ...options, karras: false });
    case 'dpmpp_2m_karras': return createDpmSolver(config, { ...options, karras: true });
    case 'unipc': return createUniPc(config, options);
  }
}
