import path from 'node:path';
import t from 'tap';
import { openWanModel } from '../../src/inference/wan/model.js';
import { readCases } from '../../tools/parity/parts.js';
import {
  measureT5Tokens,
  measureWanCase,
  measureWanText,
  measureWanTransformer,
  measureWanVae,
  type WanCase,
} from '../../tools/parity/wan.js';
import { check, kits, models } from './kit.js';

for (const kit of kits) {
  t.test(
    `token ids of T5 tokenizers are exactly transformers', with and without byte fallback: ${kit}`,
    async (t) => {
      for (const folder of ['t5', 't5-bytes']) check(t, await measureT5Tokens(kit, folder, models), 25);
    },
  );

  t.test(`WAN equals diffusers: ${kit}`, async (t) => {
    const model = await openWanModel(path.join(models, 'wan-tiny'), { device: 'cpu', threads: 1 });
    t.teardown(() => model.release());
    await t.test('text embeddings', async (t) => {
      check(t, await measureWanText(kit, model), 7);
    });
    await t.test('transformer, single steps', async (t) => {
      check(t, await measureWanTransformer(kit, model), 3);
    });
    await t.test('VAE in chunks equals the clip in one piece', async (t) => {
      check(t, await measureWanVae(kit, model), 3);
    });
    const folder = path.join(kit, 'wan-tiny');
    const cases = await readCases<WanCase[]>(folder, 'cases.json');
    t.ok(cases.length >= 4, `${cases.length} runs`);
    for (const item of cases) {
      await t.test(`run ${item.name}`, async (t) => {
        check(t, [{ name: item.name, measures: await measureWanCase(model, folder, item) }], 1);
      });
    }
  });
}
