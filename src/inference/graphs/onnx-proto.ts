import path from 'node:path';
import protobuf from 'protobufjs/light.js';
import { floatsToHalves } from '../diffusion/floats.js';

/** Numbers of onnx.proto's TensorProto.DataType that occur here. */
export const elementTypes = {
  float: 1,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  double: 11,
  bfloat16: 16,
} as const;

export type ElementType = keyof typeof elementTypes;

export interface TensorProto {
  name: string;
  dims: readonly number[];
  dataType: number;
  rawData?: Uint8Array;
  externalData?: { key: string; value: string }[];
  dataLocation?: 0 | 1;
}
export interface AttributeProto {
  name: string;
  type: number;
  f?: number;
  i?: number;
  s?: Uint8Array;
  g?: GraphProto;
  floats?: readonly number[];
  ints?: readonly number[];
}
export interface NodeProto {
  name: string;
  opType: string;
  domain: string;
  input: string[];
  output: string[];
  attribute: AttributeProto[];
}
export interface ValueInfoProto {
  name: string;
  type: {
    tensorType: { elemType: number; shape?: { dim: ({ dimValue: number } | { dimParam: string })[] } };
  };
}
export interface GraphProto {
  name: string;
  node: NodeProto[];
  initializer: TensorProto[];
  input: ValueInfoProto[];
  output: ValueInfoProto[];
}
export interface ModelProto {
  irVersion: number;
  producerName: string;
  opsetImport: { domain: string; version: number }[];
  graph: GraphProto;
}

const field = (type: string, id: number) => ({ type, id });
const many = (type: string, id: number) => ({ rule: 'repeated', type, id });

/** The part of onnx.proto (ONNX, IR version 8) that a graph for inference is made of. */
const schema = protobuf.Root.fromJSON({
  nested: {
    Attribute: {
      fields: {
        name: field('string', 1),
        f: field('float', 2),
        i: field('int64', 3),
        s: field('bytes', 4),
        g: field('Graph', 6),
        floats: many('float', 7),
        ints: many('int64', 8),
        type: field('int32', 20),
      },
    },
    Entry: { fields: { key: field('string', 1), value: field('string', 2) } },
    Tensor: {
      fields: {
        dims: many('int64', 1),
        dataType: field('int32', 2),
        name: field('string', 8),
        rawData: field('bytes', 9),
        externalData: many('Entry', 13),
        dataLocation: field('int32', 14),
      },
    },
    Node: {
      fields: {
        input: many('string', 1),
        output: many('string', 2),
        name: field('string', 3),
        opType: field('string', 4),
        attribute: many('Attribute', 5),
        domain: field('string', 7),
      },
    },
    Dimension: { fields: { dimValue: field('int64', 1), dimParam: field('string', 2) } },
    Shape: { fields: { dim: many('Dimension', 1) } },
    TensorType: { fields: { elemType: field('int32', 1), shape: field('Shape', 2) } },
    Type: { fields: { tensorType: field('TensorType', 1) } },
    ValueInfo: { fields: { name: field('string', 1), type: field('Type', 2) } },
    Graph: {
      fields: {
        node: many('Node', 1),
        name: field('string', 2),
        initializer: many('Tensor', 5),
        input: many('ValueInfo', 11),
        output: many('ValueInfo', 12),
      },
    },
    OperatorSet: { fields: { domain: field('string', 1), version: field('int64', 2) } },
    Model: {
      fields: {
        irVersion: field('int64', 1),
        producerName: field('string', 2),
        graph: field('Graph', 7),
        opsetImport: many('OperatorSet', 8),
      },
    },
  },
}).lookupType('Model');

export const encodeModel = (model: ModelProto): Uint8Array => schema.encode(model).finish();

/** IR version 8 and opset 17 are what every runtime of the last years opens. */
export function modelOf(graph: GraphProto, opset: number): ModelProto {
  const opsetImport = [
    { domain: '', version: opset },
    { domain: 'com.microsoft', version: 1 },
  ];
  return { irVersion: 8, producerName: 'ourvidz', opsetImport, graph };
}

/** A tensor whose bytes lie in a file. */
export function externalTensor(
  name: string,
  type: ElementType,
  dims: readonly number[],
  { file, offset, length }: { file: string; offset: number; length: number },
): TensorProto {
  const externalData = [
    { key: 'location', value: path.relative(path.parse(file).root, file) },
    { key: 'offset', value: String(offset) },
    { key: 'length', value: String(length) },
  ];
  return { name, dims, dataType: elementTypes[type], dataLocation: 1, externalData };
}

/** A tensor whose values are part of the graph. */
export function rawTensor(
  name: string,
  type: 'float' | 'float16' | 'int64',
  dims: readonly number[],
  values: readonly number[] | Float32Array,
): TensorProto {
  const floats = () => Float32Array.from(values);
  const typed = {
    float: floats,
    float16: () => floatsToHalves(floats()),
    int64: () => BigInt64Array.from(values as readonly number[], (value) => BigInt(value)),
  };
  return { name, dims, dataType: elementTypes[type], rawData: new Uint8Array(typed[type]().buffer) };
}

/** Numbers are integers; a float is written `{ float: 0.5 }`. */
export type Attributes = Record<
  string,
  number | readonly number[] | string | { float: number } | { graph: GraphProto }
>;

export function attribute(name: string, value: Attributes[string]): AttributeProto {
  if (typeof value === 'number') return { name, type: 2, i: value };
  if (typeof value === 'string') return { name, type: 3, s: Buffer.from(value) };
  if ('graph' in value) return { name, type: 5, g: value.graph };
  if ('float' in value) return { name, type: 1, f: value.float };
  return { name, type: 7, ints: value };
}

export function valueInfo(
  name: string,
  type: ElementType,
  dims?: readonly (number | string)[],
): ValueInfoProto {
  if (dims === undefined) return { name, type: { tensorType: { elemType: elementTypes[type] } } };
  const dim = dims.map((extent) =>
    typeof extent === 'number' ? { dimValue: extent } : { dimParam: extent },
  );
  return { name, type: { tensorType: { elemType: elementTypes[type], shape: { dim } } } };
}
