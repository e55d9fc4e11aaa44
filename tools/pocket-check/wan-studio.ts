import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import type { RequestContext } from '../../src/inference/engine.js';
import type { FlowSchedulerName, WanGenerateParams } from '../../src/inference/generation.js';
import { findVideoTools } from '../../src/lib/video-tools.js';
import { toPictures, toPlanes } from '../../src/inference/diffusion/pictures.js';
import { createWanEngine } from '../../src/inference/wan/engine.js';
import { openWanModel } from '../../src/inference/wan/model.js';
import { decodeClip, encodeClip } from '../../src/inference/wan/vae.js';
import { worldSize } from './clip-world.js';
import type { Pixels } from './picture.js';
import { readVideo } from './video-frames.js';

export interface StudioSettings {
  steps: number;
  guidance: number;
  shift: number;
  scheduler: FlowSchedulerName;
  frames: number;
}

/** A pocket WAN folder behind the engine's own code: prompts in, the frames of the finished files out. */
export async function openStudio(
  modelDir: string,
  { steps, guidance, shift, scheduler, frames }: StudioSettings,
) {
  const tools = await findVideoTools();
  if (tools === null) throw new Error('ffmpeg is needed to make and read videos');
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-score-'));
  const engine = createWanEngine();
  await engine.load({ modelDir, device: 'cpu', threads: 0 }, () => {});
  const model = await openWanModel(modelDir, { device: 'cpu', threads: 0 });
  const context: RequestContext = {
    id: 'score',
    signal: new AbortController().signal,
    emit() {},
    compute: (work) => work(),
  };

  return {
    /** What the engine makes of a prompt, with the file it is in and the seconds it took. */
    async make(
      prompt: string,
      seed: number,
      output: 'video' | 'image',
      ends: { start?: Pixels; end?: Pixels } = {},
    ): Promise<{ frames: Pixels[]; file: string; seconds: number }> {
      const references: WanGenerateParams['references'] = {};
      for (const role of ['start', 'end'] as const) {
        const picture = ends[role];
        if (picture === undefined) continue;
        references[role] = path.join(folder, `${role}.png`);
        await writeFile(
          references[role],
          await sharp(picture.data, { raw: { width: picture.width, height: picture.height, channels: 3 } })
            .png()
            .toBuffer(),
        );
      }
      const startedAt = performance.now();
      const result = await engine.methods['wan.generate']?.(
        {
          jobId: 'score',
          outputDir: folder,
          prompt,
          negativePrompt: null,
          steps,
          guidanceScale: guidance,
          shift,
          scheduler,
          width: worldSize,
          height: worldSize,
          frames: output === 'video' ? frames : 1,
          seed,
          output,
          format: 'png',
          crf: 18,
          framesPerSecond: 16,
          references,
          referenceStrength: 1,
          previewEverySteps: 0,
          parametersText: '',
          explain: false,
        },
        context,
      );
      const seconds = (performance.now() - startedAt) / 1000;
      const file = result?.files[0]?.path ?? '';
      return {
        frames:
          output === 'video'
            ? await readVideo(file, { width: worldSize, height: worldSize, command: tools.ffmpeg })
            : [await readPicture(file)],
        file,
        seconds,
      };
    },
    /** A true clip through the VAE and nothing else: what the model can reach at best. */
    async throughVae(clip: readonly Pixels[]): Promise<Pixels[]> {
      const planes = clip.map((frame) => toPlanes(frame));
      const latents = await encodeClip(
        model,
        clip.length,
        { width: worldSize, height: worldSize },
        (index) => planes[index] as Float32Array,
      );
      const side = worldSize / model.vaeScale;
      const decoded: Pixels[] = [];
      await decodeClip(
        model,
        latents,
        {
          channels: model.channels,
          frames: 1 + (clip.length - 1) / model.framesPerLatent,
          height: side,
          width: side,
        },
        async (chunk) => {
          decoded.push(...toPictures(chunk, worldSize, worldSize));
        },
      );
      return decoded;
    },
    async close(): Promise<void> {
      await Promise.all([engine.unload(), model.release()]);
      await rm(folder, { recursive: true, force: true });
    },
  };
}
export type Studio = Awaited<ReturnType<typeof openStudio>>;

async function readPicture(file: string): Promise<Pixels> {
  const { data, info } = await sharp(file).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}
