import path from 'node:path';
import {
  attribute,
  type Attributes,
  type ElementType,
  elementTypes,
  encodeModel,
  type NodeProto,
  type TensorProto,
  valueInfo,
  type ValueInfoProto,
} from './onnx-proto.js';
import type { Device } from '../engine-protocol.js';
import type { StoredType, TensorEntry, TensorTable } from '../checkpoint/tensor-table.js';

/** What flows along an edge of the graph. */
export interface Value {
  name: string;
  type: ElementType;
}

export interface NodeOptions {
  attributes?: Attributes;
  /** Of the outputs; that of the first input where absent. */
  type?: ElementType;
  domain?: string;
}

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

/** An ONNX graph under construction over the tensors of one checkpoint, which stay in their files. */
export class Graph {
  private readonly nodes: NodeProto[] = [];
  private readonly initializers = new Map<string, TensorProto>();
  private readonly inputs: ValueInfoProto[] = [];
  private readonly outputs: ValueInfoProto[] = [];
  private readonly taken = new Map<string, number>();
  private readonly casts = new Map<string, Value>();
  private readonly unread: Set<string>;

  constructor(
    readonly title: string,
    private readonly tensors: TensorTable,
    readonly device: Device,
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

  output(name: string, value: Value, dims: readonly (number | string)[]): void {
    this.nodes.push({
      name: `${name}/Identity`,
      opType: 'Identity',
      domain: '',
      input: [value.name],
      output: [name],
      attribute: [],
    });
    this.outputs.push(valueInfo(name, value.type, dims));
  }

  constant(
    type: 'float' | 'int64',
    values: readonly number[] | Float32Array,
    dims?: readonly number[],
  ): Value {
    const rawData = new Uint8Array(
      type === 'float'
        ? Float32Array.from(values).buffer
        : BigInt64Array.from(values as readonly number[], (value) => BigInt(value)).buffer,
    );
    const extents = dims ?? [values.length];
    const key =
      values.length <= 8 ? `${type}[${extents.join(',')}]=${[...values].join(',')}` : this.unique('constant');
    this.initializers.set(key, { name: key, dims: extents, dataType: elementTypes[type], rawData });
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
    const { root } = path.parse(entry.file);
    this.initializers.set(key, {
      name: key,
      dims,
      dataType: elementTypes[type],
      dataLocation: 1,
      externalData: [
        { key: 'location', value: path.relative(root, entry.file) },
        { key: 'offset', value: String(entry.offset) },
        { key: 'length', value: String(entry.length) },
      ],
    });
    return { name: key, type };
  }

  node(
    where: string,
    opType: string,
    inputs: readonly (Value | null)[],
    count: number,
    options: NodeOptions,
  ): Value[] {
    const { attributes = {}, domain = '' } = options;
    const floats = new Set(
      inputs.flatMap((value) => (value !== null && isFloat(value.type) ? [value.type] : [])),
    );
    const name = this.unique(`${where}/${opType}`);
    if (floats.size > 1)
      throw new ArchitectureError(`${this.title}: ${name} is given ${[...floats].join(' and ')}`);
    const type = options.type ?? inputs[0]?.type ?? 'float';
    const output = Array.from({ length: count }, (_, i) => (i === 0 ? name : `${name}:${i}`));
    this.nodes.push({
      name,
      opType,
      domain,
      input: inputs.map((value) => value?.name ?? ''),
      output,
      attribute: Object.entries(attributes).map(([key, value]) => attribute(key, value)),
    });
    return output.map((value) => ({ name: value, type }));
  }

  /**
   * float32 of a tensor that may be stored otherwise; the runtime does such casts once, when it opens the
   * graph.
   */
  asFloat(value: Value): Value {
    if (value.type === 'float') return value;
    let cast = this.casts.get(value.name);
    if (cast === undefined) {
      [cast] = this.node(value.name, 'Cast', [value], 1, {
        attributes: { to: elementTypes.float },
        type: 'float',
      });
      this.casts.set(value.name, cast as Value);
    }
    return cast as Value;
  }

  /** Tensors under `prefix` that no layer has asked for. */
  unused(prefix = ''): string[] {
    return [...this.unread].filter((name) => name.startsWith(prefix));
  }

  /** @returns the model as ONNX, without its weights */
  encode(): Uint8Array {
    return encodeModel({
      irVersion: 8,
      producerName: 'ourvidz',
      opsetImport: [
        { domain: '', version: 17 },
        { domain: microsoft, version: 1 },
      ],
      graph: {
        name: this.title,
        node: this.nodes,
        initializer: [...this.initializers.values()],
        input: this.inputs,
        output: this.outputs,
      },
    });
  }

  private unique(name: string): string {
    const count = this.taken.get(name) ?? 0;
    this.taken.set(name, count + 1);
    return count === 0 ? name : `${name}_${count}`;
  }
}

/** A part of a model by its name in the checkpoint; nodes made here carry that name. */
export class Layer {
  constructor(
    readonly graph: Graph,
    readonly path: string,
  ) {}

  at(name: string | number): Layer {
    return new Layer(this.graph, this.full(String(name)));
  }

  has(name: string): boolean {
    return this.graph.has(this.full(name));
  }

  /** A tensor of this layer as float32, of exactly this shape; `dims` groups the same values otherwise. */
  weight(name: string, shape: readonly number[], dims = shape): Value {
    return this.graph.asFloat(this.stored(name, shape, dims));
  }

  /** The same in the type it is stored in. */
  stored(name: string, shape: readonly number[], dims = shape): Value {
    return this.graph.external(this.full(name), this.entry(name, shape), dims);
  }

  entry(name: string, shape?: readonly number[]): TensorEntry {
    return this.graph.entry(this.full(name), shape);
  }

  op(type: string, inputs: readonly (Value | null)[], options: NodeOptions = {}): Value {
    return this.ops(type, inputs, 1, options)[0] as Value;
  }

  ops(type: string, inputs: readonly (Value | null)[], outputs: number, options: NodeOptions = {}): Value[] {
    return this.graph.node(this.path === '' ? this.graph.title : this.path, type, inputs, outputs, options);
  }

  private full(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }
}

const isFloat = (type: ElementType) => ['float', 'float16', 'bfloat16', 'double'].includes(type);
