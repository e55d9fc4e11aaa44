/** One pass of a graph as `full_size.py` leaves it: inputs, and what torch makes of them. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { DrawingEngine } from '../../src/inference/checkpoint/model-layout.js';
import type { Values } from '../../src/inference/onnx/session.js';

/** Numbers in a file of their own. */
export interface Stored {
  name: string;
  file: string;
  dims: number[];
  type: 'float32' | 'int64';
}

interface StoredStep {
  engine: DrawingEngine;
  graph: string;
  inputs: Stored[];
  output: string;
  expected: Record<string, Stored>;
}

export async function readValues(
  folder: string,
  { file, type }: Pick<Stored, 'file' | 'type'>,
): Promise<Float32Array | number[]> {
  const { buffer, byteOffset, byteLength } = await readFile(path.join(folder, file));
  const bytes = buffer.slice(byteOffset, byteOffset + byteLength);
  return type === 'float32' ? new Float32Array(bytes) : Array.from(new BigInt64Array(bytes), Number);
}

export async function readStep(folder: string, name: string) {
  const step = JSON.parse(await readFile(path.join(folder, `${name}.json`), 'utf8')) as StoredStep;
  const feeds: Record<string, Values> = {};
  for (const input of step.inputs)
    feeds[input.name] = { data: await readValues(folder, input), dims: input.dims };
  const expected: Record<string, Float32Array> = {};
  for (const [by, stored] of Object.entries(step.expected))
    expected[by] = (await readValues(folder, stored)) as Float32Array;
  return { ...step, feeds, expected };
}

export type RecordedStep = Awaited<ReturnType<typeof readStep>>;

/** PSNR in decibels, peak: the reference's largest magnitude; over as many values as it has. */
export function compare(parts: readonly Float32Array[], expected: Float32Array) {
  let [squares, largest, peak, at] = [0, 0, 0, 0];
  for (const part of parts)
    for (let i = 0; i < part.length && at < expected.length; i += 1, at += 1) {
      const value = expected[at] as number;
      const difference = Math.abs((part[i] as number) - value);
      squares += difference * difference;
      largest = Math.max(largest, difference);
      peak = Math.max(peak, Math.abs(value));
    }
  const psnr = at < expected.length ? null : 10 * Math.log10((peak * peak) / (squares / at));
  return { values: at, psnr_db: psnr, largest_difference: largest, of: peak };
}
