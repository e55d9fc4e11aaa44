import {
  attribute,
  type ElementType,
  elementTypes,
  encodeModel,
  externalTensor,
  modelOf,
  type ModelProto,
  type NodeProto,
  rawTensor,
  type TensorProto,
  valueInfo,
  type ValueInfoProto,
} from './onnx-proto.js';
import { isFloat, Layer, type NodeOptions, type Value } from './layer.js';
import type { Form } from './lowering.js';
import type { PackedPart, PackedTensor } from '../checkpoint/packed-weights.js';
import type { StoredType, TensorEntry, TensorTable } from '../checkpoint/tensor-table.js';

export type { Layer, Value } from './layer.js';

/** Operators of ONNX Runtime beyond the standard. */
export const microsoft = 'com.microsoft';

const stored: Partial<Record<StoredType, ElementType>> = {
  F64: 'double',
  F32: 'float',
  F16: 'float16',
  BF16: 'bfloat16',
};

/** A checkpoint whose tensors are not those that the architecture and its configuration say. */
export class ArchitectureError extends Error {
  override readonly name = 'ArchitectureError';
}

/** Above that, values that are stored wider are halved once into a file instead of at every opening. */
const mostFolded = 65_536;

/** An ONNX graph under construction over the tensors of one checkpoint, which stay in their files. */
export class Graph {
  private nodes: (NodeProto | (() => void))[] = [];
  private readonly made = new Map<string, NodeProto>();
  private readonly read = new Set<string>();
  private readonly packs = new Map<string, PackedTensor & { type: ElementType }>();
  private readonly initializers = new Map<string, TensorProto>();
  private readonly inputs: ValueInfoProto[] = [];
  private readonly outputs: ValueInfoProto[] = [];
  private readonly taken = new Map<string, number>();
  private readonly casts = new Map<string, Value>();
  /** While a graph inside this one is written: where casts of weights go. */
  private outside: typeof this.nodes | undefined;
  private readonly unread: Set<string>;

  constructor(
    readonly title: string,
    private readonly tensors: TensorTable,
    readonly form: Form,
    private readonly opset = 17,
  ) {
    this.unread = new Set(tensors.keys());
  }

  /** The layer whose tensors begin with `name.`; without a name the whole model. */
  layer(name = ''): Layer {
    return new Layer(this, name);
  }

  input(name: string, type: ElementType, dims: readonly (number | string)[]): Value {
    this.inputs.push(valueInfo(name, type, dims));
    return { name, type };
  }

  /** As float32 where it is some float: one code path serves whatever is computed in. */
  output(name: string, value: Value, dims: readonly (number | string)[]): void {
    const type = isFloat(value.type) ? 'float' : value.type;
    const opType = type === value.type ? 'Identity' : 'Cast';
    const attributes = opType === 'Cast' ? { to: elementTypes[type] } : {};
    this.node(name, opType, [value], 1, { names: [name], type, attributes });
    this.outputs.push(valueInfo(name, type, dims));
  }

  constant(
    type: 'float' | 'float16' | 'int64',
    values: readonly number[] | Float32Array,
    dims?: readonly number[],
  ): Value {
    const extents = dims ?? [values.length];
    const key =
      values.length <= 8 ? `${type}[${extents.join(',')}]=${[...values].join(',')}` : this.unique('constant');
    this.initializers.set(key, rawTensor(key, type, extents, values));
    return { name: key, type };
  }

  has(name: string): boolean {
    return this.tensors.has(name);
  }

  /** @throws ArchitectureError when the checkpoint has no such tensor, or one of another shape */
  entry(name: string, shape?: readonly number[]): TensorEntry {
    const entry = this.tensors.get(name);
    if (entry === undefined) throw new ArchitectureError(`${this.title}: the checkpoint lacks ${name}`);
    if (shape !== undefined && entry.shape.join() !== shape.join())
      throw new ArchitectureError(
        `${this.title}: ${name} is [${entry.shape.join(', ')}], the configuration asks for [${shape.join(', ')}]`,
      );
    this.unread.delete(name);
    return entry;
  }

  /**
   * The bytes of a tensor where they lie, in the type they are stored in; `dims` may group them otherwise.
   */
  external(name: string, entry: TensorEntry, dims: readonly number[]): Value {
    const type = stored[entry.dtype];
    if (type === undefined)
      throw new ArchitectureError(`${this.title}: ${name} is of type ${entry.dtype}: not supported`);
    const key = dims.join() === entry.shape.join() ? name : `${name}[${dims.join(',')}]`;
    this.initializers.set(key, externalTensor(key, type, dims, entry));
    return { name: key, type };
  }

  /** In `type`: where it lies, by a cast that the runtime folds when it opens the graph, or packed. */
  weight(name: string, entry: TensorEntry, dims: readonly number[], type: 'float' | 'float16'): Value {
    const elements = dims.reduce((product, extent) => product * extent, 1);
    if (type === 'float16' && stored[entry.dtype] !== type && elements > mostFolded)
      return this.pack(name, type, dims, [{ sum: [entry] }]);
    return this.cast(this.external(name, entry, dims), type);
  }

