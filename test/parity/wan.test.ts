import path from 'node:path';
import t, { type Test } from 'tap';
import { openWanModel } from '../../src/inference/wan/model.js';
import { projectRoot } from '../../src/lib/project.js';
import { readCases, type MeasuredCase } from '../../tools/parity/parts.js';
import { measureT5Tokens, measureWanCase, measureWanText, measureWanTransformer, measureWanVae, type WanCase } from '../../tools/parity/wan.js';
import { kitFolder, requireKit } from './kit.js';

function check(t: Test, cases: MeasuredCase[], atLeast: number): void {
  t.ok(cases.length >= atLeast, `${cases.length} cases`);
  for (const { name, measures } of cases) {
    t.ok(measures.length > 0, name);
    for (const { what, value, bound, unit, ok } of measures) t.ok(ok, `${name}: ${what} ${value.toPrecision(3)} ${unit}, bound ${bound}`);
  }
}

t.test('token ids of T5 tokenizers are exactly transformers\', with and without byte fallback', async (t) => {
  for (const folder of ['t5', 't5-bytes']) if (requireKit(t, `tokenizers/${folder}`)) check(t, await measureT5Tokens(kitFolder, folder), 25);
});

t.test('WAN equals diffusers', async (t) => {
  if (!requireKit(t, 'wan-tiny')) return;
  const model = await openWanModel(path.join(projectRoot(), 'test/parity/models/wan-tiny'), { device: 'cpu', threads: 1 });
  t.teardown(() => model.release());
  await t.test('text embeddings', async (t) => { check(t, await measureWanText(kitFolder, model), 7); });
  await t.test('transformer, single steps', async (t) => { check(t, await measureWanTransformer(kitFolder, model), 3); });
  await t.test('VAE in chunks equals the clip in one piece', async (t) => { check(t, await measureWanVae(kitFolder, model), 3); });
  for (const item of await readCases<WanCase[]>(kitFolder, 'wan-tiny/cases.json')) {
    await t.test(`run ${item.name}`, async (t) => { check(t, [{ name: item.name, measures: await measureWanCase(model, path.join(kitFolder, 'wan-tiny'), item) }], 1); });
  }
});
