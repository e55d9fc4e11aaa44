/**
 * Times a model's graph through the worker's own session code, on the inputs that `full_size.py` left, and
 * compares its output with torch's.
 *   node dist/bench/device/graph-step.js --models DIR --steps wan-17,wan-81 [--device cuda] [--repeats 20]
 * [--seconds 20] `--seconds` ends the repetitions of a step, not a pass that has begun. After every step
 * DIR/<step>-<device>.json is written, so that a later one that ends the process costs only itself; a
 * provider that fails leaves its error there.
 */
import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { DrawingEngine } from '../../src/inference/checkpoint/model-layout.js';
import type { Device } from '../../src/inference/engine-protocol.js';
import { findModelGraphs } from '../../src/inference/graphs/model-graphs.js';
import { graphCalls, openSession, type OnnxSession, type Values } from '../../src/inference/onnx/session.js';
import { percentile } from '../statistics.js';
import { withCudaLibraries } from './cuda-process.js';
import { watchGpuMemory } from './gpu-memory.js';
import { compare, readStep, type RecordedStep } from './recorded-step.js';

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
const folder = values.models;
const device = values.device as Device;
withCudaLibraries(device);
const folders: Record<DrawingEngine, string> = { sdxl: 'sdxl', wan: 'wan2.1-t2v-1.3b' };

let open: { graph: string; session: OnnxSession; seconds: number } | undefined;
for (const name of values.steps.split(',')) {
  const memory = watchGpuMemory();
  let result: Record<string, unknown>;
  try {
    result = await measure(await readStep(folder, name));
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

async function measure(step: RecordedStep): Promise<Record<string, unknown>> {
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
  let { feeds } = step;
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
      Object.entries(step.expected).map(([by, expected]) => [by, compare([output], expected)]),
    ),
  };
}
