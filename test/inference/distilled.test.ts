import { cp, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { loadAll, type TensorBytes, writeSafetensors } from '../helpers/checkpoints.js';
import { models } from '../parity/kit.js';
import { readSafetensors } from '../../src/inference/checkpoint/safetensors.js';
import { createSdxlScheduler } from '../../src/inference/diffusion/schedulers/index.js';
import { findModelGraphs } from '../../src/inference/graphs/model-graphs.js';
import { openSession } from '../../src/inference/onnx/session.js';
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

// diffusers 0.42, get_guidance_scale_embedding(torch.tensor([7.0]), embedding_dim=8)
const guidance = [
  0.5068854093551636, -0.9704796075820923, 0.5866532921791077, 0.6442176103591919, 0.8620134592056274,
  -0.2411831170320511, -0.8098382353782654, 0.7648422122001648,
];

t.test('a latent consistency model is told its guidance with the time', async (t) => {
  const weights = 'unet/diffusion_pytorch_model.safetensors';
  const folder = path.join(t.testdir(), 'sdxl');
  await cp(path.join(models, 'sdxl-tiny'), folder, { recursive: true });
  const tensors = await loadAll(await readSafetensors(path.join(folder, weights)));
  const floats = (name: string) => {
    const { bytes, dtype } = tensors.get(name) as TensorBytes;
    t.equal(dtype, 'F32');
    return new Float32Array(new Uint8Array(bytes).buffer);
  };
  const stored = (shape: number[], values: Float32Array): TensorBytes => ({
    dtype: 'F32',
    shape,
    bytes: Buffer.from(values.buffer),
  });
  const [first, inner] = [32, 128];
  const projection = Float32Array.from({ length: first * guidance.length }, (_, i) => Math.sin(i * i));
  const told = Float32Array.from({ length: first }, (_, row) =>
    guidance.reduce((sum, value, i) => sum + value * (projection[row * guidance.length + i] as number), 0),
  );
  // W(x + c) + b = Wx + (Wc + b): the same UNet without the condition, and another bias
  const [matrix, bias] = [floats('time_embedding.linear_1.weight'), floats('time_embedding.linear_1.bias')];
  const moved = bias.map((value, row) =>
    told.reduce((sum, each, i) => sum + each * (matrix[row * first + i] as number), value),
  );
  const draw = async (changed: Map<string, TensorBytes>, time_cond_proj_dim: number | null) => {
    const config = path.join(folder, 'unet/config.json');
    const settings = JSON.parse(await readFile(config, 'utf8')) as object;
    await writeFile(config, JSON.stringify({ ...settings, time_cond_proj_dim }));
    await writeSafetensors(path.join(folder, weights), new Map([...tensors, ...changed]));
    const graph = await findModelGraphs('sdxl', folder).required('unet/model', 'cpu');
    const session = await openSession(graph, { device: 'cpu', threads: 1 });
    const wave = (...dims: number[]) => ({
      dims,
      data: Float32Array.from({ length: dims.reduce((a, b) => a * b) }, (_, i) => Math.sin(i * 0.7)),
    });
    const feeds = {
      ...{ sample: wave(1, 4, 8, 8), timestep: { data: [499], dims: [] } },
      ...{ encoder_hidden_states: wave(1, 77, 80), text_embeds: wave(1, 48), time_ids: wave(1, 6) },
    };
    const { out_sample: out } = await session.run(feeds, ['out_sample']);
    await session.release();
    return out.data;
  };
  const conditioned = await draw(
    new Map([['time_embedding.cond_proj.weight', stored([first, guidance.length], projection)]]),
    guidance.length,
  );
  const expected = await draw(new Map([['time_embedding.linear_1.bias', stored([inner], moved)]]), null);
  const plain = await draw(new Map(), null);
  const difference = largestDifference(conditioned, expected);
  t.ok(difference < 1e-4, `${difference}`);
  t.ok(largestDifference(conditioned, plain) > 1e-2, 'and it matters');
});
