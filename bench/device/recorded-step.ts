/** One pass of a graph as `full_size.py` leaves it: inputs, and what torch makes of them. */
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { DrawingEngine } from '../../src/inference/checkpoint/model-layout.js';
import type { Values } from '../../src/inference/onnx/session.js';

interface Stored {
  name: string;
  file: string;
  dims: number[];
  type: 'float32' | 'int64';
}

export interface RecordedStep {
  engine: DrawingEngine;
  graph: string;
  inputs: Stored[];
  output: string;
  expected: Record<string, Stored>;
}

export async function readStep(folder: string, name: string) {
  const step = JSON.parse(await readFile(path.join(folder, `${name}.json`), 'utf8')) as RecordedStep;
  const values = async ({ file, type }: Stored) => {
    const { buffer, byteOffset, byteLength } = await readFile(path.join(folder, file));
    const bytes = buffer.slice(byteOffset, byteOffset + byteLength);
    return type === 'float32' ? new Float32Array(bytes) : Array.from(new BigInt64Array(bytes), Number);
  };
  const feeds: Record<string, Values> = {};
  for (const input of step.inputs) feeds[input.name] = { data: await values(input), dims: input.dims };
  const expected: Record<string, Float32Array> = {};
  for (const [by, stored] of Object.entries(step.expected))
    expected[by] = (await values(stored)) as Float32Array;
  return { ...step, feeds, expected };
}

/** PSNR in decibels, peak: the reference's largest magnitude. */
export function compare(actual: Float32Array, expected: Float32Array) {
  let squares = 0;
  let largest = 0;
  let peak = 0;
  for (const [index, value] of expected.entries()) {
    const difference = Math.abs((actual[index] ?? Number.NaN) - value);
    squares += difference * difference;
    largest = Math.max(largest, difference);
    peak = Math.max(peak, Math.abs(value));
  }
  return {
    values: expected.length,
    psnr_db: 10 * Math.log10((peak * peak) / (squares / expected.length)),
    largest_difference: largest,
    of: peak,
  };
}
