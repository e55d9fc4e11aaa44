import { existsSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { openSdxlModel } from '../../src/inference/sdxl/model.js';
import { measureAdapters } from '../../tools/parity/adapter.js';
import { readCases } from '../../tools/parity/parts.js';
import { measureSdxlCase, measureSdxlComponents, type SdxlCase } from '../../tools/parity/sdxl.js';
import { check, kits, models } from './kit.js';

for (const kit of kits) {
  t.test(`SDXL equals diffusers: ${kit}`, async (t) => {
    const model = await openSdxlModel(path.join(models, 'sdxl-tiny'), { device: 'cpu', threads: 1 });
    t.teardown(() => model.release());
    await t.test('text encoders, UNet and VAE alone', async (t) => {
      check(t, await measureSdxlComponents(kit, model), 8);
    });
    const folder = path.join(kit, 'sdxl-tiny');
    const cases = await readCases<SdxlCase[]>(folder, 'cases.json');
    t.ok(cases.length >= 9, `${cases.length} runs`);
    for (const item of cases) {
      await t.test(`run ${item.name}`, async (t) => {
        check(t, [{ name: item.name, measures: await measureSdxlCase(model, folder, item) }], 1);
      });
    }
    // not every kit has some
    if (existsSync(path.join(folder, 'adapters.json')))
      await t.test('references through an IP-Adapter', async (t) => {
        check(t, await measureAdapters(kit, models, t.testdir(), 'cpu'), 2);
      });
  });
}
