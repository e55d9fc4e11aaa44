import type { Graph } from './graph.js';
import type { Attributes, ElementType } from './onnx-proto.js';
import type { TensorEntry } from '../checkpoint/tensor-table.js';

/** What flows along an edge of the graph. A device may still owe it a sum, which reading the name writes. */
export interface Value {
  readonly name: string;
  readonly type: ElementType;
}

export interface NodeOptions {
  attributes?: Attributes;
  /** Of the outputs; that of the first input where absent. */
  type?: ElementType;
  domain?: string;
  /** Inputs of different float types are meant. */
  mixed?: boolean;
  /** Names of the outputs, where something has them already. */
  names?: readonly string[];
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

  /**
   * A tensor of this layer of exactly this shape, in the type that the graph computes in; `dims` groups the
   * same values otherwise.
   */
  weight(
    name: string,
    shape: readonly number[],
    dims = shape,
    type: 'float' | 'float16' = this.graph.form.type,
  ): Value {
    return this.graph.weight(this.full(name), this.entry(name, shape), dims, type);
  }

  /** The same in the type it is stored in. */
  stored(name: string, shape: readonly number[], dims = shape): Value {
    return this.graph.external(this.full(name), this.entry(name, shape), dims);
  }

  entry(name: string, shape?: readonly number[]): TensorEntry {
    return this.graph.entry(this.full(name), shape);
  }

  constant(values: readonly number[] | Float32Array, dims?: readonly number[]): Value {
    return this.graph.constant(this.graph.form.type, values, dims);
  }

  op(type: string, inputs: readonly (Value | null)[], options: NodeOptions = {}): Value {
    return this.ops(type, inputs, 1, options)[0] as Value;
  }

  ops(type: string, inputs: readonly (Value | null)[], outputs: number, options: NodeOptions = {}): Value[] {
    return this.graph.node(this.path === '' ? this.graph.title : this.path, type, inputs, outputs, options);
  }

  full(name: string): string {
    return this.path === '' ? name : `${this.path}.${name}`;
  }
}

export const isFloat = (type: ElementType) => ['float', 'float16', 'bfloat16', 'double'].includes(type);
