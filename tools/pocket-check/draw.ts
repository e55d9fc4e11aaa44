import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import type { RequestContext } from '../../src/inference/engine.js';
import type { LoadResult } from '../../src/inference/engine-protocol.js';
import type { SdxlGenerateParams, SdxlGenerateResult } from '../../src/inference/generation.js';
import { createSdxlEngine } from '../../src/inference/sdxl/engine.js';
import { projectRoot } from '../../src/lib/project.js';
import type { Pixels } from './picture.js';

export const pocketSdxl = path.join(projectRoot(), 'models/pocket/sdxl');

/** The engine's own code on the CPU, in this process, one 128×128 picture a call. */
export interface Painter {
  loaded: LoadResult;
  draw(
    params: Partial<SdxlGenerateParams> & { prompt: string },
  ): Promise<Pixels & { file: string; result: SdxlGenerateResult; png(): Promise<Buffer> }>;
  close(): Promise<void>;
}

/**
 * What `sdxl_image_fast` does with the pocket model: Euler, 15 steps, guidance 6; `defaults` and each call
 * override.
 */
export async function openPainter(
  modelDir = pocketSdxl,
  defaults: Partial<SdxlGenerateParams> = {},
): Promise<Painter> {
  const engine = createSdxlEngine();
  const loaded = await engine.load({ modelDir, device: 'cpu', threads: 0 }, () => {});
  const outputDir = await mkdtemp(path.join(tmpdir(), 'ourvidz-check-'));
  const context: RequestContext = {
    id: 'check',
    signal: new AbortController().signal,
    emit() {},
    compute: (work) => work(),
  };
  return {
    loaded,
    async draw(params) {
      const result = await engine.methods['sdxl.generate']?.(
        {
          jobId: 'check',
          outputDir,
          negativePrompt: null,
          parseWeights: true,
          weights: [],
          steps: 15,
          guidanceScale: 6,
          scheduler: 'euler',
          width: 128,
          height: 128,
          seed: 0,
          numImages: 1,
          format: 'png',
          previewEverySteps: 0,
          parametersText: '',
          explain: false,
          ...defaults,
          ...params,
        },
        context,
      );
      const file = result?.files[0]?.path;
      if (result === undefined || file === undefined) throw new Error('the engine drew nothing');
      const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true });
      return { data, width: info.width, height: info.height, file, result, png: () => readFile(file) };
    },
    async close() {
      await engine.unload();
      await rm(outputDir, { recursive: true, force: true });
    },
  };
}
