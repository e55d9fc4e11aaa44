/** What checkpoints call their element types, as safetensors spells them. */
export const bytesPerElement = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const;

export type StoredType = keyof typeof bytesPerElement;

/** Where one tensor of a checkpoint lies. Nothing of it is in memory. */
export interface TensorEntry {
  dtype: StoredType;
  shape: readonly number[];
  /** Absolute path. */
  file: string;
  /** Of the first value, in bytes from the file's start; need not be aligned. */
  offset: number;
  /** Bytes. */
  length: number;
  /** Set where the file holds a matrix as [in, out] and `shape` says [out, in], as torch multiplies. */
  transposed?: true;
}

export type TensorTable = ReadonlyMap<string, TensorEntry>;

/**
 * A checkpoint that is damaged, hostile or of a kind that is not known; the message names file and tensor.
 */
export class CheckpointError extends Error {
  constructor(file: string, problem: string) {
    super(`${file}: ${problem}`);
    this.name = 'CheckpointError';
  }
}

const largestRank = 8;
const longestName = 512;
// eslint-disable-next-line no-control-regex
const unsafeName = /[\u0000-\u001f\\]|^\/|(^|[/.])\.\.([/.]|$)|\.\.\//;

/**
 * One entry whose name, type, shape and bytes agree with each other.
 * @throws CheckpointError naming the tensor and what is wrong with it
 */
export function checkedEntry(
  file: string,
  name: string,
  { dtype, shape, offset, length }: { dtype: unknown; shape: unknown; offset: number; length: number },
): TensorEntry {
  const refuse = (problem: string): never => {
    throw new CheckpointError(file, `tensor ${printable(name)} ${problem}`);
  };
  if (name === '' || name.length > longestName || unsafeName.test(name))
    refuse('has a name that is not allowed');
  if (typeof dtype !== 'string' || !Object.hasOwn(bytesPerElement, dtype))
    return refuse(`has the type ${printable(String(dtype))}, which is not known`);
  if (!Array.isArray(shape) || shape.length > largestRank || !shape.every(isExtent))
    return refuse('has a shape that is not a list of whole numbers');
  const extents = shape as number[];
  const elements = extents.reduce((product, extent) => product * extent, 1);
  const bytes = elements * bytesPerElement[dtype as StoredType];
  if (!Number.isSafeInteger(bytes) || bytes !== length)
    refuse(`has ${length} bytes where ${dtype} [${extents.join(', ')}] takes ${bytes}`);
  return { dtype: dtype as StoredType, shape: extents, file, offset, length };
}

/** A name as it may stand in a message. */
export const printable = (name: string) => JSON.stringify(name.slice(0, 100));

const isExtent = (value: unknown) => Number.isSafeInteger(value) && (value as number) >= 0;
