import path from 'node:path';
import { fileWriter } from './file-writer.js';
import type { LatentPreview } from './latent-preview.js';
import { checkpoint, type RequestContext } from '../engine.js';
import type { EngineStage } from '../engine-protocol.js';
import { graphCalls } from '../onnx/session.js';

interface PreviewRequest {
  outputDir: string;
  /** 0: none. */
  previewEverySteps: number;
  /** Pixels that the latents stand for. */
  width: number;
  height: number;
}

export type Stages = ReturnType<typeof followStages>;

/** What a request tells while it is drawn: progress, previews, and seconds by stage when it is done. */
export function followStages({ emit, signal }: RequestContext) {
  const timings: Record<string, number> = { text: 0, reference: 0, denoise: 0, decode: 0, encode: 0 };

  const graphSeconds: Record<string, number> = {};
  let preview: Promise<void> | undefined;

  function report(stage: EngineStage, step: number, steps: number): void {
    emit({ kind: 'progress', stage, step, steps });
  }

  return {
    timings,
    /** Of `timings`, what the runtime's own calls took; the rest is ours. */
    graphSeconds,
    report,
    checkpoint: () => checkpoint(signal),
    /** Adds the seconds that `work` takes to its stage. */
    async timed<T>(stage: EngineStage, work: () => Promise<T>): Promise<T> {
      const startedAt = performance.now();
      const before = graphCalls.seconds;
      try {
        return await work();
      } finally {
        timings[stage] = (timings[stage] ?? 0) + (performance.now() - startedAt) / 1000;
        // files are encoded while the next request computes
        if (stage !== 'encode')
          graphSeconds[stage] = (graphSeconds[stage] ?? 0) + graphCalls.seconds - before;
      }
    },
    /**
     * Begins a preview after the steps that are due; never after the last, whose picture follows anyway. The
     * device is not kept waiting for it: while one is being written, the next is left out. `step` counts
     * within one schedule of `steps`, `reported` over the whole request; `drawn` of its `images` pictures are drawn
     * together, from `first` on.
     */
    preview(
      { outputDir, previewEverySteps, width, height }: PreviewRequest,
      {
        step,
        steps,
        reported = step,
        first = 0,
        drawn = 1,
        images = 1,
      }: { step: number; steps: number; reported?: number; first?: number; drawn?: number; images?: number },
      look: LatentPreview | null,
      latents: (index: number) => Float32Array,
    ): void {
      if (look === null || previewEverySteps === 0 || step % previewEverySteps !== 0 || step === steps)
        return;
      if (preview !== undefined) return;
      // What they show now: the latents go on changing.
      const pictures = Array.from({ length: drawn }, (_, index) =>
        look.render(latents(index), width, height),
      );
      const fileOf = (image: number) => path.join(outputDir, `preview-${reported}-${image}.webp`);
      preview = Promise.all(
        pictures.map((picture, index) =>
          fileWriter.preview(fileOf(first + index), picture, width, height).then(() => first + index),
        ),
      )
        .then((written) => {
          for (const image of written)
            emit({
              kind: 'preview',
              image,
              images,
              step: reported,
              path: fileOf(image),
              contentType: 'image/webp',
            });
        })
        // the job goes on without it
        .catch(() => undefined)
        .finally(() => {
          preview = undefined;
        });
    },
    /** Nothing is being written any more: to be awaited before the request ends, however it does. */
    previewWritten: async () => preview,
  };
}
