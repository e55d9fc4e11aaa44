import type { LatentShape } from './latents.js';
import type { WanModel } from './model.js';
import { encodeClip, encodeFirstFrame } from './vae.js';
import { readPadded, readPicture, toPlanes } from '../diffusion/pictures.js';
import type { WanReferences } from '../generation.js';
import type { FloatTensor } from '../onnx/session.js';

/** Inputs of a VACE transformer beside the latents. */
export interface VaceControl {
  /** [1, 2·channels + mask channels, frames, h, w]: what is kept, what is to be made, and the mask. */
  states: FloatTensor;
  /** One factor per hint. */
  scale: Float32Array;
  /** Reference pictures in front of the clip's latents; their frames are cut off before decoding. */
  referenceFrames: number;
}

/**
 * Builds the control clip: known frames are the pictures, all others mid grey; the mask is 0 where a frame is
 * kept, 1 where it is made. A single reference is a picture in front of the clip, padded with white to the
 * clip's shape; in a clip of one frame so is every reference.
 * Source: diffusers, pipeline_wan_vace.py (prepare_video_latents, prepare_masks).
 */
export async function prepareVace(
  model: WanModel,
  references: WanReferences,
  shape: LatentShape,
  strength: number | null,
  checkpoint: () => Promise<void>,
): Promise<VaceControl> {
  const size = { width: shape.width * model.vaeScale, height: shape.height * model.vaeScale };
  const frames = (shape.frames - 1) * model.framesPerLatent + 1;
  const still = frames === 1;
  const picture =
    references.start === undefined && references.end === undefined
      ? references.reference
      : still
        ? (references.start ?? references.end)
        : undefined;
  const grey = new Float32Array(3 * size.width * size.height);
  const planesOf = async (file: string | undefined) =>
    file === undefined || still ? undefined : toPlanes(await readPicture(file, size.width, size.height));
  const [first, last] = [await planesOf(references.start), await planesOf(references.end)];
  const kept = (frame: number) => (frame === 0 ? first : frame === frames - 1 ? last : undefined);

  const inactive = await encodeClip(model, frames, size, (frame) => kept(frame) ?? grey, checkpoint);
  // what is to be made is grey everywhere: where a frame is kept the mask takes it out, elsewhere nothing is
  // known
  const reactive =
    first === undefined && last === undefined
      ? inactive
      : await encodeClip(model, frames, size, () => grey, checkpoint);
  const inFront =
    picture === undefined
      ? undefined
      : await encodeFirstFrame(model, await readPadded(picture, size.width, size.height));

  const area = shape.height * shape.width;
  const offset = inFront === undefined ? 0 : 1;
  const total = shape.frames + offset;
  const maskChannels = model.vaeScale ** 2;
  const channels = 2 * model.channels + maskChannels;
  const data = new Float32Array(channels * total * area);
  for (let c = 0; c < model.channels; c += 1) {
    if (inFront !== undefined) data.set(inFront.subarray(c * area, (c + 1) * area), c * total * area);
    for (const [half, latents] of [inactive, reactive].entries()) {
      data.set(
        latents.subarray(c * shape.frames * area, (c + 1) * shape.frames * area),
        ((half * model.channels + c) * total + offset) * area,
      );
    }
  }
  const mask = foldedMask(frames, shape.frames, (frame) => kept(frame) === undefined);
  for (let c = 2 * model.channels; c < channels; c += 1) {
    for (const [frame, value] of mask.entries())
      data.fill(value, (c * total + offset + frame) * area, (c * total + offset + frame + 1) * area);
  }
  return {
    states: { data, dims: [1, channels, total, shape.height, shape.width] },
    scale: new Float32Array(model.vaceHints).fill(strength ?? 1),
    referenceFrames: offset,
  };
}

/** The mask of whole frames, brought to latent frames by torch's `nearest-exact`. */
export function foldedMask(
  frames: number,
  latentFrames: number,
  isMade: (frame: number) => boolean,
): number[] {
  return Array.from({ length: latentFrames }, (_, i) =>
    isMade(Math.min(frames - 1, Math.floor((i + 0.5) * (frames / latentFrames)))) ? 1 : 0,
  );
}
