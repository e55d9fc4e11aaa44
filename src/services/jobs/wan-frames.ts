import { catalogue, type JobType } from './catalogue.js';

/** Of a video that does not say, nor its model folder; WAN makes 81 of it, about five seconds. */
const defaultFrameNum = 83;
export const framesPerSecond = 16;

/** Frames a job yields: one for pictures, for videos the largest 4n + 1 within what was asked for (the causal VAE makes one frame, then four at a time). */
export function wanFrames(type: JobType, frameNum: number | null | undefined): number {
  if (catalogue[type].output === 'image') return 1;
  return 4 * Math.floor(((frameNum ?? defaultFrameNum) - 1) / 4) + 1;
}
