import { readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { createSdxlScheduler } from '../../src/inference/diffusion/schedulers/index.js';
import { projectRoot } from '../../src/lib/project.js';

interface Run {
  steps: number;
  timesteps: number[];
  sigmas: number[];
  start: number[];
  latents: number[][];
}

/** Recorded from diffusers (tools/parity/record_unipc.py). */
const runs = JSON.parse(
  readFileSync(path.join(projectRoot(), 'test/fixtures/unipc-karras.json'), 'utf8'),
) as Run[];
const largest = (a: ArrayLike<number>, b: readonly number[]) =>
  b.reduce((worst, value, i) => Math.max(worst, Math.abs(value - (a[i] ?? NaN))), 0);

t.test("UniPC on Karras' levels equals diffusers step by step", async (t) => {
  for (const { steps, timesteps, sigmas, start, latents } of runs) {
    const scheduler = createSdxlScheduler('unipc_karras', {}, { steps });
    t.same(scheduler.timesteps, timesteps);
    t.ok(largest(scheduler.sigmas, sigmas) <= 1e-5, `${steps} steps: sigmas`);
    let sample = Float32Array.from(start);
    for (const [index, expected] of latents.entries()) {
      sample = Float32Array.from(
        scheduler.step(
          index,
          sample.map((value) => Math.tanh(0.7 * value) + 0.1),
          sample,
        ),
      );
      t.ok(largest(sample, expected) <= 5e-5, `${steps} steps: after step ${index}`);
    }
  }
});

t.test('its last look at the picture is at the least noise; the stock spacing stops before', async (t) => {
  t.equal(createSdxlScheduler('unipc_karras', {}, { steps: 15 }).timesteps.at(-1), 0);
  t.equal(createSdxlScheduler('unipc', {}, { steps: 15 }).timesteps.at(-1), 63);
});
