import t from 'tap';
import { createSdxlScheduler } from '../../src/inference/diffusion/schedulers/index.js';
import { largestDifference } from '../../tools/parity/measure.js';

const start = Float32Array.of(0.5, -1, 2, 0.25);
const noise = Float32Array.of(0.3, 0.9, -1.2, 0.1);

// diffusers 0.42: LCMScheduler, EulerAncestralDiscreteScheduler and EulerDiscreteScheduler with trailing timesteps; output
// sin(3x + t/10000), the same noise in every step
const runs = [
  [
    'lcm',
    4,
    [999, 759, 499, 259],
    [-7.770951747894287, -10.135844230651855, 26.755420684814453, -13.105818748474121],
  ],
  [
    'lcm',
    7,
    [999, 859, 719, 579, 439, 299, 159],
    [0.02609754353761673, 5.472965717315674, 16.281723022460938, -5.065433979034424],
  ],
  [
    'euler_ancestral_trailing',
    4,
    [999, 749, 499, 249],
    [-5.221191883087158, -7.746840953826904, 22.78833770751953, -7.678691387176514],
  ],
  [
    'euler_trailing',
    4,
    [999, 749, 499, 249],
    [0.16809427738189697, -10.200859069824219, 31.236196517944336, -4.517959117889404],
  ],
] as const;

for (const [name, steps, timesteps, end] of runs)
  t.test(`${name} in ${steps} steps follows diffusers`, async (t) => {
    const scheduler = createSdxlScheduler(name, {}, { steps });
    t.same(scheduler.timesteps, timesteps);
    let sample: Float32Array = start.map((value) => value * scheduler.initNoiseSigma);
    for (const [index, timestep] of scheduler.timesteps.entries()) {
      const seen = scheduler.scaleModelInput(sample, index);
      const output = seen.map((value) => Math.sin(3 * value + timestep / 10_000));
      sample = scheduler.step(index, output, sample, noise);
    }
    const difference = largestDifference(sample, end);
    t.ok(difference < 2e-3, `${difference}`);
  });

t.test('more steps than the teacher of lcm had are refused', async (t) => {
  t.throws(() => createSdxlScheduler('lcm', {}, { steps: 51 }), /at most 50 steps/);
});
