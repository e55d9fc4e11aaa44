import { registerHooks } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { getLlama, LlamaLogLevel, type Llama } from 'node-llama-cpp';
import type { Device, DevicePreference } from '../engine-protocol.js';
import { EngineFailure, type EngineLog } from '../engine.js';

/** Set by the service after `ourvidz setup cuda`. */
const cudaFolder = process.env['OURVIDZ_ONNX_RUNTIME'];
// node-llama-cpp looks for its CUDA build beside itself, where `npm ci` does not put it
if (cudaFolder !== undefined)
  registerHooks({
    resolve(specifier, context, resolveNext) {
      if (!/^@node-llama-cpp\/[\w-]+-cuda/.test(specifier)) return resolveNext(specifier, context);
      const parentURL = pathToFileURL(path.join(cudaFolder, 'package.json')).href;
      return resolveNext(specifier, { ...context, parentURL });
    },
  });

/** llama.cpp's back end for each device; what WebGPU is to ONNX Runtime, Vulkan is here. */
const backends = { cuda: 'cuda', webgpu: 'vulkan', cpu: false } as const satisfies Record<
  Device,
  'cuda' | 'vulkan' | false
>;
/** Vulkan on the CPU is slower than the CPU. */
const softwareDevice = /llvmpipe|softpipe|swiftshader/i;

const levels: Partial<Record<LlamaLogLevel, 'debug' | 'warn' | 'error'>> = {
  [LlamaLogLevel.fatal]: 'error',
  [LlamaLogLevel.error]: 'error',
  [LlamaLogLevel.warn]: 'warn',
};

/**
 * Opens llama.cpp on a device from the installed binaries; nothing is ever downloaded or built. `auto` tries
 * cuda, webgpu (Vulkan) and cpu; a named device is tried alone, because an operator who asks for a GPU must
 * not get a CPU in silence.
 * @returns the runtime, its device and a sentence for every device that was not taken
 * @throws EngineFailure `engine_failed` when the named device does not open
 */
export async function openLlama(
  preference: DevicePreference,
  log: EngineLog,
): Promise<{ llama: Llama; device: Device; notes: string[] }> {
  const candidates: Device[] = preference === 'auto' ? ['cuda', 'webgpu', 'cpu'] : [preference];
  const notes: string[] = [];
  for (const device of candidates) {
    try {
      const llama = await getLlama({
        gpu: backends[device],
        build: 'never',
        skipDownload: true,
        progressLogs: false,
        maxThreads: 0,
        logLevel: LlamaLogLevel.warn,
        logger: (level, message) => log(levels[level] ?? 'debug', message.trim()),
      });
      const problem = device === 'cpu' ? null : await problemOf(llama, backends[device]);
      if (problem === null) return { llama, device, notes };
      await llama.dispose();
      notes.push(explain(device, problem));
    } catch (error) {
      notes.push(explain(device, error instanceof Error ? error.message : String(error)));
    }
  }
  throw new EngineFailure('engine_failed', notes.join(' '));
}

async function problemOf(llama: Llama, backend: 'cuda' | 'vulkan'): Promise<string | null> {
  if (llama.gpu !== backend) return `${backend} was asked for and ${String(llama.gpu)} opened`;
  const names = await llama.getGpuDeviceNames();
  return names.some((name) => !softwareDevice.test(name)) ? null : 'no device of this kind';
}

function explain(device: Device, message: string): string {
  const reason = message.split('\n')[0]?.slice(0, 300) ?? '';
  if (device === 'cuda')
    return (
      `cuda is not used for the prompt model: llama.cpp's CUDA back end did not load (${reason}). ` +
      'Run npx ourvidz setup cuda on a machine with an NVIDIA card.'
    );
  if (device === 'webgpu')
    return (
      `webgpu is not used for the prompt model: no usable Vulkan device (${reason}). ` +
      'Install the GPU driver and libvulkan1.'
    );
  return `llama.cpp did not load on the CPU (${reason}).`;
}
