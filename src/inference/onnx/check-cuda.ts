/**
 * `node check-cuda.js`: multiplies, convolves and attends on the card and on the CPU and compares, in a
 * process of its own because a broken driver ends the process. One line of JSON: operator → largest
 * difference, relative to the largest value; exit code 1 with the runtime's reason on stderr when the card
 * does not compute.
 */
import path from 'node:path';
import { projectRoot } from '../../lib/project.js';
import { InferenceSession, Tensor } from './session.js';

const file = path.join(projectRoot(), 'models/checks/device-check.onnx');

async function run(provider: 'cuda' | 'cpu'): Promise<Record<string, Float32Array>> {
  const session = await InferenceSession.create(file, { executionProviders: [provider] });
  const inputs = Object.fromEntries(
    session.inputMetadata.map((input, index) => {
      if (!input.isTensor) throw new Error(`${input.name} is not a tensor`);
      const shape = input.shape.map(Number);
      return [input.name, new Tensor('float32', pattern(shape, index + 1), shape)];
    }),
  );
  const outputs = await session.run(inputs);
  const results = Object.entries(outputs).map(([name, tensor]) => [name, tensor.data] as const);
  await session.release();
  return Object.fromEntries(results) as Record<string, Float32Array>;
}

/** Numbers in [-1, 1] without a period that a wrong stride could hide behind. */
function pattern(shape: readonly number[], seed: number): Float32Array {
  const count = shape.reduce((product, side) => product * side, 1);
  return Float32Array.from({ length: count }, (_, index) => Math.sin(index * index * 0.37 + seed * 1.7));
}

function largestDifference(found: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let largest = 0;
  expected.forEach((value, index) => {
    const distance = Math.abs(value - (found[index] ?? NaN));
    difference = distance <= difference ? difference : distance;
    largest = Math.max(largest, Math.abs(value));
  });
  return difference / largest;
}

try {
  const [card, cpu] = [await run('cuda'), await run('cpu')];
  const differences = Object.entries(cpu).map(([name, values]) => [
    name,
    largestDifference(card[name] ?? new Float32Array(), values),
  ]);
  process.stdout.write(`${JSON.stringify(Object.fromEntries(differences))}\n`);
} catch (error) {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
}
