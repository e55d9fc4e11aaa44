/**
 * Imports the checkpoint that `wan_card.py` left and times each of its graphs through the worker's own session code, on
 * the inputs it left; compares with torch's outputs.
 *   node dist/bench/device/wan-card.js --dir DIR [--device cuda] [--only wan-17,vae-81] [--repeats 7] [--profile]
 * `--profile` leaves the time of each kind of operator in DIR/profile-<case>.json instead (CUDA_LAUNCH_BLOCKING=1 makes
 * it each one's own). Prints JSON and writes DIR/wan-card.json after each case, so that a cut run leaves what there is.
 */
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { importCheckpoint } from '../../src/inference/checkpoint/import.js';
import type { Device } from '../../src/inference/engine-protocol.js';
import { findModelGraphs } from '../../src/inference/graphs/model-graphs.js';
import {
  InferenceSession,
  openSession,
  Tensor,
  type OnnxSession,
  type Values,
} from '../../src/inference/onnx/session.js';
import { percentile } from '../statistics.js';
import { withCudaLibraries } from './cuda-process.js';
import { watchGpuMemory } from './gpu-memory.js';
import { compare, readValues, type Stored } from './recorded-step.js';

interface Case {
  name: string;
  graph: string;
  inputs: Record<string, Omit<Stored, 'name'>>;
  outputs: string[];
  expected: Record<string, Omit<Stored, 'name'>>;
}

const { values } = parseArgs({
  options: {
    dir: { type: 'string' },
    device: { type: 'string', default: 'cuda' },
    only: { type: 'string' },
    repeats: { type: 'string', default: '7' },
    seconds: { type: 'string', default: '30' },
    profile: { type: 'boolean', default: false },
  },
});
if (values.dir === undefined) throw new Error('--dir DIR is needed');
const dir = path.resolve(values.dir);
const device = values.device as Device;
withCudaLibraries(device);
const cases = (JSON.parse(await readFile(path.join(dir, 'wan-cases.json'), 'utf8')) as Case[]).filter(
  ({ name }) => values.only === undefined || values.only.split(',').includes(name),
);
const report: Record<string, unknown> = { device, node: process.version };

const begun = performance.now();
const seconds = (from: number) => (performance.now() - from) / 1000;
const imported = await importCheckpoint(path.join(dir, 'wan2.1-t2v-1.3b'), {
  modelsDir: path.join(dir, 'models'),
  name: 'wan-random',
  force: true,
  onTotal() {},
  onBytes() {},
  signal: new AbortController().signal,
});
await save('import', {
  seconds: seconds(begun),
  bytes: imported.bytes,
  peak_rss: process.resourceUsage().maxRSS * 1024,
});
const graphs = findModelGraphs('wan', imported.folder);

let open: { graph: string; session: OnnxSession; times: Record<string, number> } | undefined;
for (const each of cases) {
  const memory = watchGpuMemory();
  let result: Record<string, unknown>;
  try {
    result = await (values.profile ? profile(each) : measure(each));
  } catch (error) {
    result = { error: error instanceof Error ? error.message.slice(0, 2000) : String(error) };
    process.exitCode = 1;
  }
  const { beforeBytes, peakBytes } = memory.stop();
  await save(each.name, { ...result, gpu_bytes_before: beforeBytes, gpu_bytes_peak: peakBytes });
}
await open?.session.release();
process.stdout.write(`${JSON.stringify(report, null, 1)}\n`);

async function save(name: string, result: unknown): Promise<void> {
  report[name] = result;
  process.stdout.write(`${name} ${JSON.stringify(result)}\n`);
  await writeFile(path.join(dir, 'wan-card.json'), `${JSON.stringify(report, null, 1)}\n`);
}

async function sessionOf(graph: string): Promise<{ session: OnnxSession; times: Record<string, number> }> {
  const building = performance.now();
  const source = await graphs.required(graph, device);
  const built = seconds(building);
  const again = performance.now();
  await graphs.required(graph, device);
  const rebuilt = seconds(again);
  const opening = performance.now();
  const session = await openSession(source, { device, threads: 0, returnMemory: true });
  return {
    session,
    times: { first_build_seconds: built, build_seconds: rebuilt, open_seconds: seconds(opening) },
  };
}

