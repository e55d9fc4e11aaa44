import path from 'node:path';
import t from 'tap';
import { type TensorBytes, writeSafetensors } from '../helpers/checkpoints.js';
import { findModelGraphs } from '../../src/inference/graphs/model-graphs.js';
import { createSdxlScheduler } from '../../src/inference/diffusion/schedulers/index.js';
import { sdxlSchedulerNames } from '../../src/inference/generation.js';
import { largestDifference } from '../../tools/parity/measure.js';

const start = Float32Array.of(0.5, -1, 2, 0.25);
const target = Float32Array.of(0.3, 0.9, -1.2, 0.1);

t.test(
  'a model that predicts v draws what the same model of the noise draws, with every sampler',
  async (t) => {
    for (const name of sdxlSchedulerNames)
      for (const strength of [undefined, 0.6]) {
        const ends = ['epsilon', 'v_prediction'].map((prediction_type) => {
          const options = { steps: 8, ...(strength === undefined ? {} : { strength }) };
          const scheduler = createSdxlScheduler(name, { prediction_type }, options);
          const first = scheduler.sigmas.length - 1 - scheduler.timesteps.length;
          let sample: Float32Array =
            strength === undefined
              ? start.map((value) => value * scheduler.initNoiseSigma)
              : scheduler.addNoise(target, start);
          for (const index of scheduler.timesteps.keys()) {
            const sigma = scheduler.sigmas[first + index] as number;
            const [alpha, beta] = [1 / Math.sqrt(sigma ** 2 + 1), sigma / Math.sqrt(sigma ** 2 + 1)];
            const seen = scheduler.scaleModelInput(sample, index);
            // a model that is wrong on purpose, and differently at each step
            const noise = seen.map(
              (value, i) => (value - alpha * (target[i] as number) * (1 + 0.1 * index)) / beta,
            );
            const output =
              prediction_type === 'epsilon'
                ? noise
                : noise.map(
                    (value, i) => alpha * value - beta * (((seen[i] as number) - beta * value) / alpha),
                  );
            sample = scheduler.step(index, output, sample, start);
          }
          return sample;
        }) as [Float32Array, Float32Array];
        t.ok(
          largestDifference(...ends) < 1e-4,
          `${name}, strength ${strength ?? 'none'}: ${largestDifference(...ends)}`,
        );
        t.ok(ends[0].every(Number.isFinite));
      }
  },
);

// diffusers 0.42: EulerDiscreteScheduler and DPMSolverMultistepScheduler, 5 steps, output sin(3x + t/10000)
for (const [name, end] of [
  ['euler', [-0.0013964222744107246, 0.12840569019317627, 1.875520944595337, -0.0020621735602617264]],
  ['dpmpp_2m', [-0.03868512436747551, 0.11983105540275574, 1.8120843172073364, -0.009616187773644924]],
] as const)
  t.test(`${name} from pure noise (rescale_betas_zero_snr) follows diffusers`, async (t) => {
    const config = {
      prediction_type: 'v_prediction',
      rescale_betas_zero_snr: true,
      timestep_spacing: 'trailing',
    };
    const scheduler = createSdxlScheduler(name, config, { steps: 5 });
    t.same(scheduler.timesteps, [999, 799, 599, 399, 199]);
    const sigmas = [4096, 7.410707473754883, 2.604856252670288, 1.24137544631958, 0.59475177526474, 0];
    for (const [i, sigma] of sigmas.entries())
      t.ok(Math.abs((scheduler.sigmas[i] as number) - sigma) <= 1e-6 * sigma, `${scheduler.sigmas[i]}`);
    let sample: Float32Array = start.map((value) => value * scheduler.initNoiseSigma);
    for (const [index, timestep] of scheduler.timesteps.entries()) {
      const seen = scheduler.scaleModelInput(sample, index);
      sample = scheduler.step(
        index,
        seen.map((value) => Math.sin(3 * value + timestep / 10_000)),
        sample,
      );
    }
    t.ok(largestDifference(sample, end) < 1e-3, `${largestDifference(sample, end)}`);
  });

t.test('a single file that says it predicts v, or starts from pure noise, is believed', async (t) => {
  const folder = t.testdir();
  const one: TensorBytes = { dtype: 'F32', shape: [1], bytes: Buffer.alloc(4) };
  const written = async (...marks: string[]) => {
    const names = ['model.diffusion_model.input_blocks.0.0.weight', ...marks];
    const file = path.join(folder, 'noob_v1.safetensors');
    await writeSafetensors(file, new Map(names.map((name) => [name, one])));
    return findModelGraphs('sdxl', folder).config<object>('scheduler/scheduler_config.json');
  };
  t.match(await written(), { prediction_type: 'epsilon', timestep_spacing: 'leading' });
  t.match(await written('v_pred'), { prediction_type: 'v_prediction', timestep_spacing: 'leading' });
  const both = {
    prediction_type: 'v_prediction',
    rescale_betas_zero_snr: true,
    timestep_spacing: 'trailing',
  };
  t.match(await written('v_pred', 'ztsnr'), both);
});
