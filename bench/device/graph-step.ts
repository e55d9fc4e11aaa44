/**
 * Times an exported graph through the worker's own session code, on the inputs that `full_size.py` left, and
 * compares its output with torch's.
 *   node dist/bench/device/graph-step.js --models DIR --steps wan-17,wan-81 [--device webgpu] [--repeats 3]
 * [--seconds 120] `--seconds` ends the repetitions of a step, not a pass that has begun. After every step
 * DIR/<step>-<device>.json is written, so that a later one that ends the process costs only itself; a
 * provider that fails leaves its error there.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Device } from '../../src/inference/engine-protocol.js';
import { openSession, type OnnxSession, type Values } from '../../src/inference/onnx/session.js';
import { watchGpuMemory } from './gpu-memory.js';

interface Stored {
  name: string;
  file: string;
  dims: number[];
  type: 'float32' | 'int64';
}
interface Step {
  graph: string;
  inputs: Stored[];
  output: Stored;
  torch_seconds: number;
}

const { values } = parseArgs({
  options: {
    models: { type: 'string' },
    steps: { type: 'string' },
    device: { type: 'string', default: 'webgpu' },
    repeats: { type: 'string', default: '3' },
    seconds: { type: 'string', default: '120' },
  },
});
if (values.models === undefined || values.steps === undefined)
  throw new Error('--models DIR and --steps NAMES are needed');
const folder = values.models;
const device = values.device as Device;

let open: { graph: string; session: OnnxSession; seconds: number } | undefined;
for (const name of values.steps.split(',')) {
  const memory = watchGpuMemory();
  const step = JSON.parse(await readFile(path.join(folder, `${name}.json`), 'utf8')) as Step;
  let result: Record<string, unknown>;
  try {
    result = await measure(step);
  } catch (error) {
    result = { error: error instanceof Error ? error.message.slice(0, 2000) : String(error) };
    process.exitCode = 1;
  }
  const { beforeBytes, peakBytes } = memory.stop();
  const report = JSON.stringify(
    {
      step: name,
      device,
      ...result,
      torch_seconds: step.torch_seconds,
      gpu_bytes_before: beforeBytes,
      gpu_bytes_peak: peakBytes,
    },
    null,
    2,
  );
  await writeFile(path.join(folder, `${name}-${device}.json`), `${report}\n`);
  process.stdout.write(`${report}\n`);
}
await open?.session.release();

async function measure(step: Step): Promise<Record<string, unknown>> {
  if (open?.graph !== step.graph) {
    await open?.session.release();
    open = undefined;
    const startedAt = performance.now();
    const session = await openSession(path.join(folder, step.graph), { device, threads: 0 });
    open = { graph: step.graph, session, seconds: (performance.now() - startedAt) / 1000 };
    process.stdout.write(`${step.graph} opened in ${open.seconds.toFixed(1)} s\n`);
  }
  const feeds = Object.fromEntries(
    await Promise.all(
      step.inputs.map(async (input): Promise<[string, Values]> => [
        input.name,
        { data: await read(input), dims: input.dims },
      ]),
    ),
  );
  const seconds: number[] = [];
  let sample = new Float32Array();
  const endsAt = performance.now() + Number(values.seconds) * 1000;
  for (let pass = 0; pass <= Number(values.repeats) && (pass < 2 || performance.now() < endsAt); pass += 1) {
    const startedAt = performance.now();
    sample = (await open.session.run(feeds, [step.output.name]))[step.output.name]
      ?.data as Float32Array<ArrayBuffer>;
    seconds.push((performance.now() - startedAt) / 1000);
    process.stdout.write(`pass ${pass} took ${seconds.at(-1)?.toFixed(3)} s\n`);
  }
  const [firstPass, ...warm] = seconds;
  return {
    open_seconds: open.seconds,
    first_pass_seconds: firstPass,
    pass_seconds: warm,
    ...compare(sample, (await read(step.output)) as Float32Array),
  };
}

async function read({ file, type }: Stored): Promise<Float32Array | number[]> {
  const { buffer, byteOffset, byteLength } = await readFile(path.join(folder, file));
  const bytes = buffer.slice(byteOffset, byteOffset + byteLength);
  return type === 'float32' ? new Float32Array(bytes) : Array.from(new BigInt64Array(bytes), Number);
}

/** PSNR in decibels, peak: the reference's largest magnitude. */
function compare(actual: Float32Array, expected: Float32Array) {
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
    largest_value: peak,
  };
}
