import { open, readFile, stat, type FileHandle } from 'node:fs/promises';
import path from 'node:path';
import {
  CheckpointError,
  checkedEntry,
  printable,
  type TensorEntry,
  type TensorTable,
} from './tensor-table.js';

/** A header lists names and places; SDXL's whole checkpoint needs 0.3 MB. */
const largestHeader = 16 * 2 ** 20;
const mostTensors = 100_000;

/**
 * The table of a `.safetensors` file: eight bytes of length, a JSON header, the tensors end to end.
 * @throws CheckpointError when the header does not describe exactly the bytes that follow it
 */
export async function readSafetensors(file: string): Promise<TensorTable> {
  const { size, ...header } = await readSafetensorsHeader(file);
  return tableOf(file, size, header);
}

/** What a header lists, unchecked, and the bytes of the whole file. @throws CheckpointError when it is no header */
export async function readSafetensorsHeader(file: string) {
  const handle = await open(file, 'r');
  try {
    const info = await handle.stat();
    if (!info.isFile()) throw new CheckpointError(file, 'is not a file');
    return { size: info.size, ...(await readHeader(file, handle, info.size)) };
  } finally {
    await handle.close();
  }
}

async function readHeader(file: string, handle: FileHandle, size: number) {
  if (size < 10) throw new CheckpointError(file, `is too short for a safetensors file (${size} bytes)`);
  const length = (await readExactly(handle, 0, 8)).readBigUInt64LE();
  if (length > BigInt(largestHeader))
    throw new CheckpointError(file, `is no safetensors file: its header would have ${length} bytes`);
  if (length > BigInt(size - 8))
    throw new CheckpointError(
      file,
      `ends inside its header (${size} bytes of ${length + 8n}): download it again`,
    );
  const text = (await readExactly(handle, 8, Number(length))).toString('utf8');
  try {
    const header: unknown = JSON.parse(text);
    if (typeof header !== 'object' || header === null || Array.isArray(header)) throw new Error('no object');
    return { entries: Object.entries(header), dataStart: Number(length) + 8 };
  } catch {
    throw new CheckpointError(file, 'is no safetensors file: its header is not a JSON object');
  }
}

function tableOf(
  file: string,
  size: number,
  { entries, dataStart }: { entries: [string, unknown][]; dataStart: number },
): TensorTable {
  if (entries.length > mostTensors) throw new CheckpointError(file, `lists ${entries.length} tensors`);
  const table = new Map<string, TensorEntry>();
  for (const [name, value] of entries) {
    if (name === '__metadata__') continue;
    const { dtype, shape, data_offsets: offsets } = (value ?? {}) as Record<string, unknown>;
    const [begin, end] = Array.isArray(offsets) ? (offsets as unknown[]) : [];
    if (!isOffset(begin) || !isOffset(end) || begin > end || !Array.isArray(offsets) || offsets.length !== 2)
      throw new CheckpointError(file, `tensor ${printable(name)} has no valid data_offsets`);
    if (end > size - dataStart)
      throw new CheckpointError(
        file,
        `tensor ${printable(name)} ends ${end - (size - dataStart)} bytes beyond the file: download it again`,
      );
    table.set(
      name,
      checkedEntry(file, name, { dtype, shape, offset: dataStart + begin, length: end - begin }),
    );
  }
  requireGapless(file, table, dataStart, size);
  return table;
}

/**
 * The format allows neither overlaps nor holes: bytes that belong to nobody or to two are a sign of
 * tampering.
 */
function requireGapless(file: string, table: TensorTable, dataStart: number, size: number): void {
  let at = dataStart;
  let before = 'the header';
  for (const [name, { offset, length }] of [...table].sort(
    ([, a], [, b]) => a.offset - b.offset || a.length - b.length,
  )) {
    if (offset !== at)
      throw new CheckpointError(
        file,
        `tensor ${printable(name)} ${offset < at ? 'overlaps' : 'leaves a gap after'} ${printable(before)}`,
      );
    at = offset + length;
    before = name;
  }
  if (at !== size) throw new CheckpointError(file, `has ${size - at} bytes that no tensor names`);
}