  /** Values that no file has in this order and type: they are written once into a file of their own. */
  pack(name: string, type: 'float' | 'float16', dims: readonly number[], parts: PackedPart[]): Value {
    const key = `${name}[${dims.join(',')}]`;
    this.packs.set(key, { name: key, dtype: type === 'float' ? 'F32' : 'F16', shape: dims, parts, type });
    return { name: key, type };
  }

  /** What is to be packed for this graph. */
  get packed(): PackedTensor[] {
    this.finish();
    return [...this.packs.values()].map(({ name, dtype, shape, parts }) => ({ name, dtype, shape, parts }));
  }

  node(
    where: string,
    opType: string,
    inputs: readonly (Value | null)[],
    count: number,
    options: NodeOptions,
  ): Value[] {
    const { attributes = {}, domain = '', mixed = false } = options;
    const floats = new Set(
      inputs.flatMap((value) => (value !== null && isFloat(value.type) ? [value.type] : [])),
    );
    const input = inputs.map((value) => value?.name ?? '');
    const name = this.unique(`${where}/${opType}`);
    if (floats.size > 1 && !mixed)
      throw new ArchitectureError(`${this.title}: ${name} is given ${[...floats].join(' and ')}`);
    const type = options.type ?? inputs[0]?.type ?? 'float';
    const output =
      options.names?.slice() ?? Array.from({ length: count }, (_, i) => (i === 0 ? name : `${name}:${i}`));
    const attributesOf = Object.entries(attributes).map(([key, value]) => attribute(key, value));
    const node: NodeProto = { name, opType, domain, input, output, attribute: attributesOf };
    this.nodes.push(node);
    this.made.set(output[0] as string, node);
    for (const each of input) this.read.add(each);
    return output.map((value) => ({ name: value, type }));
  }

  /** A further output of the node that made `value`. */
  alsoOutput(value: Value, at: number): Value {
    const { name, output } = this.made.get(value.name) as NodeProto;
    while (output.length < at) output.push('');
    output[at] = `${name}:${at}`;
    return { name: output[at], type: value.type };
  }

  /** Gives one more input to the operator that made `value`, if it is such a one and nothing has read it yet. */
  alsoInput(value: Value, opType: string, more: Value): boolean {
    const node = this.made.get(value.name);
    if (node?.opType !== opType || this.read.has(value.name)) return false;
    node.input.push(more.name);
    return true;
  }

  /** Writes nodes at this place once everything else is known. */
  defer(write: () => void): void {
    this.nodes.push(write);
  }

  /** The float type of a value; casts of weights are done once, when the runtime opens the graph. */
  cast(value: Value, type: 'float' | 'float16'): Value {
    if (value.type === type) return value;
    const key = `${value.name} as ${type}`;
    const known = this.casts.get(key);
    if (known !== undefined) return known;
    const attributes = { to: elementTypes[type] };
    const write = () => this.node(value.name, 'Cast', [value], 1, { attributes, type });
    const [cast] = this.into(this.outside ?? this.nodes, write) as [Value];
    this.casts.set(key, cast);
    return cast;
  }

  /** The nodes that `write` adds, for a graph inside this one; weights, constants and casts stay outside. */
  inside(write: () => void): NodeProto[] {
    const nodes: NodeProto[] = [];
    this.outside = this.nodes;
    this.into(nodes, write);
    this.outside = undefined;
    return nodes;
  }

  private into<T>(nodes: typeof this.nodes, write: () => T): T {
    const before = this.nodes;
    this.nodes = nodes;
    const written = write();
    this.nodes = before;
    return written;
  }

  /** Tensors under `prefix` that no layer has asked for. */
  unused(prefix = ''): string[] {
    return [...this.unread].filter((name) => name.startsWith(prefix));
  }

  /** The model without its weights; `packed` says where those lie that were packed. */
  model(packed: TensorTable = new Map()): ModelProto {
    this.finish();
    for (const { name, shape } of this.packs.values()) {
      const entry = packed.get(name);
      if (entry === undefined) throw new Error(`${this.title}: ${name} was not packed`);
      this.external(name, entry, shape);
    }
    const initializer = [...this.initializers.values()];
    const [name, node] = [this.title, this.nodes as NodeProto[]];
    return modelOf({ name, node, initializer, input: this.inputs, output: this.outputs }, this.opset);
  }

  encode(packed?: TensorTable): Uint8Array {
    return encodeModel(this.model(packed));
  }

  private finish(): void {
    const nodes: NodeProto[] = [];
    for (const item of this.nodes)
      if (typeof item === 'function') this.into(nodes, item);
      else nodes.push(item);
    this.nodes = nodes;
  }

  unique(name: string): string {
    const count = this.taken.get(name) ?? 0;
    this.taken.set(name, count + 1);
    return count === 0 ? name : `${name}_${count}`;
  }
}
