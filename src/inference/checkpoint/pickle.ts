import { CheckpointError, printable, type StoredType } from './tensor-table.js';

/** One tensor as torch's pickle describes it: a view of a storage. */
export class StoredTensor {
  constructor(
    readonly dtype: StoredType,
    /** Name of the storage's file in the archive. */
    readonly key: string,
    /** First element in the storage. */
    readonly first: number,
    readonly shape: number[],
    readonly strides: number[],
  ) {}
}

class Storage {
  constructor(
    readonly dtype: StoredType,
    readonly key: string,
  ) {}
}

/** A function or class that a pickle may name; nothing else is, and these are not called but understood. */
class Name {
  constructor(readonly path: string) {}
}

const storages: Record<string, StoredType> = {
  DoubleStorage: 'F64',
  FloatStorage: 'F32',
  HalfStorage: 'F16',
  BFloat16Storage: 'BF16',
  LongStorage: 'I64',
  IntStorage: 'I32',
  ShortStorage: 'I16',
  CharStorage: 'I8',
  ByteStorage: 'U8',
  BoolStorage: 'BOOL',
};
const allowed = new Set([
  'collections OrderedDict',
  'torch._utils _rebuild_tensor_v2',
  'torch._utils _rebuild_parameter',
  ...Object.keys(storages).map((name) => `torch ${name}`),
]);

const mark = Symbol('mark');
const mostValues = 2_000_000;

/**
 * What a pickle of `torch.save` holds: maps, lists, numbers, texts and tensors. Its machine has no step that calls
 * anything: names outside a short list of torch's own are refused, and those are understood here.
 * @throws CheckpointError naming what is not allowed
 */
export function readPickle(file: string, data: Buffer): unknown {
  const stack: unknown[] = [];
  const memo = new Map<number, unknown>();
  let at = 0;
  let values = 0;
  const refuse = (what: string): never => {
    throw new CheckpointError(file, `its pickle ${what}: refused`);
  };
  const take = (length: number): Buffer => {
    if (at + length > data.length) refuse('ends too early');
    at += length;
    return data.subarray(at - length, at);
  };
  const push = (value: unknown) => {
    values += 1;
    if (values > mostValues) refuse('has too many values');
    stack.push(value);
  };
  const pop = (): unknown => (stack.length === 0 ? refuse('takes from an empty stack') : stack.pop());
  const popToMark = (): unknown[] => {
    const index = stack.lastIndexOf(mark);
    if (index < 0) refuse('has no mark');
    const taken = stack.splice(index);
    return taken.slice(1);
  };
  const line = (): string => {
    const length = data.indexOf(10, at) - at;
    return length < 0 ? refuse('ends too early') : take(length + 1).toString('utf8', 0, length);
  };
  const name = (path: string): Name => {
    if (!allowed.has(path)) refuse(`names ${printable(path.replace(' ', '.'))}, which could run code`);
    return new Name(path);
  };
  const setItems = (items: unknown[]) => {
    const target = stack.at(-1);
    if (!(target instanceof Map) || items.length % 2 !== 0) return refuse('fills what is no dictionary');
    for (let i = 0; i < items.length; i += 2) target.set(items[i], items[i + 1]);
  };
  const append = (items: unknown[]) => {
    const target = stack.at(-1);
    if (!Array.isArray(target)) return refuse('fills what is no list');
    target.push(...items);
  };
  const text = (length: number) => take(length).toString('utf8');
  const remembered = (index: number) =>
    memo.has(index) ? memo.get(index) : refuse('recalls what it never kept');

  const steps: Record<number, () => void> = {
    0x80: () => take(1), // PROTO
    0x95: () => take(8), // FRAME
    0x7d: () => push(new Map()), // EMPTY_DICT
    0x5d: () => push([]), // EMPTY_LIST
    0x29: () => push([]), // EMPTY_TUPLE
    0x28: () => push(mark), // MARK
    0x4e: () => push(null), // NONE
    0x88: () => push(true), // NEWTRUE
    0x89: () => push(false), // NEWFALSE
    0x4b: () => push(take(1).readUInt8()), // BININT1
    0x4d: () => push(take(2).readUInt16LE()), // BININT2
    0x4a: () => push(take(4).readInt32LE()), // BININT
    0x8a: () => push(wholeNumber(take(take(1).readUInt8()))), // LONG1
    0x47: () => push(take(8).readDoubleBE()), // BINFLOAT
    0x8c: () => push(text(take(1).readUInt8())), // SHORT_BINUNICODE
    0x58: () => push(text(take(4).readUInt32LE())), // BINUNICODE
    0x55: () => push(text(take(1).readUInt8())), // SHORT_BINSTRING
    0x74: () => push(popToMark()), // TUPLE
    0x85: () => push(stack.splice(-1)), // TUPLE1
    0x86: () => push(stack.splice(-2)), // TUPLE2
    0x87: () => push(stack.splice(-3)), // TUPLE3
    0x71: () => memo.set(take(1).readUInt8(), stack.at(-1)), // BINPUT
    0x72: () => memo.set(take(4).readUInt32LE(), stack.at(-1)), // LONG_BINPUT
    0x94: () => memo.set(memo.size, stack.at(-1)), // MEMOIZE
    0x68: () => push(remembered(take(1).readUInt8())), // BINGET
    0x6a: () => push(remembered(take(4).readUInt32LE())), // LONG_BINGET
    0x63: () => push(name(`${line()} ${line()}`)), // GLOBAL
    0x93: () => {
      const [module, attribute] = stack.splice(-2);
      push(name(`${String(module)} ${String(attribute)}`)); // STACK_GLOBAL
    },
    0x51: () => push(storageOf(pop()) ?? refuse('has a storage of an unknown kind')), // BINPERSID
    0x52: () => {
      const [callee, given] = stack.splice(-2);
      push(rebuilt(callee, given) ?? refuse('builds what is no tensor')); // REDUCE
    },
    0x73: () => setItems(stack.splice(-2)), // SETITEM
    0x75: () => setItems(popToMark()), // SETITEMS
    0x61: () => append(stack.splice(-1)), // APPEND
    0x65: () => append(popToMark()), // APPENDS
    0x62: () => void pop(), // BUILD: attributes of a state dict, such as its versions, are of no use here
    0x30: () => void pop(), // POP
  };

  for (;;) {
    const code = take(1).readUInt8();
    if (code === 0x2e) return pop(); // STOP
    const step = steps[code];
    if (step === undefined) refuse(`has the step 0x${code.toString(16)}, which no checkpoint needs`);
    else step();
  }
}

