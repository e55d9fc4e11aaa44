import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { videoToolsCure, type VideoTools } from '../../lib/video-tools.js';
import { EngineFailure } from '../engine.js';

const run = promisify(execFile);

export function requireVideoTools(tools: VideoTools | null): VideoTools {
  if (tools === null)
    throw new EngineFailure(
      'encoder_missing',
      `Videos cannot be encoded: ffprobe, or ffmpeg with libx264, is not installed. ${videoToolsCure}`,
    );
  return tools;
}

export interface VideoFacts {
  codec: string;
  pixelFormat: string;
  width: number;
  height: number;
  /** Counted by decoding the file. */
  frames: number;
  durationSeconds: number;
}

interface ProbeAnswer {
  streams?: Array<{
    codec_name?: string;
    pix_fmt?: string;
    width?: number;
    height?: number;
    nb_read_frames?: string;
    duration?: string;
  }>;
}

/** What ffprobe finds in a video file when it decodes all of it. */
export async function probeVideo(tools: VideoTools, file: string, signal?: AbortSignal): Promise<VideoFacts> {
  const { stdout } = await run(
    tools.ffprobe,
    [
      ...'-v error -select_streams v:0 -count_frames -of json -show_entries'.split(' '),
      'stream=codec_name,pix_fmt,width,height,nb_read_frames,duration',
      file,
    ],
    { killSignal: 'SIGKILL', ...(signal === undefined ? {} : { signal }) },
  );
  const stream = (JSON.parse(stdout) as ProbeAnswer).streams?.[0];
  return {
    codec: stream?.codec_name ?? '',
    pixelFormat: stream?.pix_fmt ?? '',
    width: stream?.width ?? 0,
    height: stream?.height ?? 0,
    frames: Number(stream?.nb_read_frames ?? 0),
    durationSeconds: Number(stream?.duration ?? 0),
  };
}
