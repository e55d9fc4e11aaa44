import { open, writeFile } from 'node:fs/promises';
import type { StoredType, TensorEntry, TensorTable } from '../../src/inference/checkpoint/tensor-table.js';

export interface TensorBytes {
  dtype: StoredType;
  shape: readonly number[];
  bytes: Buffer;
}

export async function bytesOf({ file, offset, length }: TensorEntry): Promise<Buffer> {
  const handle = await open(file);
  try {
    const bytes = Buffer.alloc(length);
    await handle.read(bytes, 0, length, offset);
    return bytes;
  } finally {
    await handle.close();
  }
}

/** Every tensor of a table with its values. */
export async function loadAll(table: TensorTable): Promise<Map<string, TensorBytes>> {
  const loaded = new Map<string, TensorBytes>();
  for (const [name, entry] of table)
    loaded.set(name, { dtype: entry.dtype, shape: entry.shape, bytes: await bytesOf(entry) });
  return loaded;
}

export async function writeSafetensors(
  file: string,
  tensors: ReadonlyMap<string, TensorBytes>,
): Promise<void> {
  let at = 0;
  const header: Record<string, unknown> = {};
  for (const [name, { dtype, shape, bytes }] of tensors) {
    header[name] = { dtype, shape, data_offsets: [at, at + bytes.length] };
    at += bytes.length;
  }
  // an odd number of bytes before the data, so that no tensor is aligned
  const json = JSON.stringify(header);
  const text = Buffer.from(json.length % 2 === 0 ? `${json} ` : json);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  await writeFile(file, Buffer.concat([length, text, ...[...tensors.values()].map(({ bytes }) => bytes)]));
}
