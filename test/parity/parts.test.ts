import path from 'node:path';
import t from 'tap';
import { createGenerator } from '../../src/inference/diffusion/random.js';
import { openSdxlModel } from '../../src/inference/sdxl/model.js';
import { largestDifference } from '../../tools/parity/measure.js';
import { measureCompel, measureNoise, measureSchedulers, measureTokens } from '../../tools/parity/parts.js';
import { check, kits, models } from './kit.js';

t.test('golden values of torch.randn, kept here so that they hold without the kit', async (t) => {
  // torch 2.13 CPU: seed 42, [1,4,128,128], first six; seed 0, n = 16, first four
  t.ok(
    largestDifference(
      createGenerator(42).randn(65536).slice(0, 6),
      [1.9269153, 1.4872841, 0.9007172, -2.105521, 0.6784185, -1.2345449],
    ) < 1e-6,
  );
  t.ok(
    largestDifference(
      createGenerator(0).randn(16).slice(0, 4),
      [-1.1258398, -1.1523602, -0.2505786, -0.4338788],
    ) < 1e-6,
  );
});

for (const kit of kits) {
  t.test(`noise equals torch's CPU generator: ${kit}`, async (t) => {
    check(t, await measureNoise(kit), 30);
  });

  t.test(`every scheduler follows diffusers step by step: ${kit}`, async (t) => {
    check(t, await measureSchedulers(kit), 19);
  });

  t.test(`token ids of both CLIP tokenizers are exactly transformers': ${kit}`, async (t) => {
    check(t, await measureTokens(kit, models), 40);
  });

  t.test(`weights are read and applied as Compel 2.4 does: ${kit}`, async (t) => {
    const model = await openSdxlModel(path.join(models, 'sdxl-tiny'), { device: 'cpu', threads: 1 });
    t.teardown(() => model.release());
    check(t, await measureCompel(kit, model), 40);
  });
}
