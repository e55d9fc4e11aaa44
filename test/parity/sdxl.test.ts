import path from 'node:path';
import t from 'tap';
import { openSdxlModel } from '../../src/inference/sdxl/model.js';
import { projectRoot } from '../../src/lib/project.js';
import { measureSdxlCase, type SdxlCase } from '../../tools/parity/sdxl.js';
import { readCases } from '../../tools/parity/parts.js';
import { kitFolder, requireKit } from './kit.js';

t.test('whole SDXL runs equal diffusers\'', async (t) => {
  if (!requireKit(t, 'sdxl-tiny')) return;
  const model = await openSdxlModel(path.join(projectRoot(), 'test/parity/models/sdxl-tiny'), { device: 'cpu', threads: 1 });
  t.teardown(() => model.release());
  for (const item of await readCases<SdxlCase[]>(kitFolder, 'sdxl-tiny/cases.json')) {
    await t.test(item.name, async (t) => {
      for (const { what, value, bound, unit, ok } of await measureSdxlCase(model, path.join(kitFolder, 'sdxl-tiny'), item)) {
        t.ok(ok, `${what}: ${value.toPrecision(3)} ${unit}, bound ${bound}`);
      }
    });
  }
});
