import { mkdtemp, rm } from 'node:fs/promises';
import { availableParallelism, tmpdir } from 'node:os';
import path from 'node:path';
import type { LatentPreview } from './latent-preview.js';
import {
  type Engine,
  EngineFailure,
  type EngineLog,
  type RequestContext,
  requireModelFiles,
} from '../engine.js';
import type { Device, LoadParams, LoadResult } from '../engine-protocol.js';
import { trialForms } from '../graphs/architectures.js';
import { findModelGraphs } from '../graphs/model-graphs.js';
import { chooseDevice } from '../onnx/device.js';

interface Pipeline {
  model: { release(): Promise<void> };
  /** Null until warm-up has fitted it. */
  preview: LatentPreview | null;
}

interface DiffusionEngineParts<P extends Pipeline> {
  kind: 'sdxl' | 'wan';
  /** Small graph of the model folder that is opened first, to learn which device works. */
  probeGraph: string;
  open(params: LoadParams & { device: Device }, log: EngineLog): Promise<P>;
  describe(pipeline: P): Omit<LoadResult['model'], 'name'>;
  /** A generation as small as possible that runs every graph. */
  drawSmall(pipeline: P, outputDir: string, context: RequestContext): Promise<unknown>;
  fitPreview(pipeline: P): Promise<LatentPreview>;
  methods(loaded: () => P): Engine['methods'];
}

/** A pipeline over ONNX graphs behind the engine protocol. */
export function createDiffusionEngine<P extends Pipeline>(parts: DiffusionEngineParts<P>): Engine {
  let pipeline: P | undefined;
  const loaded = (): P => {
    if (pipeline === undefined)
      throw new EngineFailure('not_loaded', `The ${parts.kind} model is not loaded`);
    return pipeline;
  };
  async function unload(): Promise<void> {
    await pipeline?.model.release();
    pipeline = undefined;
  }

  return {
    async load(params, log) {
      const startedAt = performance.now();
      const { modelDir } = params;
      requireModelFiles(parts.kind, modelDir);
      await unload();
      const threads = params.threads > 0 ? params.threads : Math.min(availableParallelism(), 16);
      const { device, notes } = await chooseDevice(
        params.device,
        (device) =>
          findModelGraphs(parts.kind, modelDir).required(parts.probeGraph, device, {
            form: trialForms[device],
          }),
        threads,
      );
      pipeline = await parts.open({ ...params, device, threads }, log);
      return {
        device,
        deviceNotes: notes,
        loadSeconds: (performance.now() - startedAt) / 1000,
        model: { name: path.basename(modelDir, '.safetensors'), ...parts.describe(pipeline) },
      };
    },

    async warmUp(context) {
      const ready = loaded();
      const outputDir = await mkdtemp(path.join(tmpdir(), 'ourvidz-warm-up-'));
      try {
        await parts.drawSmall(ready, outputDir, context);
      } finally {
        await rm(outputDir, { recursive: true, force: true });
      }
      await context.compute(async () => {
        ready.preview = await parts.fitPreview(ready);
      });
    },

    methods: parts.methods(loaded),
    unload,
  };
}
