import type { WanModel } from './model.js';

/** Extent of a clip's latents [channels, frames, height, width]. */
export interface LatentShape {
  channels: number;
  frames: number;
  height: number;
  width: number;
}

/** Latent frames of a clip of 4n + 1 frames: n + 1. */
export function latentShape(
  model: WanModel,
  { width, height, frames }: { width: number; height: number; frames: number },
): LatentShape {
  return {
    channels: model.channels,
    frames: (frames - 1) / model.framesPerLatent + 1,
    height: height / model.vaeScale,
    width: width / model.vaeScale,
  };
}

/** One latent frame [channels, height, width] of a clip. */
export function takeFrame(
  latents: Float32Array,
  { channels, frames, height, width }: LatentShape,
  frame: number,
): Float32Array {
  const area = height * width;
  const taken = new Float32Array(channels * area);
  for (let c = 0; c < channels; c += 1)
    taken.set(latents.subarray((c * frames + frame) * area, (c * frames + frame + 1) * area), c * area);
  return taken;
}

/** Writes one latent frame into a clip. */
export function putFrame(
  latents: Float32Array,
  { channels, frames, height, width }: LatentShape,
  frame: number,
  values: Float32Array,
): void {
  const area = height * width;
  for (let c = 0; c < channels; c += 1)
    latents.set(values.subarray(c * area, (c + 1) * area), (c * frames + frame) * area);
}

/** A clip without its first `count` latent frames. */
export function dropFrames(
  latents: Float32Array,
  { channels, frames, height, width }: LatentShape,
  count: number,
): Float32Array {
  if (count === 0) return latents;
  const area = height * width;
  const kept = new Float32Array(channels * (frames - count) * area);
  for (let c = 0; c < channels; c += 1)
    kept.set(
      latents.subarray((c * frames + count) * area, (c + 1) * frames * area),
      c * (frames - count) * area,
    );
  return kept;
}

/** (VAE's latents - mean) / deviation, channel by channel; any number of values a channel. */
export function normalise(model: WanModel, latents: Float32Array): Float32Array {
  return perChannel(model, latents, (value, mean, deviation) => (value - mean) / deviation);
}

export function denormalise(model: WanModel, latents: Float32Array): Float32Array {
  return perChannel(model, latents, (value, mean, deviation) => value * deviation + mean);
}

function perChannel(
  { channels, latentsMean, latentsDeviation }: WanModel,
  latents: Float32Array,
  map: (value: number, mean: number, deviation: number) => number,
): Float32Array {
  const area = latents.length / channels;
  const mapped = new Float32Array(latents.length);
  for (let c = 0; c < channels; c += 1)
    for (let i = c * area; i < (c + 1) * area; i += 1)
      mapped[i] = map(latents[i] as number, latentsMean[c] as number, latentsDeviation[c] as number);
  return mapped;
}