function wholeNumber(bytes: Buffer): number {
  let value = 0n;
  for (const [i, byte] of bytes.entries()) value |= BigInt(byte) << BigInt(8 * i);
  return Number(bytes.length > 0 ? BigInt.asIntN(8 * bytes.length, value) : 0n);
}

/** ('storage', kind, key, device, elements) */
function storageOf(value: unknown): Storage | undefined {
  const [word, kind, key] = Array.isArray(value) ? (value as unknown[]) : [];
  if (word !== 'storage' || !(kind instanceof Name) || typeof key !== 'string' || !/^\d+$/.test(key))
    return undefined;
  const dtype = storages[kind.path.replace('torch ', '')];
  return dtype === undefined ? undefined : new Storage(dtype, key);
}

/** What the few allowed functions give: a tensor, or an empty dictionary. */
function rebuilt(callee: unknown, given: unknown): unknown {
  if (!(callee instanceof Name) || !Array.isArray(given)) return undefined;
  if (callee.path === 'collections OrderedDict') return new Map();
  const [storage, first, shape, strides] = given as unknown[];
  if (callee.path === 'torch._utils _rebuild_parameter')
    return storage instanceof StoredTensor ? storage : undefined;
  if (callee.path !== 'torch._utils _rebuild_tensor_v2' || !(storage instanceof Storage)) return undefined;
  return typeof first === 'number' && isNumbers(shape) && isNumbers(strides)
    ? new StoredTensor(storage.dtype, storage.key, first, shape, strides)
    : undefined;
}

const isNumbers = (value: unknown): value is number[] =>
  Array.isArray(value) && value.every((each) => Number.isSafeInteger(each) && (each as number) >= 0);
