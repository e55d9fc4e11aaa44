import { createHash } from 'node:crypto';
import { mkdir, open, readdir, rename, stat, truncate, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import { readExactly, readSafetensors } from './safetensors.js';
import { bytesPerElement, CheckpointError, type TensorEntry, type TensorTable } from './tensor-table.js';

/** Tensors added up element by element, converted to the type of the whole. */
export interface PackedPart {
  sum: readonly TensorEntry[];
  /** [O, I, h, w] as the checkpoint counts, written as [O, h, w, I]; [O, I, t, h, w] as [O, h, w, t, I]. */
  channelsLast?: readonly number[];
}

/** A tensor that no file has as it is wanted: parts end to end, zeros after them. */
export interface PackedTensor {
  name: string;
  dtype: 'F16' | 'F32';
  shape: readonly number[];
  parts: readonly PackedPart[];
}

export interface PackProgress {
  /** Bytes written, and bytes in all. */
  onBytes?(done: number, total: number): void;
  signal?: AbortSignal;
}

/**
 * Writes tensors into one `.safetensors` file, or finds that it has them already: its key is made of the recipes and of
 * size and time of the files they are made from. What an interrupted run has written is used.
 * @throws CheckpointError naming a tensor whose values do not fit
 */
export async function packWeights(
  file: string,
  tensors: readonly PackedTensor[],
  { onBytes, signal }: PackProgress = {},
): Promise<TensorTable> {
  const key = await keyOf(tensors);
  const known = await readPacked(file, key);
  if (known !== null) return known;
  const header = headerOf(tensors, key);
  const total = header.length + tensors.reduce((sum, tensor) => sum + bytesOf(tensor), 0);
  await mkdir(path.dirname(file), { recursive: true });
  const part = await takePart(file);
  const { handle, written } = await openPart(part, header);
  try {
    let at = header.length;
    let synced = written;
    onBytes?.(at, total);
    for (const tensor of tensors) {
      const end = at + bytesOf(tensor);
      if (end > written) await writeTensor(handle, tensor, at, signal);
      at = end;
      if (at - synced > syncEvery) {
        await handle.datasync();
        synced = at;
      }
      onBytes?.(at, total);
    }
    await handle.sync();
  } catch (error) {
    await rename(part, `${file}.part`);
    if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error;
    throw new CheckpointError(file, `does not fit on the disk: it takes ${total} bytes`);
  } finally {
    await handle.close();
  }
  await rename(part, file);
  return readSafetensors(file);
}

/** Nobody has written to it for so long: whoever did was killed. */
const abandonedMs = 60_000;

/**
 * A name of our own, for several processes may want the same file at once; what another one left unfinished becomes
 * ours.
 */
async function takePart(file: string): Promise<string> {
  const own = `${file}.part-${process.pid}-${Date.now().toString(36)}`;
  const folder = path.dirname(file);
  for (const name of await readdir(folder)) {
    if (!name.startsWith(`${path.basename(file)}.part`)) continue;
    const other = path.join(folder, name);
    const age = Date.now() - ((await stat(other).catch(() => null))?.mtimeMs ?? Infinity);
    if (!name.endsWith('.part') && age < abandonedMs) continue;
    if (
      await rename(other, own).then(
        () => true,
        () => false,
      )
    )
      break;
  }
  return own;
}

const syncEvery = 64 << 20;
const chunkElements = 2 << 20;

const elementsOf = (shape: readonly number[]) => shape.reduce((product, extent) => product * extent, 1);
const bytesOf = ({ dtype, shape }: PackedTensor) => elementsOf(shape) * bytesPerElement[dtype];

async function keyOf(tensors: readonly PackedTensor[]): Promise<string> {
  const files = new Map<string, string>();
  for (const { file } of tensors.flatMap(({ parts }) => parts.flatMap(({ sum }) => sum)))
    if (!files.has(file)) {
      const { size, mtimeMs } = await stat(file);
      files.set(file, `${path.basename(file)} ${size} ${mtimeMs}`);
    }
  const recipes = tensors.map(({ parts, ...rest }) => ({
    ...rest,
    parts: parts.map(({ sum, channelsLast }) => [
      channelsLast ?? null,
      sum.map(({ file, dtype, shape, offset }) => [files.get(file), dtype, shape, offset]),
    ]),
  }));
  return createHash('sha256').update(JSON.stringify(recipes)).digest('hex');
}

/** Null: not there, or made from something else. */
async function readPacked(file: string, key: string): Promise<TensorTable | null> {
  const table = await readSafetensors(file).catch(() => null);
  if (table === null) return null;
  const handle = await open(file);
  try {
    const length = Number((await readExactly(handle, 0, 8)).readBigUInt64LE());
    const { __metadata__: metadata } = JSON.parse((await readExactly(handle, 8, length)).toString()) as {
      __metadata__?: { key?: string };
    };
    return metadata?.key === key ? table : null;
  } finally {
    await handle.close();
  }
}

function headerOf(tensors: readonly PackedTensor[], key: string): Buffer {
  let at = 0;
  const entries = tensors.map((tensor) => {
    const { name, dtype, shape } = tensor;
    const begin = at;
    at += bytesOf(tensor);
    return [name, { dtype, shape, data_offsets: [begin, at] }];
  });
  const text = JSON.stringify({ __metadata__: { key }, ...Object.fromEntries(entries) });
  // the data begin at a multiple of 64
  const json = Buffer.from(text.padEnd(64 * Math.ceil((Buffer.byteLength(text) + 8) / 64) - 8));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json]);
}

