import path from 'node:path';
import t from 'tap';
import { createGenerator } from '../../src/inference/diffusion/random.js';
import { readSafetensors } from '../../src/inference/diffusion/safetensors.js';
import { kitFolder, readCases, requireKit, worstDifference } from './kit.js';

interface RngCase { kind: 'single' | 'sequence' | 'batch'; key?: string; keys?: string[]; seed?: number; seeds?: number[]; shape?: number[]; shapes?: number[][] }

const size = (shape: number[] = []) => shape.reduce((product, extent) => product * extent, 1);

t.test('golden values of torch.randn, kept here so that they hold without the kit', async (t) => {
  // torch 2.13 CPU: seed 42, [1,4,128,128], first six; seed 0, n = 16, first four
  t.ok(worstDifference(createGenerator(42).randn(65536).slice(0, 6), [1.9269153, 1.4872841, 0.9007172, -2.105521, 0.6784185, -1.2345449]) < 1e-6);
  t.ok(worstDifference(createGenerator(0).randn(16).slice(0, 4), [-1.1258398, -1.1523602, -0.2505786, -0.4338788]) < 1e-6);
});

t.test('noise equals torch\'s CPU generator', async (t) => {
  if (!requireKit(t, 'rng')) return;
  const recorded = await readSafetensors(path.join(kitFolder, 'rng/randn.safetensors'));
  const reference = (key: string | undefined) => {
    const tensor = recorded.get(key ?? '');
    if (tensor === undefined) throw new Error(`the kit has no tensor ${key}`);
    return tensor.data as Float32Array;
  };
  const compare = (values: Float32Array, key: string | undefined) => {
    const worst = worstDifference(values, reference(key));
    t.ok(worst <= 1e-6, `${key}: worst difference ${worst}`);
  };
  for (const item of await readCases<RngCase[]>('rng/cases.json')) {
    if (item.kind === 'single') compare(createGenerator(item.seed ?? 0).randn(size(item.shape)), item.key);
    else if (item.kind === 'sequence') {
      const generator = createGenerator(item.seed ?? 0);
      item.keys?.forEach((key, i) => { compare(generator.randn(size(item.shapes?.[i])), key); });
    } else {
      const rows = (item.seeds ?? []).map((seed) => createGenerator(seed).randn(size(item.shape) / (item.seeds?.length ?? 1)));
      compare(Float32Array.from(rows.flatMap((row) => [...row])), item.key);
    }
  }
});
