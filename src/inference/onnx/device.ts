import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { promisify } from 'node:util';
import type { Device, DevicePreference } from '../engine-protocol.js';
import { EngineFailure } from '../engine.js';
import { withPackage } from '../../lib/cuda-runtime.js';
import { projectRoot } from '../../lib/project.js';
import { type BuiltGraph, bindingFolder, InferenceSession, openSession, Tensor } from './session.js';

/** Largest difference from the CPU, of the largest value: a card may multiply with 10 bits of mantissa (TF32). */
const mostDifference = 1e-2;

/**
 * Picks the first device on which a small graph of the model opens. `auto` tries cuda, webgpu, cpu; a named
 * device is tried alone, because an operator who asks for a GPU must not get a CPU in silence.
 * @returns the device, and for every one that is not used a sentence with its cure
 * @throws EngineFailure `engine_failed` when the named device does not open
 */
export async function chooseDevice(
  preference: DevicePreference,
  probeGraph: string | ((device: Device) => Promise<string | BuiltGraph>),
  threads: number,
  findCuda: () => Promise<CudaLibraries> = findCudaLibraries,
): Promise<{ device: Device; notes: string[] }> {
  const candidates: Device[] = preference === 'auto' ? ['cuda', 'webgpu', 'cpu'] : [preference];
  const notes: string[] = [];
  for (const device of candidates) {
    const cuda = device === 'cuda' ? await findCuda() : null;
    // the runtime would only print that the file is not there
    if (cuda !== null && (!cuda.installed || cuda.missing.length > 0)) {
      notes.push(explainDevice(device, '', cuda));
      continue;
    }
    // what is wrong with the model is no matter of the device
    const source = typeof probeGraph === 'string' ? probeGraph : await probeGraph(device);
    try {
      const session = await openSession(source, { device, threads });
      await session.release();
      const wrong = device === 'cuda' ? wrongOperators(await compareWithCpu(device)) : [];
      if (wrong.length === 0) return { device, notes };
      notes.push(`${device} is not used: it computes wrong (${wrong.join(', ')}). Another driver may help.`);
    } catch (error) {
      notes.push(explainDevice(device, error instanceof Error ? error.message : String(error), cuda));
    }
  }
  throw new EngineFailure('engine_failed', notes.join(' '));
}

/** Operators whose results are not the CPU's, each with by how much. */
export const wrongOperators = (differences: Record<string, number>): string[] =>
  Object.entries(differences)
    .filter(([, difference]) => !(difference <= mostDifference))
    .map(([name, difference]) => `${name} is off by ${difference}`);

/** Multiplies, convolves and attends on a device and on the CPU: operator → largest difference. */
export async function compareWithCpu(device: Device): Promise<Record<string, number>> {
  const [found, expected] = [await computeCheck(device), await computeCheck('cpu')];
  return Object.fromEntries(
    Object.entries(expected).map(([name, values]) => [
      name,
      largestDifference(found[name] ?? new Float32Array(), values),
    ]),
  );
}

async function computeCheck(device: Device): Promise<Record<string, Float32Array>> {
  const file = path.join(projectRoot(), 'models/checks/device-check.onnx');
  const session = await InferenceSession.create(file, { executionProviders: [device] });
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

const providerFile = 'libonnxruntime_providers_cuda.so';

/** What the CUDA provider needs and what of it is there. */
interface CudaLibraries {
  /** Folder of onnxruntime-node's binding, where the provider's libraries belong. */
  folder: string;
  installed: boolean;
  /** Shared libraries the provider asks for that the loader does not find. */
  missing: string[];
}

/**
 * Looks at the provider's own file: the runtime's error names neither the file nor the library that is
 * missing.
 */
export async function findCudaLibraries(): Promise<CudaLibraries> {
  const folder = bindingFolder;
  const file = path.join(folder, providerFile);
  if (!existsSync(file)) return { folder, installed: false, missing: [] };
  const listing = await promisify(execFile)('ldd', [file], { timeout: 10_000 }).then(
    ({ stdout }) => stdout,
    () => '',
  );
  return { folder, installed: true, missing: missingLibraries(listing) };
}

/**
 * Names of `ldd`'s output that were not found; the runtime's own library is the loading process's and always
 * is.
 */
export function missingLibraries(listing: string): string[] {
  const names = [...listing.matchAll(/^\s*(\S+) => not found$/gm)].map((match) => match[1] as string);
  return [...new Set(names)].filter((name) => !name.startsWith('libonnxruntime'));
}

/** One sentence on why a device is not used, and one with the cure. */
export function explainDevice(device: Device, message: string, cuda: CudaLibraries | null): string {
  if (device === 'cuda') return explainCuda(message, cuda);
  const reason = shorten(message);
  if (device === 'webgpu')
    return (
      `webgpu is not used: no usable GPU through Vulkan (${reason}). Install the GPU's driver, ` +
      'libvulkan1, libgl1 and libegl1; in an NVIDIA container set NVIDIA_DRIVER_CAPABILITIES=all.'
    );
  return (
    `cpu is not used: the CPU did not open the model (${reason}). ` +
    'Check that its files are complete: ourvidz models verify.'
  );
}

function explainCuda(message: string, cuda: CudaLibraries | null): string {
  if (process.platform !== 'linux' || process.arch !== 'x64')
    return (
      'cuda is not used: onnxruntime-node has it for Linux on x64 only. ' +
      `Nothing to do on ${process.platform} ${process.arch}.`
    );
  if (cuda !== null && !cuda.installed)
    return 'cuda is not used: its provider is not here. Run npx ourvidz setup cuda on a machine with an NVIDIA card.';
  if (cuda?.missing.includes('libcuda.so.1') === true)
    return (
      'cuda is not used: libcuda.so.1 is not here; it belongs to the NVIDIA driver. ' +
      'Install the driver; in a container, start it with --gpus all.'
    );
  if (cuda !== null && cuda.missing.length > 0)
    return (
      `cuda is not used: the loader does not find ${cuda.missing.map(withPackage).join(', ')}. ` +
      'Run npx ourvidz setup cuda.'
    );
  return (
    `cuda is not used: the CUDA provider did not start (${shorten(message)}). Check that nvidia-smi shows ` +
    'the GPU here and that its driver is new enough for the CUDA version in docs/models.md.'
  );
}

/** The part of a native message that says something: without source file, function and condition. */
function shorten(message: string): string {
  const text = message
    .replace(/\s+/g, ' ')
    .replace(/^.*?(?=Failed to |CUDA failure|CUDA error)/i, '')
    .trim();
  return (text === '' ? 'no reason given' : text).slice(0, 200).replace(/[.\s]+$/, '');
}
