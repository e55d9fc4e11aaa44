import { type LatentShape, putFrame } from './latents.js';
import type { WanModel } from './model.js';
import { encodeFirstFrame, encodeLastFrame } from './vae.js';
import { readPicture } from '../diffusion/pictures.js';
import { wanReferenceMode, type WanReferences } from '../generation.js';

/** Latent frames whose content is given, and how they are held. */
export interface KnownLatents {
  /** Normalised, [channels, h, w] by latent frame. */
  frames: ReadonlyMap<number, Float32Array>;
  /** 0–1: share of the given frame in the x0 prediction while it is held. */
  firmness: number;
  /** Held while the noise level is at least this; below, the model is free. */
  release: number;
  /** Shown to the model without noise, as it was trained to see them. */
  clean: boolean;
}

/**
 * How long and how firmly: at noise level σ everything finer than σ is still to be drawn, so a frame held
 * down to σ = 1 - strength leaves the model as much to repaint as video-to-video of that strength would.
 * Below a strength of 0.5 the model's own prediction has a share from the beginning. Null (the job gave none)
 * holds to the end.
 */
export function holdOf(strength: number | null): { firmness: number; release: number } {
  if (strength === null) return { firmness: 1, release: 0 };
  return { firmness: Math.min(1, 0.5 + strength), release: 1 - strength };
}

/**
 * A picture is all of the clip: held to the end it would be the reference itself. It begins an image-to-image
 * run instead, at the noise level that SDXL's composition references change at most (0.95 - 0.5·strength).
 */
export function pictureStartLevel(strength: number | null): number {
  return 0.95 - 0.5 * (strength ?? 1);
}

/**
 * Latents of the references for a text-to-video model. Pictures are fitted by a centre crop to the clip's
 * size, never stretched. The first frame alone is latent 0, exactly; the last one is encoded as a still clip.
 * A single reference begins the clip; in a clip of one frame every reference is that frame, a start before an
 * end.
 */
export async function encodeReferences(
  model: WanModel,
  references: WanReferences,
  shape: LatentShape,
  strength: number | null,
): Promise<KnownLatents | null> {
  const mode = wanReferenceMode(references);
  if (mode === 'none') return null;
  const read = (file: string) =>
    readPicture(file, shape.width * model.vaeScale, shape.height * model.vaeScale);
  const first = references.start ?? (mode === 'single' ? references.reference : undefined);
  const last = references.end;
  const frames = new Map<number, Float32Array>();
  if (shape.frames === 1) {
    const only = first ?? last;
    if (only !== undefined) frames.set(0, await encodeFirstFrame(model, await read(only)));
    return { frames, firmness: 1, release: pictureStartLevel(strength), clean: false };
  }
  if (first !== undefined) frames.set(0, await encodeFirstFrame(model, await read(first)));
  if (last !== undefined) frames.set(shape.frames - 1, await encodeLastFrame(model, await read(last)));
  return { frames, ...holdOf(strength), clean: model.cleanKnownLatents };
}

/** Start of the run: known frames at the first noise level, (1 - σ)·z + σ·noise, the others noise. */
export function mixKnownFrames(
  noise: Float32Array,
  shape: LatentShape,
  known: KnownLatents,
  sigma: number,
): Float32Array {
  const start = noise.slice();
  for (const [frame, values] of known.frames) {
    const mixed = values.map((value, i) => {
      const area = shape.height * shape.width;
      const at = (Math.floor(i / area) * shape.frames + frame) * area + (i % area);
      return (1 - sigma) * value + sigma * (noise[at] as number);
    });
    putFrame(start, shape, frame, mixed);
  }
  return start;
}

/**
 * x0 with the known frames pulled to what they are. UniPC, DPM++ and Euler then keep x = (1 - σ)·z + σ·noise
 * by themselves.
 */
export function pinKnownFrames(x0: Float32Array, shape: LatentShape, known: KnownLatents): Float32Array {
  const area = shape.height * shape.width;
  const { firmness } = known;
  for (const [frame, values] of known.frames) {
    for (let c = 0; c < shape.channels; c += 1) {
      const from = (c * shape.frames + frame) * area;
      for (let i = 0; i < area; i += 1)
        x0[from + i] =
          firmness * (values[c * area + i] as number) + (1 - firmness) * (x0[from + i] as number);
    }
  }
  return x0;
}

/** What the model is shown: the sample, with the known frames clean. */
export function showKnownFrames(sample: Float32Array, shape: LatentShape, known: KnownLatents): Float32Array {
  const shown = sample.slice();
  for (const [frame, values] of known.frames) putFrame(shown, shape, frame, values);
  return shown;
}
