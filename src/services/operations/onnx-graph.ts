import { open, type FileHandle } from 'node:fs/promises';

/** A tensor at a graph's border; extents that are not fixed are names, or empty. */
export interface Border {
  type: string;
  shape: ReadonlyArray<number | string>;
}

export interface GraphFacts {
  inputs: Map<string, Border>;
  outputs: Map<string, Border>;
  /** Files that hold weights, relative to the graph's folder, with the bytes they must have at least. */
  weightFiles: Map<string, number>;
}

/** Bytes read at a time: most fields are small, weights are passed over. */
const windowBytes = 65_536;
/** onnx.proto3, TensorProto.DataType */
const types: Record<number, string> = {
  1: 'float32',
  6: 'int32',
  7: 'int64',
  9: 'bool',
  10: 'float16',
  11: 'float64',
  16: 'bfloat16',
};

interface Field {
  field: number;
  wire: number;
  value: number;
  start: number;
  end: number;
}
type Reader = Awaited<ReturnType<typeof createReader>>;

/**
 * What an ONNX file states about itself, read as protobuf (onnx.proto3) without its weights: milliseconds for
 * files of any size.
 * @throws Error `is no ONNX graph` or `is cut short`
 */
export async function readGraphFacts(file: string): Promise<GraphFacts> {
  const handle = await open(file);
  try {
    const reader = await createReader(handle);
    const facts: GraphFacts = { inputs: new Map(), outputs: new Map(), weightFiles: new Map() };
    for await (const model of reader.fields(0, reader.size))
      if (model.field === 7) await readGraph(reader, model, facts);
    if (facts.inputs.size === 0 || facts.outputs.size === 0) throw new Error('is no ONNX graph');
    return facts;
  } finally {
    await handle.close();
  }
}

async function readGraph(reader: Reader, { start, end }: Field, facts: GraphFacts): Promise<void> {
  for await (const part of reader.fields(start, end)) {
    if (part.field === 5) await noteWeightFile(reader, part, facts.weightFiles);
    if (part.field !== 11 && part.field !== 12) continue;
    const [name, border] = await readBorder(reader, part);
    (part.field === 11 ? facts.inputs : facts.outputs).set(name, border);
  }
}

/** TensorProto.external_data: key and value pairs. */
async function noteWeightFile(
  reader: Reader,
  { start, end }: Field,
  files: Map<string, number>,
): Promise<void> {
  const entries: Record<string, string> = {};
  for await (const part of reader.fields(start, end)) {
    if (part.field !== 13) continue;
    const pair: Record<number, string> = {};
    for await (const text of reader.fields(part.start, part.end)) pair[text.field] = await reader.text(text);
    entries[pair[1] ?? ''] = pair[2] ?? '';
  }
  const { location, offset = '0', length = '0' } = entries;
  if (location !== undefined)
    files.set(location, Math.max(files.get(location) ?? 0, Number(offset) + Number(length)));
}

/** ValueInfoProto: a name, and a type whose tensor has an element type and a shape. */
async function readBorder(reader: Reader, { start, end }: Field): Promise<[string, Border]> {
  let [name, type] = ['', 'unknown'];
  const shape: Array<number | string> = [];
  for await (const part of reader.fields(start, end)) {
    if (part.field === 1) name = await reader.text(part);
    if (part.field !== 2) continue;
    for await (const tensor of reader.within(part, 1)) {
      if (tensor.field === 1) type = types[tensor.value] ?? `type ${tensor.value}`;
      if (tensor.field !== 2) continue;
      for await (const dimension of reader.fields(tensor.start, tensor.end)) {
        let extent: number | string = '';
        for await (const stated of reader.fields(dimension.start, dimension.end))
          extent = stated.field === 1 ? stated.value : await reader.text(stated);
        shape.push(extent);
      }
    }
  }
  return [name, { type, shape }];
}

async function createReader(handle: FileHandle) {
  const { size } = await handle.stat();
  const window = Buffer.alloc(windowBytes);
  let [from, to] = [0, 0];

  async function byteAt(offset: number): Promise<number> {
    if (offset >= size) throw new Error('is cut short');
    if (offset < from || offset >= to) {
      const { bytesRead } = await handle.read(window, 0, windowBytes, offset);
      [from, to] = [offset, offset + bytesRead];
    }
    return window[offset - from] as number;
  }

  async function varint(offset: number): Promise<{ value: number; next: number }> {
    let [value, factor, next] = [0, 1, offset];
    for (;;) {
      const byte = await byteAt(next++);
      value += (byte & 0x7f) * factor;
      if (byte < 0x80) return { value, next };
      factor *= 128;
      if (next - offset > 10) throw new Error('is no ONNX graph');
    }
  }

  /** The fields of one message, without what is in them. */
  async function* fields(start: number, end: number): AsyncGenerator<Field> {
    for (let at = start; at < end;) {
      const key = await varint(at);
      const [field, wire] = [Math.floor(key.value / 8), key.value % 8];
      if (![0, 1, 2, 5].includes(wire) || field === 0) throw new Error('is no ONNX graph');
      const stated = wire === 0 || wire === 2 ? await varint(key.next) : { value: 0, next: key.next };
      const length = wire === 2 ? stated.value : wire === 1 ? 8 : wire === 5 ? 4 : 0;
      at = stated.next + length;
      if (at > end) throw new Error(end === size ? 'is cut short' : 'is no ONNX graph');
      yield { field, wire, value: stated.value, start: stated.next, end: at };
    }
  }

  /** The fields of the messages that are field `number` of another one. */
  async function* within({ start, end }: Field, number: number): AsyncGenerator<Field> {
    for await (const part of fields(start, end))
      if (part.field === number) yield* fields(part.start, part.end);
  }

  async function text({ start, end }: Field): Promise<string> {
    return (await handle.read(Buffer.alloc(end - start), 0, end - start, start)).buffer.toString('utf8');
  }

  return { size, fields, within, text };
}
