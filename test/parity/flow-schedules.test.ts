import { readFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { createFlowScheduler } from '../../src/inference/diffusion/schedulers/index.js';
import { flowSchedulerNames, type FlowSchedulerName } from '../../src/inference/generation.js';
import { projectRoot } from '../../src/lib/project.js';
import { largestDifference } from '../../tools/parity/measure.js';

/** Recorded by tools/parity/record_flow_schedules.py: diffusers' solvers on Wan's own noise levels. */
interface Recorded {
  scheduler: FlowSchedulerName;
  steps: number;
  shift: number;
  timesteps: number[];
  sigmas: number[];
  first: number[];
  second: number[];
  last: number[];
}

const linspace = (from: number, to: number, count: number) =>
  Float32Array.from({ length: count }, (_, i) => from + ((to - from) * i) / (count - 1));
const toyModel = (x: Float32Array, timestep: number) =>
  x.map((value) => 0.3 * value + 0.1 * Math.sin(3 * value + timestep / 1000));

t.test("Wan's own UniPC and DPM++ levels, step by step", async (t) => {
  for (const item of JSON.parse(
    await readFile(path.join(projectRoot(), 'test/fixtures/flow-schedules.json'), 'utf8'),
  ) as Recorded[]) {
    const scheduler = createFlowScheduler(item.scheduler, { steps: item.steps, shift: item.shift });
    const name = `${item.scheduler}, ${item.steps} steps, shift ${item.shift}`;
    t.same(scheduler.timesteps, item.timesteps, `${name}: timesteps`);
    t.ok(largestDifference(scheduler.sigmas, item.sigmas) <= 1e-7, `${name}: noise levels`);
    let sample: Float32Array = linspace(-1.5, 1.5, 12);
    const after = scheduler.timesteps.map(
      (timestep, index) => (sample = scheduler.step(index, toyModel(sample, timestep), sample)),
    );
    for (const [what, index] of [
      ['first', 0],
      ['second', 1],
      ['last', -1],
    ] as const) {
      const difference = largestDifference(after.at(index) as Float32Array, item[what]);
      t.ok(difference <= 1e-5, `${name}: after the ${what} step within ${difference}`);
    }
  }
});

t.test('an x0 prediction that is pinned keeps the sample on its own straight path', async (t) => {
  const known = linspace(-0.8, 0.9, 8);
  const noise = linspace(1.7, -1.3, 8);
  for (const name of flowSchedulerNames) {
    for (const steps of [2, 5, 25]) {
      const scheduler = createFlowScheduler(name, { steps, shift: 5, editPrediction: () => known });
      const on = (index: number) =>
        known.map(
          (value, i) =>
            (1 - (scheduler.sigmas[index] as number)) * value +
            (scheduler.sigmas[index] as number) * (noise[i] as number),
        );
      let sample: Float32Array = on(0);
      let worst = 0;
      for (const [index, timestep] of scheduler.timesteps.entries()) {
        sample = scheduler.step(index, toyModel(sample, timestep), sample);
        worst = Math.max(worst, largestDifference(sample, on(index + 1)));
      }
      t.ok(worst < 2e-5, `${name}, ${steps} steps: (1 - σ)·z + σ·noise within ${worst}`);
      t.ok(largestDifference(sample, known) < 1e-6, `${name}, ${steps} steps: ends on what is known`);
    }
  }
});
