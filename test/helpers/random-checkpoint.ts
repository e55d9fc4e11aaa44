import { writeSafetensors, type TensorBytes } from './checkpoints.js';
import { createGenerator } from '../../src/inference/diffusion/random.js';
import { floatsToHalves } from '../../src/inference/diffusion/floats.js';
import { ArchitectureError, type Graph } from '../../src/inference/graphs/graph.js';
import { readSafetensors } from '../../src/inference/checkpoint/safetensors.js';
import type { TensorEntry, TensorTable } from '../../src/inference/checkpoint/tensor-table.js';

type FloatType = 'F32' | 'F16' | 'BF16';

/**
 * A checkpoint of random values with just the tensors that an architecture asks for: it is asked until it is content.
 * `more` are names it only uses where they are there.
 */
export async function randomCheckpoint(
  file: string,
  build: (tensors: TensorTable) => Graph,
  { dtype = 'F32', more = [] }: { dtype?: FloatType; more?: readonly string[] } = {},
): Promise<TensorTable> {
  const entry = (shape: readonly number[]): TensorEntry => ({
    dtype,
    shape,
    file: '/none',
    offset: 0,
    length: 0,
  });
  const asked = new Map(more.map((name) => [name, entry([])]));
  while (!isContent(asked, build, entry));
  const generator = createGenerator(asked.size);
  const tensors = new Map<string, TensorBytes>();
  for (const [name, { shape }] of asked) {
    const values = generator.randn(shape.reduce((product, extent) => product * extent, 1));
    const inputs = shape.slice(1).reduce((product, extent) => product * extent, 1);
    // of a norm around one; of a matrix so that values keep their size
    const isNorm = /norm\w*\.weight$/.test(name);
    const scaled = values.map((value) =>
      shape.length > 1 ? value / Math.sqrt(inputs) : isNorm ? 1 + 0.2 * value : 0.3 * value,
    );
    tensors.set(name, { dtype, shape, bytes: bytesOf(scaled, dtype) });
  }
  await writeSafetensors(file, tensors);
  return readSafetensors(file);
}

function isContent(
  asked: Map<string, TensorEntry>,
  build: (tensors: TensorTable) => Graph,
  entry: (shape: readonly number[]) => TensorEntry,
): boolean {
  try {
    build(asked);
    return true;
  } catch (error) {
    if (!(error instanceof ArchitectureError)) throw error;
    const lacks = /the checkpoint lacks (\S+)$/.exec(error.message);
    const wants = /: (\S+) is \[.*asks for \[(.*)\]$/.exec(error.message);
    if (lacks !== null) asked.set(lacks[1] as string, entry([]));
    else if (wants !== null)
      asked.set(wants[1] as string, entry((wants[2] as string).split(', ').map(Number)));
    else throw error;
    return false;
  }
}

function bytesOf(values: Float32Array, dtype: FloatType): Buffer {
  if (dtype === 'F16') return Buffer.from(floatsToHalves(values).buffer);
  const bytes = Buffer.from(values.buffer, values.byteOffset, values.byteLength);
  return dtype === 'F32' ? bytes : Buffer.from(bytes.filter((_, i) => i % 4 >= 2));
}
