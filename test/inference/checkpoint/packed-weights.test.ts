import { createHash } from 'node:crypto';
import { open, readdir, readFile, stat, truncate, utimes, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { bytesOf, loadAll, writeSafetensors } from '../../helpers/checkpoints.js';
import { floatsToHalves, halvesToFloats } from '../../../src/inference/diffusion/floats.js';
import { type PackedTensor, packWeights } from '../../../src/inference/checkpoint/packed-weights.js';
import { readSafetensors } from '../../../src/inference/checkpoint/safetensors.js';
import type { TensorEntry } from '../../../src/inference/checkpoint/tensor-table.js';

const floats = (count: number, of: (i: number) => number = (i) => Math.sin(i) * 3) =>
  Float32Array.from({ length: count }, (_, i) => of(i));
const bytes = ({ buffer }: { buffer: ArrayBufferLike }) => Buffer.from(buffer as ArrayBuffer);

async function source(t: Test) {
  const file = path.join(t.testdir(), 'model.safetensors');
  const conv = floats(5 * 3 * 4);
  const brain = Buffer.from(bytes(floats(6)).filter((_, i) => i % 4 >= 2));
  await writeSafetensors(
    file,
    new Map([
      ['conv', { dtype: 'F32', shape: [5, 3, 2, 2], bytes: bytes(conv) }],
      ['half', { dtype: 'F16', shape: [2, 3], bytes: bytes(floatsToHalves(floats(6, (i) => i / 7))) }],
      ['brain', { dtype: 'BF16', shape: [2, 3], bytes: brain }],
      ['large', { dtype: 'F32', shape: [1], bytes: bytes(floats(1, () => 70_000)) }],
    ] as const),
  );
  const table = await readSafetensors(file);
  const entry = (name: string) => table.get(name) as TensorEntry;
  const packed: PackedTensor[] = [
    {
      name: 'turned',
      dtype: 'F32',
      shape: [8, 2, 2, 3],
      parts: [{ sum: [entry('conv')], channelsLast: [5, 3, 2, 2] }],
    },
    {
      name: 'both',
      dtype: 'F16',
      shape: [4, 3],
      parts: [{ sum: [entry('half')] }, { sum: [entry('brain')] }],
    },
    { name: 'added', dtype: 'F32', shape: [2, 3], parts: [{ sum: [entry('half'), entry('brain')] }] },
  ];
  return { file, packed, conv, entry, target: path.join(path.dirname(file), 'packed/model.safetensors') };
}

t.test('tensors are turned, joined, added and rounded as asked', async (t) => {
  const { packed, conv, target } = await source(t);
  let last = [0, 1];
  const table = await packWeights(target, packed, { onBytes: (...seen) => void (last = seen) });
  t.equal(last[0], (await stat(target)).size);
  t.equal(last[0], last[1], 'progress ends at the end');
  const all = await loadAll(table);
  const values = (name: string) => new Float32Array(Uint8Array.from(all.get(name)?.bytes ?? []).buffer);
  const turned = values('turned');
  for (let o = 0; o < 5; o += 1)
    for (let i = 0; i < 3; i += 1)
      for (let p = 0; p < 4; p += 1) t.equal(turned[(o * 4 + p) * 3 + i], conv[(o * 3 + i) * 4 + p]);
  t.ok(
    turned.subarray(60).every((value) => value === 0),
    'zeros after the last',
  );
  const halves = halvesToFloats(new Uint16Array(Uint8Array.from(all.get('both')?.bytes ?? []).buffer));
  const brain = floats(6).map((value) =>
    Buffer.from(bytes(Float32Array.of(value)).map((b, i) => (i < 2 ? 0 : b))).readFloatLE(),
  );
  t.same(halves, halvesToFloats(floatsToHalves(Float32Array.of(...floats(6, (i) => i / 7), ...brain))));
  const rounded = halvesToFloats(floatsToHalves(floats(6, (i) => i / 7)));
  t.same(
    values('added'),
    rounded.map((value, i) => value + (brain[i] as number)),
  );
});

t.test(
  'a file that is there is used, an interrupted one goes on, an old or damaged one is made anew',
  async (t) => {
    const { file, packed, target } = await source(t);
    await packWeights(target, packed);
    const written = await stat(target);
    const hash = createHash('sha256')
      .update(await readFile(target))
      .digest('hex');
    await packWeights(target, packed);
    t.equal((await stat(target)).mtimeMs, written.mtimeMs, 'not written again');
    const whole = await readFile(target);
    const made = async () => {
      await packWeights(target, packed);
      return createHash('sha256')
        .update(await readFile(target))
        .digest('hex');
    };
    await truncate(target, whole.length - 10);
    t.equal(await made(), hash, 'a truncated one is made anew');
    await writeFile(`${target}.part`, whole.subarray(0, whole.length - 30));
    await writeFile(target, 'rubbish');
    t.equal(await made(), hash, 'an interrupted one goes on');
    await writeFile(`${target}.part`, Buffer.alloc(whole.length));
    await writeFile(target, '');
    t.equal(await made(), hash, 'what is no beginning of it is not used');
    t.same(await readdir(path.dirname(target)), ['model.safetensors'], 'nothing else is left');
    const { mtimeMs } = await stat(target);
    await utimes(file, new Date(), new Date(Date.now() + 5000));
    await packWeights(target, packed);
    t.not((await stat(target)).mtimeMs, mtimeMs, 'a changed source is noticed');
  },
);

t.test('what was written long before an interruption is kept as it is', async (t) => {
  const folder = t.testdir();
  const file = path.join(folder, 'model.safetensors');
  const count = 16 << 20;
  const ones = Buffer.alloc(4 * count, 1);
  await writeSafetensors(file, new Map([['x', { dtype: 'F32', shape: [count], bytes: ones }]]));
  const x = (await readSafetensors(file)).get('x') as TensorEntry;
  const packed = ['a', 'b', 'c', 'd'].map((name): PackedTensor => ({
    name,
    dtype: 'F32',
    shape: [count],
    parts: [{ sum: [x] }],
  }));
  const target = path.join(folder, 'packed.safetensors');
  const stop = new AbortController();
  const onBytes = (done: number) => done > 3 * ones.length && stop.abort();
  await t.rejects(packWeights(target, packed, { signal: stop.signal, onBytes }), { name: 'AbortError' });
  // a mark in what was written first shows whether it is written again
  const handle = await open(`${target}.part`, 'r+');
  await handle.write(Buffer.from('mark'), 0, 4, 4096);
  await handle.close();
  const table = await packWeights(target, packed);
  t.ok((await bytesOf(table.get('a') as TensorEntry)).includes('mark'), 'the beginning was kept');
  for (const name of ['b', 'c', 'd'])
    t.ok((await bytesOf(table.get(name) as TensorEntry)).equals(ones), name);
});

t.test('a value beyond 16-bit floats is named', async (t) => {
  const { entry, target } = await source(t);
  const large: PackedTensor = { name: 'large', dtype: 'F16', shape: [1], parts: [{ sum: [entry('large')] }] };
  await t.rejects(packWeights(target, [large]), {
    message: /model\.safetensors: tensor large has values beyond/,
  });
});
