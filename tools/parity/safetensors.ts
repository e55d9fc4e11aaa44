import { readFile } from 'node:fs/promises';
import { halfToFloat } from '../../src/inference/diffusion/floats.js';

export interface StoredTensor {
  dims: number[];
  data: Float32Array | BigInt64Array;
}

/**
 * Reads a whole safetensors file: 8-byte header length, JSON header, raw little-endian data. F32, F16
 * (widened) and I64.
 */
export async function readSafetensors(file: string): Promise<Map<string, StoredTensor>> {
  const buffer = await readFile(file);
  const headerBytes = Number(buffer.readBigUInt64LE(0));
  const header = JSON.parse(buffer.subarray(8, 8 + headerBytes).toString('utf8')) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  const tensors = new Map<string, StoredTensor>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === '__metadata__') continue;
    const [start, end] = entry.data_offsets;
    // a copy, because a typed array needs an aligned offset
    const bytes = Uint8Array.from(buffer.subarray(8 + headerBytes + start, 8 + headerBytes + end)).buffer;
    tensors.set(name, { dims: entry.shape, data: decode(entry.dtype, bytes) });
  }
  return tensors;
}

function decode(dtype: string, bytes: ArrayBuffer): StoredTensor['data'] {
  switch (dtype) {
    case 'F32':
      return new Float32Array(bytes);
    case 'F16':
      return Float32Array.from(new Uint16Array(bytes), halfToFloat);
    case 'I64':
      return new BigInt64Array(bytes);
    default:
      throw new Error(`safetensors type ${dtype} is not supported`);
  }
}

/** Reads tensors by name; a name that is not there is an error, not an empty comparison. */
export async function openRecords(file: string) {
  const recorded = await readSafetensors(file);
  const stored = (name: string) => {
    const tensor = recorded.get(name);
    if (tensor === undefined) throw new Error(`${file} has no tensor ${name}`);
    return tensor;
  };
  return {
    dims: (name: string) => stored(name).dims,
    floats: (name: string) => Float32Array.from(stored(name).data as ArrayLike<number>, Number),
    has: (name: string) => recorded.has(name),
  };
}
