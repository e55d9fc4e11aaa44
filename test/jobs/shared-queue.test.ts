import t from 'tap';
import type { GenerateContext, GenerateOutcome } from '../../src/services/jobs/plan.js';
import { createProgressEstimator } from '../../src/services/jobs/progress-estimator.js';
import { until } from '../engines/support.js';
import { harness } from './support.js';

t.test('the next job is taken by what the computing one still needs, not by what is encoded beside it', async (t) => {
  const drawing = new Map<string, { onEvent: GenerateContext['onEvent']; finish: () => void }>();
  const done: GenerateOutcome = { files: [], timings: {}, metadata: {} };
  const h = await harness(t, {
    runner: { prepareAheadSeconds: 60 },
    parts: {
      // One second a step.
      estimator: { ...createProgressEstimator(), track: () => ({ at: (stage, step = 0, steps = 0) => ({ stage, step, steps, fraction: 0.5, etaSeconds: steps - step }), succeeded: () => {}, timings: () => ({}) }) },
      plan: (job) => ({
        estimateKey: 'key', stages: new Set(), references: [], metadata: {},
        generate: ({ onEvent }) => new Promise((resolve) => { drawing.set(job.prompt, { onEvent, finish: () => resolve(done) }); }),
      }),
    },
  });
  const progress = (prompt: string, stage: 'denoise' | 'encode', step: number) => drawing.get(prompt)?.onEvent({ kind: 'progress', stage, step, steps: 300 });
  const ids = [await h.submit('A'), await h.submit('B'), await h.submit('C')];
  const isTaken = (index: number) => h.runner.inFlight().some(({ id }) => id === ids[index]);
  h.runner.start();
  await until('A computes', () => drawing.has('A'));
  progress('A', 'denoise', 299);
  await until('B is prepared', () => isTaken(1));
  drawing.get('A')?.onEvent({ kind: 'computeDone' });
  await until('B computes', () => drawing.has('B'));
  progress('B', 'denoise', 1);
  progress('A', 'encode', 299);
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.notOk(isTaken(2), 'B has 299 s to go: C is for whoever is free');
  progress('B', 'denoise', 299);
  await until('C is prepared', () => isTaken(2));
  for (const prompt of ['A', 'B']) drawing.get(prompt)?.finish();
  await until('C computes', () => drawing.has('C'));
  drawing.get('C')?.finish();
  for (const id of ids) t.match(await h.ended(id), { status: 'completed' });
});