const isOffset = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

/** @throws Error when the file ends before */
export async function readExactly(handle: FileHandle, offset: number, length: number): Promise<Buffer> {
  const bytes = Buffer.alloc(length);
  for (let done = 0; done < length;) {
    const { bytesRead } = await handle.read(bytes, done, length - done, offset + done);
    if (bytesRead === 0) throw new Error('the file ends too early');
    done += bytesRead;
  }
  return bytes;
}

/**
 * The table of a checkpoint in several files with `….safetensors.index.json`.
 * @throws CheckpointError when index and files do not name the same tensors
 */
export async function readShards(indexFile: string): Promise<TensorTable> {
  if ((await stat(indexFile)).size > largestHeader)
    throw new CheckpointError(indexFile, 'is too large for an index');
  const map = parseIndex(indexFile, await readFile(indexFile, 'utf8'));
  const table = new Map<string, TensorEntry>();
  for (const shard of new Set(Object.values(map))) {
    if (typeof shard !== 'string' || !/^[\w.-]+\.safetensors$/.test(shard))
      throw new CheckpointError(
        indexFile,
        `names the file ${printable(String(shard))}, which is not beside it`,
      );
    for (const [name, entry] of await readSafetensors(path.join(path.dirname(indexFile), shard)))
      if (map[name] === shard) table.set(name, entry);
      else throw new CheckpointError(indexFile, `does not name ${printable(name)} of ${shard}`);
  }
  for (const [name, shard] of Object.entries(map))
    if (!table.has(name)) throw new CheckpointError(indexFile, `${String(shard)} lacks ${printable(name)}`);
  return table;
}

function parseIndex(file: string, text: string): Record<string, unknown> {
  try {
    const { weight_map: map } = JSON.parse(text) as { weight_map?: unknown };
    if (typeof map === 'object' && map !== null) return map as Record<string, unknown>;
  } catch {
    // said below
  }
  throw new CheckpointError(file, 'has no weight_map');
}

const chunkBytes = 8 << 20;

/** Masks of the exponent, all of whose bits are set in what is infinite or no number. */
const exponents: Partial<
  Record<TensorEntry['dtype'], { view: typeof Uint16Array | typeof Uint32Array; mask: number }>
> = {
  F16: { view: Uint16Array, mask: 0x7c00 },
  BF16: { view: Uint16Array, mask: 0x7f80 },
  F32: { view: Uint32Array, mask: 0x7f800000 },
};

/** @throws CheckpointError when a tensor has values that are infinite or no number */
export async function requireFinite(
  entry: TensorEntry & { name: string },
  onBytes: (count: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const kind = exponents[entry.dtype];
  const handle = await open(entry.file);
  const buffer = new ArrayBuffer(Math.min(chunkBytes, entry.length));
  try {
    for (let done = 0; done < entry.length;) {
      signal.throwIfAborted();
      const wanted = Math.min(chunkBytes, entry.length - done);
      const { bytesRead } = await handle.read(new Uint8Array(buffer), 0, wanted, entry.offset + done);
      if (bytesRead !== wanted) throw new CheckpointError(entry.file, 'ends too early');
      if (
        kind !== undefined &&
        hasExtreme(new kind.view(buffer, 0, wanted / kind.view.BYTES_PER_ELEMENT), kind.mask)
      )
        throw new CheckpointError(
          entry.file,
          `tensor ${entry.name} has values that are infinite or no number`,
        );
      done += wanted;
      onBytes(wanted);
    }
  } finally {
    await handle.close();
  }
}

function hasExtreme(values: Uint16Array | Uint32Array, mask: number): boolean {
  for (let i = 0; i < values.length; i += 1) if (((values[i] as number) & mask) === mask) return true;
  return false;
}
