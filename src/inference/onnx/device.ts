import type { Device, DevicePreference } from '../engine-protocol.js';
import { EngineFailure } from '../engine.js';
import { openSession } from './session.js';

/**
 * Picks the first device on which a small graph of the model opens. `auto` tries cuda, webgpu, cpu; a named device is
 * tried alone, because an operator who asks for a GPU must not get a CPU in silence.
 * @returns the device, and for every one that was not taken a sentence with its cure
 * @throws EngineFailure `engine_failed` when the named device does not open
 */
export async function chooseDevice(preference: DevicePreference, probeGraph: string, threads: number): Promise<{ device: Device; notes: string[] }> {
  const candidates: Device[] = preference === 'auto' ? ['cuda', 'webgpu', 'cpu'] : [preference];
  const notes: string[] = [];
  for (const device of candidates) {
    try {
      const session = await openSession(probeGraph, { device, threads });
      await session.release();
      return { device, notes };
    } catch (error) {
      notes.push(explain(device, error instanceof Error ? error.message : String(error)));
    }
  }
  throw new EngineFailure('engine_failed', notes.join(' '));
}

function explain(device: Device, message: string): string {
  const reason = message.split('\n')[0]?.slice(0, 300) ?? '';
  if (device === 'cuda') {
    return `cuda was not taken: the CUDA provider of onnxruntime-node did not load (${reason}). Put libonnxruntime_providers_cuda.so of the same version beside the binding and CUDA 12 with cuDNN 9 on the loader path (docs/models.md).`;
  }
  if (device === 'webgpu') return `webgpu was not taken: no usable Vulkan device (${reason}). Install the GPU driver and libvulkan1.`;
  return `the CPU did not open the model (${reason}).`;
}
