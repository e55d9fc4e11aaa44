import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Test } from 'tap';
import { findVideoTools } from '../../../src/lib/video-tools.js';
import type { RequestContext } from '../../../src/inference/engine.js';
import type { EngineEvent } from '../../../src/inference/engine-protocol.js';
import type { WanGenerateParams } from '../../../src/inference/generation.js';
import { collectGarbage } from '../../../src/inference/diffusion/floats.js';
import type { WanPipeline } from '../../../src/inference/wan/generate.js';
import { openWanModel, type WanModel } from '../../../src/inference/wan/model.js';
import { createPromptCache } from '../../../src/inference/wan/text.js';
import { projectRoot } from '../../../src/lib/project.js';

export const tinyFolder = path.join(projectRoot(), 'test/parity/models/wan-tiny');

/** Long enough to be cancelled at every point. */
export const longClip = { width: 128, height: 128, frames: 41, steps: 3 };
/** Progress events at which the cancellation tests cancel. */
export const cancelPoints = [
  ['text', 0],
  ['denoise', 1],
  ['decode', 0],
  ['decode', 4],
  ['encode', 0],
] as const;

/**
 * Bytes held by tensors and by the process, without what is only waiting to be freed: the least of several
 * readings, because V8 frees a buffer's memory on another thread, some time after it was collected.
 */
export async function heldBytes(readings = 10): Promise<{ tensors: number; process: number }> {
  const least = { tensors: Infinity, process: Infinity };
  for (let i = 0; i < readings; i += 1) {
    collectGarbage();
    await sleep(20);
    const { rss, external, arrayBuffers } = process.memoryUsage();
    least.tensors = Math.min(least.tensors, Math.max(external, arrayBuffers));
    least.process = Math.min(least.process, rss);
  }
  return least;
}

export async function openTiny(t: Test): Promise<WanModel> {
  const model = await openWanModel(tinyFolder, { device: 'cpu', threads: 1 });
  t.teardown(() => model.release());
  return model;
}

export async function pipelineOf(model: WanModel): Promise<WanPipeline> {
  return { model, texts: createPromptCache(model), preview: null, videoTools: await findVideoTools() };
}

export async function temporaryFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'wan-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export function wanParams(outputDir: string, changes: Partial<WanGenerateParams> = {}): WanGenerateParams {
  return {
    jobId: 'job',
    outputDir,
    prompt: 'a red circle moves from left to right',
    negativePrompt: null,
    steps: 3,
    guidanceScale: 6.5,
    shift: 5,
    scheduler: 'unipc',
    width: 64,
    height: 64,
    frames: 9,
    seed: 42,
    output: 'video',
    format: 'png',
    crf: 20,
    framesPerSecond: 16,
    references: {},
    referenceStrength: null,
    previewEverySteps: 0,
    parametersText: 'Prompt, Seed: {seed}',
    explain: false,
    ...changes,
  };
}

/** A request's context that keeps its events; `onEvent` may cancel. */
export function recordingContext(
  onEvent: (event: EngineEvent, cancel: () => void) => void = () => {},
): RequestContext & { events: EngineEvent[] } {
  const controller = new AbortController();
  const events: EngineEvent[] = [];
  return {
    id: '1',
    signal: controller.signal,
    events,
    compute: (work) => work(),
    emit(event) {
      events.push(event);
      onEvent(event, () => {
        controller.abort();
      });
    },
  };
}

/**
 * Keeps this thread, its loop included, from doing anything else until something is true, as a graph's call
 * does. False: it did not come true for a minute.
 */
export function blockUntil(isTrue: () => boolean): boolean {
  const cell = new Int32Array(new SharedArrayBuffer(4));
  for (let looks = 0; looks < 6000; looks += 1) {
    if (isTrue()) return true;
    Atomics.wait(cell, 0, 0, 10);
  }
  return false;
}