/** An interrupted file of the same header goes on before the last bytes that may not have reached the disk. */
async function openPart(part: string, header: Buffer): Promise<{ handle: FileHandle; written: number }> {
  const size = await stat(part).then(
    (info) => info.size,
    () => 0,
  );
  if (size > header.length && (await startsWith(part, header))) {
    const written = Math.max(header.length, size - 2 * syncEvery);
    await truncate(part, written);
    return { handle: await open(part, 'r+'), written };
  }
  const handle = await open(part, 'w');
  await handle.write(header);
  return { handle, written: header.length };
}

async function startsWith(file: string, bytes: Buffer): Promise<boolean> {
  const handle = await open(file);
  try {
    return (await readExactly(handle, 0, bytes.length)).equals(bytes);
  } finally {
    await handle.close();
  }
}

async function writeTensor(handle: FileHandle, tensor: PackedTensor, begin: number, signal?: AbortSignal) {
  let at = begin;
  for (const part of tensor.parts)
    for await (const values of valuesOf(part)) {
      signal?.throwIfAborted();
      const bytes = encode(values, tensor);
      await handle.write(bytes, 0, bytes.length, at);
      at += bytes.length;
    }
  const rest = begin + bytesOf(tensor) - at;
  if (rest < 0) throw new Error(`${tensor.name}: its parts are larger than it`);
  if (rest > 0) await handle.write(Buffer.alloc(rest), 0, rest, at);
}

/** Float32 chunks; whole rows of output channels where these are turned. */
async function* valuesOf({ sum, channelsLast }: PackedPart): AsyncGenerator<Float32Array> {
  const [first, ...others] = sum as [TensorEntry, ...TensorEntry[]];
  const elements = elementsOf(first.shape);
  const row = channelsLast === undefined ? 1 : elements / (channelsLast[0] as number);
  const step = row * Math.max(1, Math.floor(chunkElements / row));
  for (let from = 0; from < elements; from += step) {
    const count = Math.min(step, elements - from);
    const values = await readFloats(first, from, count);
    for (const other of others) {
      const more = await readFloats(other, from, count);
      for (let i = 0; i < count; i += 1) (values[i] as number) += more[i] as number;
    }
    yield channelsLast === undefined ? values : turned(values, channelsLast);
  }
}

/** [n, I, (t,) h, w] -> [n, h, w, (t,) I] */
function turned(values: Float32Array, shape: readonly number[]): Float32Array {
  const [, inputs = 1, ...volume] = shape;
  const [times, height, width] = [...(volume.length === 2 ? [1] : []), ...volume] as [number, number, number];
  const pixels = height * width;
  const result = new Float32Array(values.length);
  const row = inputs * times * pixels;
  for (let start = 0, at = 0; start < values.length; start += row)
    for (let pixel = 0; pixel < pixels; pixel += 1)
      for (let time = 0; time < times; time += 1)
        for (let i = 0; i < inputs; i += 1, at += 1)
          result[at] = values[start + (i * times + time) * pixels + pixel] as number;
  return result;
}

/** Native where the runtime has it, as Node 24 does. */
declare const Float16Array: new (
  values: ArrayBuffer | Float32Array,
) => ArrayLike<number> & { buffer: ArrayBuffer };

const decoders: Partial<Record<TensorEntry['dtype'], (bytes: ArrayBuffer) => Float32Array>> = {
  F32: (bytes) => new Float32Array(bytes),
  F16: (bytes) => new Float32Array(new Float16Array(bytes)),
  BF16(bytes) {
    const [halves, wide] = [new Uint16Array(bytes), new Uint32Array(bytes.byteLength / 2)];
    for (let i = 0; i < wide.length; i += 1) wide[i] = (halves[i] as number) << 16;
    return new Float32Array(wide.buffer);
  },
};

async function readFloats({ file, dtype, offset }: TensorEntry, from: number, count: number) {
  const decode = decoders[dtype];
  if (decode === undefined) throw new CheckpointError(file, `has values of type ${dtype}: not supported`);
  const size = bytesPerElement[dtype];
  const handle = await open(file);
  try {
    const bytes = await readExactly(handle, offset + from * size, count * size);
    return decode(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length) as ArrayBuffer);
  } finally {
    await handle.close();
  }
}

function encode(values: Float32Array, { name, dtype, parts }: PackedTensor): Uint8Array {
  if (dtype === 'F32') return new Uint8Array(values.buffer);
  const halves = new Uint16Array(new Float16Array(values).buffer);
  const problem = `tensor ${name} has values beyond what 16-bit floats hold`;
  for (let i = 0; i < halves.length; i += 1)
    if (((halves[i] as number) & 0x7c00) === 0x7c00)
      throw new CheckpointError(parts[0]?.sum[0]?.file ?? '', problem);
  return new Uint8Array(halves.buffer);
}
