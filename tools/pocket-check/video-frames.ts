import { spawn } from 'node:child_process';
import type { Pixels } from './picture.js';

/** All frames of a video file as RGB, decoded by an ffmpeg. */
export async function readVideo(
  file: string,
  { width, height, command = 'ffmpeg' }: { width: number; height: number; command?: string },
): Promise<Pixels[]> {
  const raw = await outputOf(command, [
    '-v',
    'error',
    '-i',
    file,
    '-f',
    'rawvideo',
    '-pix_fmt',
    'rgb24',
    'pipe:1',
  ]);
  const size = width * height * 3;
  return Array.from({ length: raw.length / size }, (_, i) => ({
    data: raw.subarray(i * size, (i + 1) * size),
    width,
    height,
  }));
}

/** Peak signal to noise ratio of two frames of one size, dB. */
export function psnr(a: Pixels, b: Pixels): number {
  if (a.data.length !== b.data.length)
    throw new Error(`${a.width}×${a.height} and ${b.width}×${b.height} cannot be compared`);
  return 10 * Math.log10(255 ** 2 / meanDifference(a, b, (difference) => difference ** 2));
}

/** The largest mean change between neighbouring frames, 0–255: what the eye takes for a cut. */
export function largestJump(frames: readonly Pixels[]): number {
  return frames.reduce(
    (largest, frame, i) =>
      i === 0 ? largest : Math.max(largest, meanDifference(frame, frames[i - 1] as Pixels, Math.abs)),
    0,
  );
}

function meanDifference(a: Pixels, b: Pixels, of: (difference: number) => number): number {
  return a.data.reduce((sum, value, i) => sum + of(value - (b.data[i] as number)), 0) / a.data.length;
}

function outputOf(command: string, args: string[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => {
      if (code === 0) resolve(Buffer.concat(chunks));
      else reject(new Error(`${command} ended with ${code}`));
    });
  });
}
