/** The smallest ONNX files a test needs, written as protobuf (onnx.proto3). */
export interface OnnxFile {
  inputs: Record<string, [type: number, shape: Array<number | string>]>;
  outputs: Record<string, [type: number, shape: Array<number | string>]>;
  /** Weights in files beside the graph: name, offset, length. */
  external?: Array<[location: string, offset: number, length: number]>;
}

const varint = (value: number): number[] =>
  value < 0x80 ? [value] : [(value % 0x80) | 0x80, ...varint(Math.floor(value / 0x80))];
const number = (field: number, value: number) => Buffer.from([...varint(field * 8), ...varint(value)]);
const bytes = (field: number, ...content: Array<Buffer | string>) => {
  const body = Buffer.concat(content.map((each) => Buffer.from(each)));
  return Buffer.concat([Buffer.from([...varint(field * 8 + 2), ...varint(body.length)]), body]);
};
const extent = (value: number | string) =>
  bytes(1, typeof value === 'number' ? number(1, value) : bytes(2, value));
const border = (field: number, [name, [type, shape]]: [string, [number, Array<number | string>]]) =>
  bytes(field, bytes(1, name), bytes(2, bytes(1, number(1, type), bytes(2, ...shape.map(extent)))));
const pair = (key: string, value: string) => bytes(13, bytes(1, key), bytes(2, value));

export function onnxFile({ inputs, outputs, external = [] }: OnnxFile): Buffer {
  return Buffer.concat([
    number(1, 8),
    bytes(
      7,
      bytes(
        1,
        ...Object.keys(inputs).map((name) => bytes(1, name)),
        ...Object.keys(outputs).map((name) => bytes(2, name)),
        bytes(4, 'Identity'),
      ),
      bytes(2, 'graph'),
      ...external.map(([location, offset, length]) =>
        bytes(
          5,
          number(1, 3),
          pair('location', location),
          pair('offset', String(offset)),
          pair('length', String(length)),
          number(14, 1),
        ),
      ),
      ...Object.entries(inputs).map((each) => border(11, each)),
      ...Object.entries(outputs).map((each) => border(12, each)),
    ),
    bytes(8, bytes(1, ''), number(2, 17)),
  ]);
}
