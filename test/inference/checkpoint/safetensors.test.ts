import { truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { readSafetensors, readShards } from '../../../src/inference/checkpoint/safetensors.js';

/** A safetensors file of this header over `bytes` bytes of zeros. */
function fileOf(header: unknown, bytes: number, stated?: bigint): Buffer {
  const text = Buffer.from(typeof header === 'string' ? header : JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(stated ?? BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(bytes)]);
}

const tensor = (shape: unknown, begin: unknown, end: unknown, dtype: unknown = 'F32') => ({
  dtype,
  shape,
  data_offsets: [begin, end],
});

async function written(t: Test, content: Buffer, name = 'model.safetensors'): Promise<string> {
  const file = path.join(t.testdir(), name);
  await writeFile(file, content);
  return file;
}

t.test('a table says where every tensor lies', async (t) => {
  const header = {
    __metadata__: { format: 'pt' },
    b: tensor([], 24, 26, 'F16'),
    'a.weight': tensor([2, 3], 0, 24),
  };
  const content = fileOf(header, 26);
  const file = await written(t, content);
  const table = await readSafetensors(file);
  const dataStart = content.length - 26;
  t.match(table.get('a.weight'), { dtype: 'F32', shape: [2, 3], file, offset: dataStart, length: 24 });
  t.match(table.get('b'), { dtype: 'F16', shape: [], offset: dataStart + 24, length: 2 });
});

t.test('damaged and hostile files are refused by name, quickly and in little memory', async (t) => {
  const good = { a: tensor([2], 0, 8), b: tensor([1], 8, 12) };
  const cases: [string, Buffer, RegExp][] = [
    ['empty', Buffer.alloc(0), /too short/],
    ['a header of 2^60 bytes', fileOf(good, 12, 2n ** 60n), /1152921504606846976 bytes/],
    ['a header beyond the file', fileOf(good, 12, 4096n), /ends inside its header/],
    ['no JSON', fileOf('{"a":', 12), /not a JSON object/],
    ['a list', fileOf([], 12), /not a JSON object/],
    ['brackets without end', fileOf('['.repeat(1_000_000), 12), /not a JSON object/],
    ['cut off', fileOf(good, 11), /"b" ends 1 bytes beyond the file/],
    ['bytes left over', fileOf(good, 13), /1 bytes that no tensor names/],
    ['overlap', fileOf({ a: tensor([2], 0, 8), b: tensor([1], 4, 8) }, 8), /"b" overlaps "a"/],
    ['gap', fileOf({ a: tensor([2], 0, 8), b: tensor([1], 12, 16) }, 16), /"b" leaves a gap after "a"/],
    ['two of the same bytes', fileOf({ a: tensor([2], 0, 8), b: tensor([2], 0, 8) }, 8), /"b" overlaps "a"/],
    ['offsets backwards', fileOf({ a: tensor([2], 8, 0) }, 8), /"a" has no valid data_offsets/],
    ['an offset below zero', fileOf({ a: tensor([2], -8, 0) }, 8), /"a" has no valid data_offsets/],
    ['an offset of 2^60', fileOf({ a: tensor([2], 0, 2 ** 60) }, 8), /"a" has no valid data_offsets/],
    [
      'three offsets',
      fileOf({ a: { dtype: 'F32', shape: [2], data_offsets: [0, 8, 8] } }, 8),
      /no valid data_offsets/,
    ],
    ['no entry', fileOf({ a: null }, 8), /"a" has no valid data_offsets/],
    [
      'a shape that is another size',
      fileOf({ a: tensor([3], 0, 8) }, 8),
      /"a" has 8 bytes where F32 \[3\] takes 12/,
    ],
    ['a shape that overflows', fileOf({ a: tensor([2 ** 32, 2 ** 32], 0, 8) }, 8), /"a" has 8 bytes/],
    ['a negative extent', fileOf({ a: tensor([-2, -1], 0, 8) }, 8), /"a" has a shape/],
    ['half an extent', fileOf({ a: tensor([0.5, 4], 0, 8) }, 8), /"a" has a shape/],
    ['a rank of 100', fileOf({ a: tensor(Array(100).fill(1), 0, 4) }, 4), /"a" has a shape/],
    ['an unknown type', fileOf({ a: tensor([2], 0, 8, 'F37') }, 8), /"a" has the type "F37"/],
    ['a type of Object', fileOf({ a: tensor([2], 0, 8, 'constructor') }, 8), /has the type "constructor"/],
    [
      'a name with ..',
      fileOf({ '../../etc/passwd': tensor([2], 0, 8) }, 8),
      /"\.\.\/\.\.\/etc\/passwd" has a name/,
    ],
    ['an absolute name', fileOf({ '/etc/passwd': tensor([2], 0, 8) }, 8), /has a name/],
    ['a name with a line break', fileOf({ 'a\nb': tensor([2], 0, 8) }, 8), /has a name/],
  ];
  const before = process.memoryUsage().rss;
  const began = performance.now();
  for (const [what, content, message] of cases) {
    const file = await written(t, content);
    const error = await readSafetensors(file).then(
      () => null,
      (error: unknown) => error as Error,
    );
    t.match(error?.message, message, what);
    t.ok(error?.message.startsWith(`${file}: `), `${what}: names the file`);
  }
  t.ok(performance.now() - began < 1000 * cases.length, 'each within a second');
  t.ok(process.memoryUsage().rss - before < 100e6, 'in less than 100 MB');
});

t.test('a hole of a terabyte is no reason to read it', async (t) => {
  const file = await written(t, fileOf({ a: tensor([2], 0, 8) }, 8));
  await truncate(file, 2 ** 40);
  await t.rejects(readSafetensors(file), /no tensor names/);
});

t.test('an index names files beside it and all that is in them', async (t) => {
  const index = (map: unknown) =>
    written(t, Buffer.from(JSON.stringify({ weight_map: map })), 'm.safetensors.index.json');
  const folder = t.testdir();
  await writeFile(path.join(folder, 'one.safetensors'), fileOf({ a: tensor([2], 0, 8) }, 8));
  await writeFile(
    path.join(folder, 'two.safetensors'),
    fileOf({ b: tensor([1], 0, 4), c: tensor([1], 4, 8) }, 8),
  );
  const all = { a: 'one.safetensors', b: 'two.safetensors', c: 'two.safetensors' };
  const beside = async (map: unknown) => {
    const file = path.join(folder, 'm.safetensors.index.json');
    await writeFile(file, JSON.stringify({ weight_map: map }));
    return readShards(file);
  };
  t.same([...(await beside(all)).keys()].sort(), ['a', 'b', 'c']);
  await t.rejects(
    beside({ ...all, a: '../one.safetensors' }),
    /"\.\.\/one\.safetensors", which is not beside it/,
  );
  await t.rejects(beside({ ...all, c: 'one.safetensors' }), /does not name "c" of two/);
  await t.rejects(beside({ ...all, d: 'two.safetensors' }), /two\.safetensors lacks "d"/);
  await t.rejects(beside({ ...all, a: 1 }), /which is not beside it/);
  await t.rejects(index(null).then(readShards), /has no weight_map/);
});
