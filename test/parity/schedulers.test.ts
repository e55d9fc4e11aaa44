import path from 'node:path';
import t from 'tap';
import { readSafetensors } from '../../src/inference/diffusion/safetensors.js';
import { createDpmSolver } from '../../src/inference/diffusion/schedulers/dpm-solver.js';
import { createEuler } from '../../src/inference/diffusion/schedulers/euler.js';
import { createFlowEuler, flowEulerSigmas, flowSigmas } from '../../src/inference/diffusion/schedulers/flow.js';
import type { NoiseScheduleConfig } from '../../src/inference/diffusion/schedulers/noise-schedule.js';
import type { ScheduleOptions, Scheduler } from '../../src/inference/diffusion/schedulers/types.js';
import { createFlowUniPc } from '../../src/inference/diffusion/schedulers/unipc.js';
import { kitFolder, readCases, requireKit, worstDifference } from './kit.js';

interface SchedulerCase {
  name: string; file: string; scheduler: string; num_inference_steps: number; strength: number | null; init_noise_sigma: number;
  config: NoiseScheduleConfig & { use_karras_sigmas?: boolean; flow_shift?: number; shift?: number };
}

function create({ scheduler, config, num_inference_steps: steps, strength }: SchedulerCase): Scheduler {
  const options: ScheduleOptions = { steps, ...(strength === null ? {} : { strength }) };
  switch (scheduler) {
    case 'EulerDiscreteScheduler': return createEuler(config, options);
    case 'EulerAncestralDiscreteScheduler': return createEuler(config, { ...options, ancestral: true });
    case 'DPMSolverMultistepScheduler': return createDpmSolver(config, { ...options, karras: config.use_karras_sigmas === true });
    case 'UniPCMultistepScheduler': return createFlowUniPc(flowSigmas('diffusers', steps, config.flow_shift ?? 1), options);
    case 'FlowMatchEulerDiscreteScheduler': return createFlowEuler(flowEulerSigmas(steps, config.shift ?? 1), options);
    default: throw new Error(`the kit has a scheduler this test does not know: ${scheduler}`);
  }
}

/** The kit's closed-form model, in float32: eps(x, t) = 0.3·x + 0.1·sin(3·x + t/1000). */
const model = (x: Float32Array, timestep: number) => x.map((value) => 0.3 * value + 0.1 * Math.sin(3 * value + timestep / 1000));

t.test('every scheduler follows diffusers step by step', async (t) => {
  if (!requireKit(t, 'schedulers')) return;
  for (const item of await readCases<SchedulerCase[]>('schedulers/cases.json')) {
    await t.test(item.name, async (t) => {
      const recorded = await readSafetensors(path.join(kitFolder, 'schedulers', item.file));
      const tensor = (name: string) => Float32Array.from((recorded.get(name)?.data ?? []) as ArrayLike<number>, Number);
      const scheduler = create(item);
      const near = (actual: ArrayLike<number>, name: string, bound: number) => {
        const worst = worstDifference(actual, tensor(name), true);
        t.ok(worst <= bound, `${name}: worst difference ${worst}`);
      };
      near(scheduler.sigmas, 'sigmas', 1e-6);
      t.same(scheduler.timesteps.map(Math.fround), [...tensor('timesteps')], 'timesteps exact');
      t.ok(Math.abs(scheduler.initNoiseSigma - item.init_noise_sigma) <= 1e-5, 'init_noise_sigma');
      const noise = tensor('noise');
      const start = item.strength === null ? noise.map((value) => value * scheduler.initNoiseSigma) : scheduler.addNoise(tensor('original'), noise);
      near(start, 'start', 1e-6);
      const latents: number[] = [];
      let sample: Float32Array = tensor('start');
      scheduler.timesteps.forEach((timestep, index) => {
        const output = model(scheduler.scaleModelInput(sample, index), timestep);
        sample = scheduler.step(index, output, sample, scheduler.needsNoise ? tensor('step_noise').slice(index * 64, index * 64 + 64) : undefined);
        latents.push(...sample);
      });
      near(latents, 'latents', 1e-5);
    });
  }
});
