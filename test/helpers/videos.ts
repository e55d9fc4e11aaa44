import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import type { Pixels } from '../../tools/pocket-check/picture.js';
import { readVideo } from '../../tools/pocket-check/video-frames.js';

const run = promisify(execFile);

/**
 * All frames of a video file as RGB, with what ffprobe says of it; decoded by the system's ffmpeg, nothing of
 * the product's.
 */
export async function decodeVideo(
  bytes: Buffer,
): Promise<{
  frames: Pixels[];
  codec: string;
  pixelFormat: string;
  framesPerSecond: number;
  seconds: number;
  faststart: boolean;
  comment: string;
}> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-video-'));
  const file = path.join(folder, 'video.mp4');
  try {
    await writeFile(file, bytes);
    const { stdout } = await run('ffprobe', [
      '-v',
      'error',
      '-select_streams',
      'v:0',
      '-show_entries',
      'stream=codec_name,pix_fmt,width,height,r_frame_rate,duration:format_tags=comment',
      '-of',
      'json',
      file,
    ]);
    const {
      streams: [stream],
      format,
    } = JSON.parse(stdout) as {
      streams: [
        {
          codec_name: string;
          pix_fmt: string;
          width: number;
          height: number;
          r_frame_rate: string;
          duration: string;
        },
      ];
      format: { tags?: { comment?: string } };
    };
    const { width, height } = stream;
    const [numerator = 0, denominator = 1] = stream.r_frame_rate.split('/').map(Number);
    return {
      frames: await readVideo(file, { width, height }),
      codec: stream.codec_name,
      pixelFormat: stream.pix_fmt,
      framesPerSecond: numerator / denominator,
      seconds: Number(stream.duration),
      faststart: bytes.indexOf('moov') < bytes.indexOf('mdat'),
      comment: format.tags?.comment ?? '',
    };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

export async function readFrame(picture: Buffer): Promise<Pixels> {
  const { data, info } = await sharp(picture).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}

export const toPng = ({ data, width, height }: Pixels): Promise<Buffer> =>
  sharp(Buffer.from(data), { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
