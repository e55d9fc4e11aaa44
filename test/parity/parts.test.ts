import path from 'node:path';
import t, { type Test } from 'tap';
import { createGenerator } from '../../src/inference/diffusion/random.js';
import { openSdxlModel } from '../../src/inference/sdxl/model.js';
import { projectRoot } from '../../src/lib/project.js';
import { largestDifference } from '../../tools/parity/measure.js';
import { measureCompel, measureNoise, measureSchedulers, measureTokens, type MeasuredCase } from '../../tools/parity/parts.js';
import { kitFolder, requireKit } from './kit.js';

function check(t: Test, cases: MeasuredCase[], atLeast: number): void {
  t.ok(cases.length >= atLeast, `${cases.length} cases`);
  for (const { name, measures } of cases) {
    t.ok(measures.length > 0, name);
    for (const { what, value, bound, unit, ok } of measures) t.ok(ok, `${name}: ${what} ${value.toPrecision(3)} ${unit}, bound ${bound}`);
  }
}

t.test('golden values of torch.randn, kept here so that they hold without the kit', async (t) => {
  // torch 2.13 CPU: seed 42, [1,4,128,128], first six; seed 0, n = 16, first four
  t.ok(largestDifference(createGenerator(42).randn(65536).slice(0, 6), [1.9269153, 1.4872841, 0.9007172, -2.105521, 0.6784185, -1.2345449]) < 1e-6);
  t.ok(largestDifference(createGenerator(0).randn(16).slice(0, 4), [-1.1258398, -1.1523602, -0.2505786, -0.4338788]) < 1e-6);
});

t.test('noise equals torch\'s CPU generator', async (t) => {
  if (requireKit(t, 'rng')) check(t, await measureNoise(kitFolder), 30);
});

t.test('every scheduler follows diffusers step by step', async (t) => {
  if (requireKit(t, 'schedulers')) check(t, await measureSchedulers(kitFolder), 19);
});

t.test('token ids of both CLIP tokenizers are exactly transformers\'', async (t) => {
  if (requireKit(t, 'tokenizers/clip')) check(t, await measureTokens(kitFolder), 40);
});

t.test('weights are read and applied as Compel 2.4 does', async (t) => {
  if (!requireKit(t, 'compel')) return;
  const model = await openSdxlModel(path.join(projectRoot(), 'test/parity/models/sdxl-tiny'), { device: 'cpu', threads: 1 });
  t.teardown(() => model.release());
  check(t, await measureCompel(kitFolder, model), 40);
});
