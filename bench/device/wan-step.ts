/**
 * Times an exported Wan transformer through the worker's own session code, on the inputs that `full_size.py wan` left,
 * and compares its output with torch's.
 *   node dist/bench/device/wan-step.js --models DIR [--device webgpu] [--repeats 3]
 * Prints one JSON object and writes it to DIR/wan-<device>.json; a provider that fails leaves its error there.
 */
import { readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Device } from '../../src/inference/engine-protocol.js';
import { openSession } from '../../src/inference/onnx/session.js';
import { watchGpuMemory } from './gpu-memory.js';

const { values } = parseArgs({ options: { models: { type: 'string' }, device: { type: 'string', default: 'webgpu' }, repeats: { type: 'string', default: '3' } } });
const folder = values.models;
if (folder === undefined) throw new Error('--models DIR is missing');
const device = values.device as Device;

const floats = async (name: string): Promise<Float32Array> => {
  const bytes = await readFile(path.join(folder, `wan-${name}.f32`));
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
};
const torch = JSON.parse(await readFile(path.join(folder, 'wan-torch.json'), 'utf8')) as { latents: number[]; seconds_per_step_two_passes: number };
const memory = watchGpuMemory();
let result: Record<string, unknown>;
try {
  result = await measure();
} catch (error) {
  result = { error: error instanceof Error ? error.message.slice(0, 2000) : String(error) };
}
const { beforeBytes, peakBytes } = memory.stop();
const report = JSON.stringify({ device, ...result, gpu_bytes_before: beforeBytes, gpu_bytes_peak: peakBytes, torch_seconds_per_step: torch.seconds_per_step_two_passes }, null, 2);
await writeFile(path.join(folder, `wan-${device}.json`), `${report}\n`);
process.stdout.write(`${report}\n`);
process.exitCode = 'error' in result ? 1 : 0;

async function measure() {
  const openedAt = performance.now();
  const session = await openSession(path.join(folder as string, 'wan2.1-t2v-1.3b/transformer/model.onnx'), { device, threads: 0 });
  const openSeconds = (performance.now() - openedAt) / 1000;
  const text = await floats('encoder_hidden_states');
  const feeds = {
    hidden_states: { data: await floats('hidden_states'), dims: torch.latents },
    timestep: { data: Array.from(await floats('timestep')), dims: [1] },
    encoder_hidden_states: { data: text, dims: [1, 512, text.length / 512] },
  };
  const seconds: number[] = [];
  let sample = new Float32Array();
  for (let pass = 0; pass <= Number(values.repeats); pass += 1) {
    const startedAt = performance.now();
    sample = (await session.run(feeds, ['sample'])).sample.data as Float32Array<ArrayBuffer>;
    seconds.push((performance.now() - startedAt) / 1000);
  }
  await session.release();
  const [firstPass, ...warm] = seconds;
  return { open_seconds: openSeconds, first_pass_seconds: firstPass, pass_seconds: warm, seconds_per_step_two_passes: 2 * Math.min(...warm), ...compare(sample, await floats('sample')) };
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
  return { values: expected.length, psnr_db: 10 * Math.log10((peak * peak) / (squares / expected.length)), largest_difference: largest, largest_value: peak };
}
