import type { Device, DevicePreference } from '../engine-protocol.js';
import { EngineFailure } from '../engine.js';
import { explainDevice, findCudaLibraries, type CudaLibraries } from './device-notes.js';
import { openSession } from './session.js';

/**
 * Picks the first device on which a small graph of the model opens. `auto` tries cuda, webgpu, cpu; a named device is
 * tried alone, because an operator who asks for a GPU must not get a CPU in silence.
 * @returns the device, and for every one that was not taken a sentence with its cure
 * @throws EngineFailure `engine_failed` when the named device does not open
 */
export async function chooseDevice(preference: DevicePreference, probeGraph: string, threads: number, findCuda: () => Promise<CudaLibraries> = findCudaLibraries): Promise<{ device: Device; notes: string[] }> {
  const candidates: Device[] = preference === 'auto' ? ['cuda', 'webgpu', 'cpu'] : [preference];
  const notes: string[] = [];
  for (const device of candidates) {
    const cuda = device === 'cuda' ? await findCuda() : null;
    // the runtime would only print that the file is not there
    if (cuda !== null && (!cuda.installed || cuda.missing.length > 0)) {
      notes.push(explainDevice(device, '', cuda));
      continue;
    }
    try {
      const session = await openSession(probeGraph, { device, threads });
      await session.release();
      return { device, notes };
    } catch (error) {
      notes.push(explainDevice(device, error instanceof Error ? error.message : String(error), cuda));
    }
  }
  throw new EngineFailure('engine_failed', notes.join(' '));
}
