import { execFile, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';

const run = promisify(execFile);

export interface Frame { data: Uint8Array; width: number; height: number }

/** All frames of a video file as RGB, with what ffprobe says of it; decoded by the system's ffmpeg, nothing of the product's. */
export async function decodeVideo(bytes: Buffer): Promise<{ frames: Frame[]; codec: string; pixelFormat: string; framesPerSecond: number; seconds: number; faststart: boolean; comment: string }> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-video-'));
  const file = path.join(folder, 'video.mp4');
  try {
    await writeFile(file, bytes);
    const { stdout } = await run('ffprobe', ['-v', 'error', '-select_streams', 'v:0', '-show_entries', 'stream=codec_name,pix_fmt,width,height,r_frame_rate,duration:format_tags=comment', '-of', 'json', file]);
    const { streams: [stream], format } = JSON.parse(stdout) as { streams: [{ codec_name: string; pix_fmt: string; width: number; height: number; r_frame_rate: string; duration: string }]; format: { tags?: { comment?: string } } };
    const { width, height } = stream;
    const raw = await collect('ffmpeg', ['-v', 'error', '-i', file, '-f', 'rawvideo', '-pix_fmt', 'rgb24', 'pipe:1']);
    const size = width * height * 3;
    const [numerator = 0, denominator = 1] = stream.r_frame_rate.split('/').map(Number);
    return {
      frames: Array.from({ length: raw.length / size }, (_, i) => ({ data: raw.subarray(i * size, (i + 1) * size), width, height })),
      codec: stream.codec_name, pixelFormat: stream.pix_fmt, framesPerSecond: numerator / denominator, seconds: Number(stream.duration),
      faststart: bytes.indexOf('moov') < bytes.indexOf('mdat'), comment: format.tags?.comment ?? '',
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export async function readFrame(picture: Buffer): Promise<Frame> {
  const { data, info } = await sharp(picture).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

export const toPng = ({ data, width, height }: Frame): Promise<Buffer> => sharp(Buffer.from(data), { raw: { width, height, channels: 3 } }).png().toBuffer();

/** Peak signal to noise ratio of two frames of one size, dB. */
export function psnr(a: Frame, b: Frame): number {
  if (a.data.length !== b.data.length) throw new Error(`${a.width}×${a.height} and ${b.width}×${b.height} cannot be compared`);
  const error = a.data.reduce((sum, value, i) => sum + (value - (b.data[i] as number)) ** 2, 0) / a.data.length;
  return 10 * Math.log10(255 ** 2 / error);
}

function collect(command: string, args: string[]): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    const chunks: Buffer[] = [];
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk));
    child.once('error', reject);
    child.once('close', (code) => { if (code === 0) resolve(Buffer.concat(chunks)); else reject(new Error(`${command} ended with ${code}`)); });
  });
}
