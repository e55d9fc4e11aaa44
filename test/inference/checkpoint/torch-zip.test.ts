import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { bytesOf } from '../../helpers/checkpoints.js';
import { globalName, pickleOf, type PickledTensor, writeTorchZip, zipOf } from '../../helpers/torch-zip.js';
import { readTorchZip } from '../../../src/inference/checkpoint/torch-zip.js';

const values = Buffer.from(Float32Array.of(1, 2, 3, 4, 5, 6).buffer);
const weight: PickledTensor = { dtype: 'F32', shape: [2, 3], bytes: values, key: '0' };

async function written(t: Test, content: Buffer): Promise<string> {
  const file = path.join(t.testdir(), 'model.pth');
  await writeFile(file, content);
  return file;
}

t.test("a table says where torch's tensors lie", async (t) => {
  const file = path.join(t.testdir(), 'model.pth');
  const half: PickledTensor = { dtype: 'BF16', shape: [3], bytes: Buffer.from([1, 2, 3, 4, 5, 6]), key: '1' };
  await writeTorchZip(
    file,
    new Map([
      ['a.weight', weight],
      ['b', half],
    ]),
  );
  const table = await readTorchZip(file);
  t.match(table.get('a.weight'), { dtype: 'F32', shape: [2, 3], file, length: 24 });
  t.match(table.get('b'), { dtype: 'BF16', shape: [3], length: 6 });
  for (const [name, { bytes }] of Object.entries({ 'a.weight': weight, b: half }))
    t.ok((await bytesOf(table.get(name) as never)).equals(bytes), name);
});

t.test('damaged and hostile files are refused by name', async (t) => {
  const one = (change: Partial<PickledTensor>) => pickleOf(new Map([['a', { ...weight, ...change }]]));
  const archive = (pickle: Buffer, method = 0) =>
    zipOf(
      new Map([
        ['archive/data.pkl', pickle],
        ['archive/data/0', values],
      ]),
      method,
    );
  const good = archive(one({}));
  const call = (name: Buffer) =>
    Buffer.concat([Buffer.from([0x80, 2]), name, Buffer.from('(X\x02\0\0\0lstR.')]);
  const stacked = Buffer.from('\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x02ls\x85R.', 'latin1');
  const cases: [string, Buffer, RegExp][] = [
    ['code by GLOBAL', archive(call(globalName('os', 'system'))), /names "os\.system", which could run code/],
    ['code by STACK_GLOBAL', archive(stacked), /names "posix\.system"/],
    ['code of torch itself', archive(call(globalName('torch', 'load'))), /names "torch\.load"/],
    ['INST', archive(Buffer.from('\x80\x02(ios\nsystem\n.', 'latin1')), /step 0x69/],
    ['an empty stack', archive(Buffer.from('\x80\x02.', 'latin1')), /empty stack/],
    ['no end', archive(Buffer.from('\x80\x02}', 'latin1')), /ends too early/],
    ['no tensors', archive(Buffer.from('\x80\x02}.', 'latin1')), /no table of tensors/],
    ['a recall of nothing', archive(Buffer.from('\x80\x02h\x07.', 'latin1')), /recalls/],
    ['a storage of another file', archive(one({ key: '../0' })), /storage of an unknown kind/],
    ['a storage that is not there', archive(one({ key: '7' })), /lacks archive\/data\/7/],
    ['a view beyond its storage', archive(one({ first: 3 })), /"a" ends beyond its storage/],
    ['a larger shape', archive(one({ shape: [2, 4] })), /"a" ends beyond its storage/],
    ['a transposed view', archive(one({ strides: [1, 2] })), /"a" does not lie in one piece/],
    ['an overflowing shape', archive(one({ shape: [2 ** 30, 2 ** 30, 2 ** 30] })), /"a" ends beyond/],
    ['compression', archive(one({}), 8), /compressed/],
    ['cut off', good.subarray(0, good.length - 30), /is no file of torch\.save, or cut off/],
    ['no zip', Buffer.alloc(4096), /no end of a zip archive/],
    ['empty', Buffer.alloc(0), /no end of a zip archive/],
    ['another zip', zipOf(new Map([['a.txt', values]])), /it has no data\.pkl/],
  ];
  for (const [what, content, message] of cases) {
    const file = await written(t, content);
    const began = performance.now();
    const error = await readTorchZip(file).then(
      () => null,
      (error: unknown) => error as Error,
    );
    t.match(error?.message, message, what);
    t.ok(performance.now() - began < 1000, `${what}: within a second`);
  }
});
