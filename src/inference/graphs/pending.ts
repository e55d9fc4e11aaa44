import { type Layer, microsoft, type Value } from './graph.js';
import type { Widths } from './lowering.js';
import type { ElementType } from './onnx-proto.js';
import * as ops from './ops.js';
import type { TensorEntry } from '../checkpoint/tensor-table.js';

/** A tensor of the checkpoint with its name. */
export interface Named {
  name: string;
  entry: TensorEntry;
}

interface Owed {
  skip?: Value;
  /** [N, C], for every pixel. */
  shift?: Value;
  bias: readonly Named[];
  channels: number;
  isMap: boolean;
}

/** A value and the biases it is owed. */
export interface Parts {
  value: Value;
  bias: readonly Named[];
}

/**
 * A sum that nobody has added yet: value + skip + shift + biases. A norm that follows adds it in its own
 * pass, and has the sum as a further output where that is asked for too; whatever else reads it has it added
 * first.
 */
export class Pending implements Value {
  readonly type: ElementType;
  private total: Value | undefined;
  private adder: { value: Value; at: number } | undefined;
  private taken = false;

  constructor(
    private readonly layer: Layer,
    private readonly value: Value,
    private readonly owed: Owed,
  ) {
    this.type = value.type;
  }

  get name(): string {
    this.total ??=
      this.adder === undefined ? this.add() : this.layer.graph.alsoOutput(this.adder.value, this.adder.at);
    return this.total.name;
  }

  get isMap(): boolean {
    return this.owed.isMap;
  }

  /** For somebody who adds the biases to something else; nothing where more than biases is owed. */
  takeBias(): Parts | undefined {
    const { skip, shift, bias } = this.owed;
    if (this.isAdded() || skip !== undefined || shift !== undefined) return undefined;
    this.taken = true;
    return { value: this.value, bias };
  }

  /** For a norm over the last axis of tokens, which adds a residual. */
  takeResidual(): { value: Value; skip: Value; bias: Value | null } | undefined {
    const { skip } = this.owed;
    if (this.isAdded() || skip === undefined || this.isMap) return undefined;
    return { value: this.value, skip, bias: this.bias() };
  }

  /** For a group norm, which adds a residual, or a shift [N, C]. */
  takeForGroups(): { value: Value; skip: Value; bias: Value | null } | undefined {
    if (this.isAdded() || !this.isMap) return undefined;
    const { skip, shift, channels } = this.owed;
    if (skip !== undefined) return { value: this.value, skip, bias: this.bias() };
    if (shift !== undefined) return { value: this.value, skip: shift, bias: null };
    const rows = ops.shapeOf(this.layer, ops.shape(this.layer, this.value, 0, 1), channels);
    return { value: this.value, skip: this.layer.op('Expand', [this.bias(), rows]), bias: null };
  }

  /** The norm `y` adds this sum, and can give it as its output number `at`. */
  addedBy(y: Value, at: number): Value {
    this.adder = { value: y, at };
    return y;
  }

  private isAdded(): boolean {
    return this.total !== undefined || this.adder !== undefined;
  }

  private bias(): Value | null {
    const { bias, channels } = this.owed;
    return bias.length === 0 ? null : sumOf(this.layer, bias, channels);
  }

  private add(): Value {
    const { layer, value } = this;
    const { skip, shift, channels, isMap } = this.owed;
    const bias = this.bias();
    if (shift !== undefined) return ops.add(layer, value, ops.unsqueeze(layer, shift, 1, 2));
    if (skip === undefined) {
      if (bias === null || (!this.taken && layer.graph.alsoInput(value, 'NhwcConv', bias))) return value;
      return ops.add(layer, value, bias);
    }
    if (bias === null) return ops.add(layer, value, skip);
    if (!isMap) return layer.op('BiasAdd', [value, bias, skip], { domain: microsoft });
    const flat = (map: Value) => ops.reshape(layer, map, [0, -1, channels]);
    const sum = layer.op('BiasAdd', [flat(value), bias, flat(skip)], { domain: microsoft });
    return ops.reshape(layer, sum, ops.shape(layer, skip));
  }
}

function sumOf({ graph }: Layer, terms: readonly Named[], channels: number): Value {
  const [first] = terms as [Named, ...Named[]];
  if (terms.length === 1) return graph.weight(first.name, first.entry, [channels], graph.form.type);
  const name = terms.map((term) => term.name).join(' + ');
  return graph.pack(name, graph.form.type, [channels], [{ sum: terms.map(({ entry }) => entry) }]);
}

/** One layer's share of what is multiplied for many at once; biases may be added to it until the graph is finished. */
export class SharedPart implements Value {
  readonly name: string;
  readonly bias: Named[];

  constructor(
    layer: Layer,
    readonly type: ElementType,
    readonly weight: Named,
    bias: readonly Named[],
  ) {
    this.name = layer.graph.unique(`${layer.path}/Split`);
    this.bias = [...bias];
  }
}

/**
 * A value that many layers multiply: all matrices of one shape lie end to end and are one multiplication. The parts are
 * equally wide, because only such a Split is fast.
 */
export class Shared implements Value {
  readonly name: string;
  readonly type: ElementType;
  private readonly groups = new Map<string, { widths: Widths; parts: SharedPart[] }>();

  constructor(
    private readonly layer: Layer,
    private readonly value: Value,
  ) {
    this.name = value.name;
    this.type = value.type;
    layer.graph.defer(() => {
      for (const { widths, parts } of this.groups.values()) this.write(widths, parts);
    });
  }

  multiply(layer: Layer, widths: Widths, weight: Named, bias: readonly Named[]): Value {
    const key = `${widths.join()} ${bias.length}`;
    const group = this.groups.get(key) ?? { widths, parts: [] };
    this.groups.set(key, group);
    const part = new SharedPart(layer, this.type, weight, bias);
    group.parts.push(part);
    return part;
  }

  private write([from, to]: Widths, parts: readonly SharedPart[]): void {
    const { layer, value } = this;
    const { graph } = layer;
    const names = parts.map(({ name }) => name);
    const [first] = parts as [SharedPart];
    const title = `${first.weight.name} and ${parts.length - 1} more`;
    const { type } = graph.form;
    const weight = graph.pack(
      title,
      type,
      [parts.length * to, from],
      parts.map((part) => ({ sum: [part.weight.entry] })),
    );
    let y = layer.op('FusedMatMul', [value, weight], { attributes: { transB: 1 }, domain: microsoft });
    if (first.bias.length > 0) {
      const terms = parts.map(({ bias }) => ({ sum: bias.map(({ entry }) => entry) }));
      y = ops.add(layer, y, graph.pack(`${title}, biases`, type, [parts.length * to], terms));
    }
    layer.ops('Split', [y], parts.length, { attributes: { axis: -1 }, names });
  }
}
