/**
 * Does a provider open a graph here and compute? The pocket model's smallest graph through the worker's own
 * session code.
 *   node dist/bench/device/open-provider.js --device webgpu
 */
import path from 'node:path';
import { parseArgs } from 'node:util';
import type { Device } from '../../src/inference/engine-protocol.js';
import { chooseDevice } from '../../src/inference/onnx/device.js';
import { openSession } from '../../src/inference/onnx/session.js';
import { projectRoot } from '../../src/lib/project.js';

const { values } = parseArgs({ options: { device: { type: 'string', default: 'webgpu' } } });
const device = values.device as Device;
const folder = path.join(projectRoot(), 'models/pocket/sdxl');
const graph = path.join(folder, 'vae_decoder/model.onnx');
// throws the same sentence, with its cure, that the service reports
await chooseDevice(device, graph, 0);
const latents = { data: Float32Array.from({ length: 4 * 64 }, (_, i) => Math.sin(i)), dims: [1, 4, 8, 8] };
const run = async (on: Device) => {
  const session = await openSession(graph, { device: on, threads: 0 });
  const { sample } = await session.run({ latent_sample: latents }, ['sample']);
  await session.release();
  return sample.data;
};
const [expected, actual] = [await run('cpu'), await run(device)];
const largest = actual.reduce(
  (most, value, i) => Math.max(most, Math.abs(value - (expected[i] as number))),
  0,
);
process.stdout.write(`${device} computes; largest difference from the CPU ${largest.toExponential(1)}\n`);
if (!(largest < 0.05)) throw new Error(`${device} computes something else than the CPU`);
