import { writeFile } from 'node:fs/promises';
import type { TensorBytes } from './checkpoints.js';

const u16 = (value: number) => Buffer.from(Uint16Array.of(value).buffer);
const u32 = (value: number) => Buffer.from(Uint32Array.of(value).buffer);
const text = (value: string) =>
  Buffer.concat([Buffer.from('X'), u32(Buffer.byteLength(value)), Buffer.from(value)]);
const whole = (value: number) => Buffer.concat([Buffer.from('J'), u32(value)]);
export const globalName = (module: string, name: string) => Buffer.from(`c${module}\n${name}\n`);
const tuple = (parts: Buffer[]) => Buffer.concat([Buffer.from('('), ...parts, Buffer.from('t')]);
const emptyOrdered = Buffer.concat([globalName('collections', 'OrderedDict'), Buffer.from(')R')]);
const kinds = { F32: 'FloatStorage', F16: 'HalfStorage', BF16: 'BFloat16Storage' } as Record<string, string>;

export interface PickledTensor extends TensorBytes {
  key: string;
  strides?: number[];
  first?: number;
}

/** The pickle torch.save writes for a state dict, or for one of each of `groups`, the first part of a name. */
export function pickleOf(
  tensors: ReadonlyMap<string, PickledTensor>,
  groups: readonly string[] = [],
): Buffer {
  const inside = (group: string) =>
    [...tensors]
      .filter(([name]) => name.startsWith(`${group}.`))
      .map(([name, tensor]) => itemOf(name.slice(group.length + 1), tensor));
  const items =
    groups.length === 0
      ? [...tensors].map(([name, tensor]) => itemOf(name, tensor))
      : groups.map((group) => Buffer.concat([text(group), dictOf(inside(group))]));
  return Buffer.concat([Buffer.from([0x80, 2]), dictOf(items), Buffer.from('.')]);
}

const dictOf = (items: Buffer[]) =>
  Buffer.concat([emptyOrdered, Buffer.from('('), ...items, Buffer.from('u')]);

function itemOf(name: string, { dtype, shape, key, first = 0, ...rest }: PickledTensor): Buffer {
  const strides = rest.strides ?? shape.map((_, i) => shape.slice(i + 1).reduce((a, b) => a * b, 1));
  const elements = shape.reduce((a, b) => a * b, 1);
  const kind = globalName('torch', kinds[dtype] ?? dtype);
  const storage = [text('storage'), kind, text(key), text('cpu'), whole(elements)];
  const view = [
    whole(first),
    tuple(shape.map(whole)),
    tuple(strides.map(whole)),
    Buffer.from([0x89]),
    emptyOrdered,
  ];
  const given = tuple([tuple(storage), Buffer.from('Q'), ...view]);
  return Buffer.concat([
    text(name),
    globalName('torch._utils', '_rebuild_tensor_v2'),
    given,
    Buffer.from('R'),
  ]);
}

/** An uncompressed zip archive, each entry's bytes at a multiple of 64 as torch pads them. */
export function zipOf(entries: ReadonlyMap<string, Buffer>, method = 0): Buffer {
  const parts: Buffer[] = [];
  const directory: Buffer[] = [];
  let at = 0;
  for (const [name, bytes] of entries) {
    const padding = (64 - ((at + 30 + name.length + 4) % 64)) % 64;
    const extra = Buffer.concat([Buffer.from('FB'), u16(padding), Buffer.alloc(padding)]);
    const sizes = [u32(0), u32(bytes.length), u32(bytes.length), u16(name.length)];
    const common = [u16(20), u16(0), u16(method), u32(0), ...sizes];
    const local = Buffer.concat([
      u32(0x04034b50),
      ...common,
      u16(extra.length),
      Buffer.from(name),
      extra,
      bytes,
    ]);
    const ends = [u16(0), u16(0), u16(0), u16(0), u32(0), u32(at), Buffer.from(name)];
    directory.push(Buffer.concat([u32(0x02014b50), u16(20), ...common, ...ends]));
    parts.push(local);
    at += local.length;
  }
  const list = Buffer.concat(directory);
  const counts = [u16(0), u16(0), u16(directory.length), u16(directory.length)];
  return Buffer.concat([...parts, list, u32(0x06054b50), ...counts, u32(list.length), u32(at), u16(0)]);
}

export async function writeTorchZip(
  file: string,
  tensors: ReadonlyMap<string, TensorBytes>,
  groups: readonly string[] = [],
): Promise<void> {
  const keyed = new Map([...tensors].map(([name, tensor], i) => [name, { ...tensor, key: String(i) }]));
  const storages = [...keyed.values()].map(({ key, bytes }): [string, Buffer] => [
    `archive/data/${key}`,
    bytes,
  ]);
  await writeFile(file, zipOf(new Map([['archive/data.pkl', pickleOf(keyed, groups)], ...storages])));
}
