import { open, type FileHandle } from 'node:fs/promises';
import { readPickle, StoredTensor } from './pickle.js';
import { readExactly } from './safetensors.js';
import {
  bytesPerElement,
  CheckpointError,
  checkedEntry,
  type TensorEntry,
  type TensorTable,
} from './tensor-table.js';

/** Names, shapes and places of the tensors are a pickle; UMT5-XXL's has 30 kB. */
const largestPickle = 16 * 2 ** 20;
const largestDirectory = 64 * 2 ** 20;

interface ZipEntry {
  /** Of the entry's own header. */
  at: number;
  size: number;
  packed: number;
  method: number;
}

/**
 * The table of a file of `torch.save` (`.pth`, `.pt`, `.bin`): an uncompressed zip archive of one pickle and the
 * tensors' bytes. The pickle is read as data; what would run code is refused.
 * @throws CheckpointError naming what is damaged or not allowed
 */
export async function readTorchZip(file: string): Promise<TensorTable> {
  const handle = await open(file, 'r');
  try {
    const info = await handle.stat();
    if (!info.isFile()) throw new CheckpointError(file, 'is not a file');
    const entries = await readDirectory(file, handle, info.size);
    const pickleName = [...entries.keys()].find((name) => /^[^/]+\/data\.pkl$/.test(name));
    if (pickleName === undefined)
      throw new CheckpointError(file, 'is no file of torch.save: it has no data.pkl');
    const root = pickleName.slice(0, -'data.pkl'.length);
    const pickle = await locate(file, handle, pickleName, entries, info.size);
    if (pickle.length > largestPickle)
      throw new CheckpointError(file, `${pickleName} has ${pickle.length} bytes`);
    const tensors = tensorsOf(
      file,
      readPickle(file, await readExactly(handle, pickle.offset, pickle.length)),
    );
    const table = new Map<string, TensorEntry>();
    for (const [name, tensor] of tensors) {
      const place = await locate(file, handle, `${root}data/${tensor.key}`, entries, info.size);
      const size = bytesPerElement[tensor.dtype];
      const length = tensor.shape.reduce((product, extent) => product * extent, 1) * size;
      const first = tensor.first * size;
      if (!Number.isSafeInteger(first) || first < 0 || !(first + length <= place.length))
        throw new CheckpointError(file, `tensor "${name}" ends beyond its storage ${tensor.key}`);
      if (!isContiguous(tensor))
        throw new CheckpointError(file, `tensor "${name}" does not lie in one piece`);
      table.set(name, checkedEntry(file, name, { ...tensor, offset: place.offset + first, length }));
    }
    return table;
  } finally {
    await handle.close();
  }
}

/** A state dict, one under a name that training scripts give it, or several by name, as adapters have them. */
function tensorsOf(file: string, value: unknown): [string, StoredTensor][] {
  const dictionary = value instanceof Map ? (value as Map<unknown, unknown>) : new Map<unknown, unknown>();
  const inner = ['state_dict', 'model', 'model_state']
    .map((name) => dictionary.get(name))
    .find((each) => each instanceof Map);
  const found = [...((inner as Map<unknown, unknown> | undefined) ?? dictionary)];
  const entries = found.flatMap(([name, each]) =>
    each instanceof Map
      ? [...(each as Map<unknown, unknown>)].map(([own, one]) => [`${String(name)}.${String(own)}`, one])
      : [[name, each]],
  );
  const tensors = entries.filter(
    (entry): entry is [string, StoredTensor] =>
      typeof entry[0] === 'string' && entry[1] instanceof StoredTensor,
  );
  if (tensors.length === 0) throw new CheckpointError(file, 'holds no table of tensors');
  return tensors;
}

function isContiguous({ shape, strides }: StoredTensor): boolean {
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis -= 1) {
    if (shape[axis] !== 1 && strides[axis] !== step) return false;
    step *= shape[axis] as number;
  }
  return strides.length === shape.length;
}