async function measure(given: Case): Promise<Record<string, unknown>> {
  if (open?.graph !== given.graph) {
    await open?.session.release();
    open = undefined;
    open = { graph: given.graph, ...(await sessionOf(given.graph)) };
  }
  let feeds: Record<string, Values> = {};
  for (const [name, { dims, ...stored }] of Object.entries(given.inputs))
    feeds[name] = { data: await readValues(dir, stored), dims };
  const once: Record<string, number> = {};
  if (open.session.hasInput('text_states')) {
    // computed once a job
    const { session, times } = await sessionOf('transformer/text');
    const { encoder_hidden_states: text, ...rest } = feeds;
    const run = () => session.run({ encoder_hidden_states: text as Values }, ['text_states']);
    await run();
    const startedAt = performance.now();
    feeds = { ...rest, ...(await run()) };
    Object.assign(once, { text_seconds: seconds(startedAt), text_open_seconds: times['open_seconds'] });
    await session.release();
  }
  const passes: number[] = [];
  let output: Float32Array[] = [];
  const startedAt = performance.now();
  for (let pass = 0; pass <= Number(values.repeats); pass += 1) {
    if (pass > 1 && seconds(startedAt) > Number(values.seconds)) break;
    const passAt = performance.now();
    const results = await open.session.run(feeds, given.outputs);
    passes.push(seconds(passAt));
    output = given.outputs.map((name) => results[name]?.data ?? new Float32Array());
  }
  const [first, ...warm] = passes;
  const against: Record<string, unknown> = {};
  for (const [by, stored] of Object.entries(given.expected))
    against[by] = compare(output, (await readValues(dir, stored)) as Float32Array);
  return {
    ...open.times,
    ...once,
    first_pass_seconds: first,
    median_seconds: percentile(warm, 0.5),
    pass_seconds: warm,
    against,
  };
}

/** Seconds and calls of each kind of operator in the last of three passes. */
async function profile(given: Case): Promise<Record<string, unknown>> {
  const source = await graphs.required(given.graph, device);
  if (typeof source === 'string') return {};
  const prefix = path.join(dir, `trace-${given.name}`);
  const session = await InferenceSession.create(source.model, {
    executionProviders: [device, 'cpu'],
    enableProfiling: true,
    profileFilePrefix: prefix,
    logSeverityLevel: 3,
    extra: { session: { model_external_initializers_file_folder_path: '/' } },
  });
  const feeds: Record<string, Tensor> = {};
  for (const [name, { dims, ...stored }] of Object.entries(given.inputs)) {
    const data = await readValues(dir, stored);
    if (name === 'encoder_hidden_states') {
      const { session: text } = await sessionOf('transformer/text');
      const states = (await text.run({ [name]: { data, dims } }, ['text_states'])).text_states;
      feeds['text_states'] = new Tensor('float32', states.data, [...states.dims]);
      await text.release();
    } else
      feeds[name] =
        data instanceof Float32Array
          ? new Tensor('float32', data, dims)
          : new Tensor('int64', BigInt64Array.from(data, BigInt), dims);
  }
  for (let pass = 0; pass < 3; pass += 1) await session.run(feeds, given.outputs);
  session.endProfiling();
  await session.release();
  const file = (await readdir(dir)).find((name) => name.startsWith(`trace-${given.name}`));
  const events = JSON.parse(await readFile(path.join(dir, file as string), 'utf8')) as TraceEvent[];
  await rm(path.join(dir, file as string));
  const kernels = events.filter(({ cat, name }) => cat === 'Node' && name.endsWith('_kernel_time'));
  const last = kernels.slice(-Math.floor(kernels.length / 3));
  const sums: Record<string, { ms: number; count: number }> = {};
  for (const { dur, args } of last) {
    const sum = (sums[args.op_name ?? '?'] ??= { ms: 0, count: 0 });
    sum.ms += dur / 1000;
    sum.count += 1;
  }
  const sorted = Object.fromEntries(Object.entries(sums).sort(([, a], [, b]) => b.ms - a.ms));
  const slowest = last
    .sort((a, b) => b.dur - a.dur)
    .slice(0, 40)
    .map(({ name, dur, args }) => ({ name, ms: dur / 1000, shapes: args.input_type_shape }));
  await writeFile(path.join(dir, `profile-${given.name}.json`), JSON.stringify({ sorted, slowest }, null, 1));
  return sorted;
}

interface TraceEvent {
  cat: string;
  name: string;
  dur: number;
  args: { op_name?: string; input_type_shape?: unknown };
}
