import { denormalise, type LatentShape, normalise, takeFrame } from './latents.js';
import type { WanModel } from './model.js';
import { allFinite, concat } from '../diffusion/floats.js';
import { type Picture, toPlanes } from '../diffusion/pictures.js';
import { EngineFailure } from '../engine.js';
import type { FloatTensor, KeptTensor, OnnxSession, Values } from '../onnx/session.js';

/**
 * Decodes a clip one latent frame at a time; memory is that of one step whatever the clip's length. A card computes all
 * of it at once, because the binding has no way to leave the caches there from step to step.
 * @param latents normalised, [channels, frames, height, width]
 * @param onChunk gets [1 or 4, 3, H, W] in [-1, 1] and the number of the latent frame; awaited before the
 *   next is decoded
 * @throws EngineFailure `engine_failed` when the decoder overflowed
 */
export async function decodeClip(
  model: WanModel,
  latents: Float32Array,
  shape: LatentShape,
  onChunk: (frames: Float32Array, latentFrame: number) => Promise<void>,
): Promise<void> {
  const frameAt = (frame: number) => denormalise(model, takeFrame(latents, shape, frame));
  const deliver = async (data: Float32Array, frame: number) => {
    if (!allFinite(data)) throw new EngineFailure('engine_failed', 'The VAE decoder overflowed.');
    await onChunk(data, frame);
  };
  if ('clip' in model.vaeDecoder) {
    const data = concat(Array.from({ length: shape.frames }, (_, frame) => frameAt(frame)));
    const dims = [shape.frames, shape.channels, shape.height, shape.width];
    const chunks = await runClip(model.vaeDecoder, { latent_frames: { data, dims } }, shape.frames, [
      'first_frame',
      'video_frames',
    ]);
    for (const [frame, chunk] of chunks.entries()) await deliver(chunk, frame);
    return;
  }
  const stream = createCausalStream(model.vaeDecoder, 'latent_frame', 'video_frames');
  try {
    const dims = [1, shape.channels, shape.height, shape.width];
    for (let frame = 0; frame < shape.frames; frame += 1)
      await deliver((await stream.next({ data: frameAt(frame), dims })).data, frame);
  } finally {
    stream.release();
  }
}

/** The output of every chunk of a clip: the first has an output of its own, the later ones lie end to end. */
async function runClip<First extends string, Later extends string>(
  { clip }: { clip: OnnxSession },
  feeds: Record<string, Values>,
  chunks: number,
  [first, later]: readonly [First, Later],
): Promise<Float32Array[]> {
  const results: Record<string, FloatTensor> = await clip.run(feeds, [first, later]);
  const [begin, rest] = [results[first]?.data, results[later]?.data] as [Float32Array, Float32Array];
  const size = rest.length / (chunks - 1);
  const each = Array.from({ length: chunks - 1 }, (_, i) => rest.subarray(i * size, (i + 1) * size));
  return [begin, ...each];
}

/**
 * Encodes a clip given frame by frame: one, then four at a time.
 * @param frameAt [3, H, W] in [-1, 1] of each of the `frames` frames
 * @returns normalised latents [channels, latent frames, h, w], the posterior's means
 */
export async function encodeClip(
  model: WanModel,
  frames: number,
  { width, height }: { width: number; height: number },
  frameAt: (index: number) => Float32Array,
  checkpoint: () => Promise<void> = async () => {},
): Promise<Float32Array> {
  if (model.vaeEncoder === null)
    throw new EngineFailure(
      'model_missing',
      'Reference images need a vae_encoder, which this model folder does not have',
    );
  const picturesOf = (first: number, count: number): Values => {
    const data = new Float32Array(count * 3 * width * height);
    for (let i = 0; i < count; i += 1) data.set(frameAt(first + i), i * 3 * width * height);
    return { data, dims: [count, 3, height, width] };
  };
  const encoded = await encodeChunks(model, model.vaeEncoder, frames, picturesOf, checkpoint);
  const size = encoded[0]?.length ?? 0;
  const area = size / model.channels;
  const latents = new Float32Array(size * encoded.length);
  for (const [frame, values] of encoded.entries()) {
    for (let c = 0; c < model.channels; c += 1)
      latents.set(values.subarray(c * area, (c + 1) * area), (c * encoded.length + frame) * area);
  }
  return latents;
}

