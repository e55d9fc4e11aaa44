/**
 * Times a model's graph through the worker's own session code, on the inputs that `full_size.py` left, and
 * compares its output with torch's.
 *   node dist/bench/device/graph-step.js --models DIR --steps wan-17,wan-81 [--device cuda] [--repeats 20]
 * [--seconds 20] `--seconds` ends the repetitions of a step, not a pass that has begun. After every step
 * DIR/<step>-<device>.json is written, so that a later one that ends the process costs only itself; a
 * provider that fails leaves its error there.
 */
import { spawnSync } from 'node:child_process';
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { DrawingEngine } from '../../src/inference/checkpoint/model-layout.js';
import type { Device } from '../../src/inference/engine-protocol.js';
import { findModelGraphs } from '../../src/inference/graphs/model-graphs.js';
import { graphCalls, openSession, type OnnxSession, type Values } from '../../src/inference/onnx/session.js';
import { readConfig } from '../../src/config.js';
import { cudaEnvironment, findCudaRuntime } from '../../src/lib/cuda-runtime.js';
import { readEnvironment } from '../../src/lib/environment.js';
import { percentile } from '../statistics.js';
import { watchGpuMemory } from './gpu-memory.js';

interface Stored {
  name: string;
  file: string;
  dims: number[];
  type: 'float32' | 'int64';
}
interface Step {
  engine: DrawingEngine;
  graph: string;
  inputs: Stored[];
  output: string;
  expected: Record<string, Stored>;
}

const { values } = parseArgs({
  options: {
    models: { type: 'string' },
    steps: { type: 'string' },
    device: { type: 'string', default: 'cuda' },
    repeats: { type: 'string', default: '20' },
    seconds: { type: 'string', default: '20' },
  },
});
if (values.models === undefined || values.steps === undefined)
  throw new Error('--models DIR and --steps NAMES are needed');
// the loader reads where libraries lie when a process starts
const cuda = cudaEnvironment(findCudaRuntime(readConfig(readEnvironment()).cudaDir), process.env);
if (values.device === 'cuda' && Object.keys(cuda).some((name) => process.env[name] === undefined)) {
  const env = { ...process.env, ...cuda };
  process.exit(spawnSync(process.execPath, process.argv.slice(1), { env, stdio: 'inherit' }).status ?? 1);
}
const folder = values.models;
const device = values.device as Device;
const folders: Record<DrawingEngine, string> = { sdxl: 'sdxl', wan: 'wan2.1-t2v-1.3b' };

let open: { graph: string; session: OnnxSession; seconds: number } | undefined;
for (const name of values.steps.split(',')) {
  const memory = watchGpuMemory();
  let result: Record<string, unknown>;
  try {
    result = await measure(JSON.parse(await readFile(path.join(folder, `${name}.json`), 'utf8')) as Step);
  } catch (error) {
    result = { error: error instanceof Error ? error.message.slice(0, 2000) : String(error) };
    process.exitCode = 1;
  }
  const { beforeBytes, peakBytes } = memory.stop();
  const report = JSON.stringify(
    { step: name, device, ...result, gpu_bytes_before: beforeBytes, gpu_bytes_peak: peakBytes },
    null,
    2,
  );
  await writeFile(path.join(folder, `${name}-${device}.json`), `${report}\n`);
  process.stdout.write(`${report}\n`);
}
await open?.session.release();

async function measure(step: Step): Promise<Record<string, unknown>> {
  const wanted = `${step.engine}/${step.graph}`;
  if (open?.graph !== wanted) {
    await open?.session.release();
    open = undefined;
    const startedAt = performance.now();
    const source = await findModelGraphs(step.engine, path.join(folder, folders[step.engine])).required(
      step.graph,
      device,
    );
    const session = await openSession(source, { device, threads: 0 });
    open = { graph: wanted, session, seconds: (performance.now() - startedAt) / 1000 };
  }
  let feeds = Object.fromEntries(
    await Promise.all(
      step.inputs.map(async (input): Promise<[string, Values]> => [
        input.name,
        { data: await read(input), dims: input.dims },
      ]),
    ),
  );
  if (open.session.hasInput('text_states')) {
    // projected once a clip, by a graph of its own
    const { encoder_hidden_states: text, ...others } = feeds;
    const source = await findModelGraphs(step.engine, path.join(folder, folders[step.engine])).required(
      'transformer/text',
      device,
    );
    const projection = await openSession(source, { device, threads: 0 });
    const projected = await projection.run({ encoder_hidden_states: text as Values }, ['text_states']);
    await projection.release();
    feeds = { ...others, ...projected };
  }
  const seconds: number[] = [];
  let inCalls = 0;
  let output = new Float32Array();
  const endsAt = performance.now() + Number(values.seconds) * 1000;
  for (let pass = 0; pass <= Number(values.repeats) && (pass < 2 || performance.now() < endsAt); pass += 1) {
    const [startedAt, before] = [performance.now(), graphCalls.seconds];
    output = (await open.session.run(feeds, [step.output]))[step.output]?.data as Float32Array<ArrayBuffer>;
    seconds.push((performance.now() - startedAt) / 1000);
    if (pass > 0) inCalls += graphCalls.seconds - before;
  }
  const [firstPass, ...warm] = seconds;
  return {
    open_seconds: open.seconds,
    first_pass_seconds: firstPass,
    median_seconds: percentile(warm, 0.5),
    mean_seconds_in_calls: inCalls / warm.length,
    pass_seconds: warm,
    against: Object.fromEntries(
      await Promise.all(
        Object.entries(step.expected).map(async ([by, stored]) => [
          by,
          compare(output, (await read(stored)) as Float32Array),
        ]),
      ),
    ),
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
    of: peak,
  };
}