/** Where an entry's bytes begin: after its own header, whose length only it knows. */
async function locate(
  file: string,
  handle: FileHandle,
  name: string,
  entries: Map<string, ZipEntry>,
  size: number,
) {
  const entry = entries.get(name);
  if (entry === undefined) throw new CheckpointError(file, `lacks ${name}`);
  if (entry.method !== 0 || entry.packed !== entry.size)
    throw new CheckpointError(file, `${name} is compressed`);
  if (entry.at + 30 > size) throw new CheckpointError(file, `${name} lies beyond the end: download it again`);
  const header = await readExactly(handle, entry.at, 30);
  if (header.readUInt32LE(0) !== 0x04034b50)
    throw new CheckpointError(file, `${name} has no header where it should`);
  const offset = entry.at + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
  if (offset + entry.size > size) throw new CheckpointError(file, `${name} is cut off: download it again`);
  return { offset, length: entry.size };
}

/** The archive's list of entries, which stands at its end (PKWARE's APPNOTE 4.3.12 to 4.3.16). */
async function readDirectory(file: string, handle: FileHandle, size: number): Promise<Map<string, ZipEntry>> {
  const damaged = (what: string) =>
    new CheckpointError(file, `is no file of torch.save, or cut off: ${what}`);
  const tail = Math.min(size, 65_557);
  const end = tail < 22 ? Buffer.alloc(0) : await readExactly(handle, size - tail, tail);
  const at = end.lastIndexOf(Buffer.from([0x50, 0x4b, 5, 6]));
  if (at < 0 || at + 22 > end.length) throw damaged('no end of a zip archive');
  let length = end.readUInt32LE(at + 12);
  let offset = end.readUInt32LE(at + 16);
  // archives beyond 4 GB have a second end before the first
  if (at >= 20 && end.readUInt32LE(at - 20) === 0x07064b50) {
    const wideAt = Number(end.readBigUInt64LE(at - 12));
    if (!(wideAt + 56 <= size)) throw damaged('the end of the zip archive lies beyond it');
    const wide = await readExactly(handle, wideAt, 56);
    length = Number(wide.readBigUInt64LE(40));
    offset = Number(wide.readBigUInt64LE(48));
  }
  if (length > largestDirectory || !(offset + length <= size))
    throw damaged('its list of entries lies beyond it');
  return entriesOf(file, await readExactly(handle, offset, length));
}

function entriesOf(file: string, directory: Buffer): Map<string, ZipEntry> {
  const entries = new Map<string, ZipEntry>();
  for (let at = 0; at + 46 <= directory.length && directory.readUInt32LE(at) === 0x02014b50;) {
    const [nameLength, extraLength] = [directory.readUInt16LE(at + 28), directory.readUInt16LE(at + 30)];
    const name = directory.toString('utf8', at + 46, at + 46 + nameLength);
    const fields = [at + 24, at + 20, at + 42].map((place) => directory.readUInt32LE(place));
    const wide = wideFields(directory.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength));
    // fields that do not fit stand in an extra, in this order
    const [size = 0, packed = 0, offset = 0] = fields.map((value) =>
      value === 0xffffffff ? (wide.shift() ?? -1) : value,
    );
    if (entries.has(name))
      throw new CheckpointError(file, `has two entries ${JSON.stringify(name.slice(0, 100))}`);
    if (!(size >= 0 && packed >= 0 && offset >= 0)) throw new CheckpointError(file, `${name} has no size`);
    entries.set(name, { at: offset, size, packed, method: directory.readUInt16LE(at + 10) });
    at += 46 + nameLength + extraLength + directory.readUInt16LE(at + 32);
  }
  return entries;
}

function wideFields(extra: Buffer): number[] {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    const end = Math.min(extra.length, at + 4 + extra.readUInt16LE(at + 2));
    const values: number[] = [];
    for (let place = at + 4; place + 8 <= end; place += 8) values.push(Number(extra.readBigUInt64LE(place)));
    return values;
  }
  return [];
}