/** Normalised latents of each latent frame. */
async function encodeChunks(
  model: WanModel,
  graphs: CausalGraphs,
  frames: number,
  picturesOf: (first: number, count: number) => Values,
  checkpoint: () => Promise<void>,
): Promise<Float32Array[]> {
  const encoded: Float32Array[] = [];
  if ('clip' in graphs) {
    await checkpoint();
    const chunks = (frames - 1) / model.framesPerLatent + 1;
    const feeds = { video_frames: picturesOf(0, frames) };
    const means = await runClip(graphs, feeds, chunks, ['first_mean', 'latent_means']);
    return means.map((mean) => normalise(model, mean));
  }
  const stream = createCausalStream(graphs, 'video_frames', 'latent_mean');
  try {
    for (let first = 0; first < frames;) {
      await checkpoint();
      const count = first === 0 ? 1 : model.framesPerLatent;
      encoded.push(normalise(model, (await stream.next(picturesOf(first, count))).data));
      first += count;
    }
  } finally {
    stream.release();
  }
  return encoded;
}

/** Latent of a picture as a clip's first frame: a clip of one frame. Normalised, [channels, h, w]. */
export async function encodeFirstFrame(model: WanModel, picture: Picture): Promise<Float32Array> {
  const planes = toPlanes(picture);
  return encodeClip(model, 1, picture, () => planes);
}

/**
 * Latent of a picture as a clip's last frames. A true last latent codes the change from what came before,
 * which is not known yet; the last latent of a still clip of the picture stands for it.
 */
export async function encodeLastFrame(model: WanModel, picture: Picture): Promise<Float32Array> {
  const planes = toPlanes(picture);
  const frames = 1 + model.framesPerLatent;
  const latents = await encodeClip(model, frames, picture, () => planes);
  return takeFrame(
    latents,
    {
      channels: model.channels,
      frames: 2,
      height: picture.height / model.vaeScale,
      width: picture.width / model.vaeScale,
    },
    1,
  );
}

/** Of one half of the causal VAE: the first chunk of a clip and every later one, or all of a clip in one graph. */
export type CausalGraphs = ChunkGraphs | { clip: OnnxSession };

interface ChunkGraphs {
  init: OnnxSession;
  step: OnnxSession;
}

/** `nc0`, `nc1`, …: what a chunk hands to the next one, which takes it as `c0`, `c1`, … */
export const isCache = (output: string) => /^nc\d+$/.test(output);

/**
 * Runs a clip through one half of the VAE chunk by chunk. Between chunks only the convolutions' last inputs
 * are kept, so memory does not grow with the clip: two sets of caches take turns, the older one being written
 * over (on the CPU), or each is given back to the device as soon as the next exists.
 */
export function createCausalStream({ init, step }: ChunkGraphs, input: string, output: string) {
  let caches: KeptTensor[] | null = null;
  let spare: KeptTensor[] | null = null;

  function give(tensors: KeptTensor[] | null): void {
    for (const tensor of tensors ?? []) if (tensor.location !== 'cpu') tensor.dispose();
  }

  return {
    /** The next chunk's output; `chunk` is one latent frame, or one frame first and four at a time then. */
    async next(chunk: Values): Promise<FloatTensor> {
      const graph = caches === null ? init : step;
      const names = graph.outputNames.filter(isCache);
      const feeds: Record<string, Values | KeptTensor> = { [input]: chunk };
      for (const [i, name] of names.entries())
        if (caches !== null) feeds[name.slice(1)] = caches[i] as KeptTensor;
      const { value, kept } = await graph.runKeeping(feeds, output, names, spare ?? undefined);
      give(spare);
      [spare, caches] = [caches, kept];
      return value;
    },
    /** Drops the caches; the next chunk begins a clip. */
    release(): void {
      give(spare);
      give(caches);
      [spare, caches] = [null, null];
    },
  };
}
