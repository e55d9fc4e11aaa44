import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';
import { EngineFailure } from '../engine.js';

const run = promisify(execFile);

/** Programs that make and check videos. */
export interface VideoTools {
  ffmpeg: string;
  ffprobe: string;
}

export const videoToolsCure = 'Install ffmpeg with libx264 (on Debian: apt-get install ffmpeg), or run npm ci without --omit=optional.';

/** The packages that ship binaries throw when they are imported on a platform they have none for. */
async function packaged(load: () => Promise<{ default: { path: string } }>): Promise<string[]> {
  try {
    return [(await load()).default.path];
  } catch {
    return [];
  }
}

async function firstThat(candidates: readonly string[], works: (command: string) => Promise<boolean>): Promise<string | null> {
  for (const command of candidates) {
    try {
      if (await works(command)) return command;
    } catch {
      // not there, or not runnable: the next one
    }
  }
  return null;
}

/**
 * The system's ffmpeg and ffprobe, else those of the npm packages; only an ffmpeg with libx264 counts. Null: no videos here.
 * @param chosen this ffmpeg and no other, with the ffprobe beside it if there is one
 */
export async function findVideoTools(chosen?: string): Promise<VideoTools | null> {
  const ffmpegs = chosen === undefined ? ['ffmpeg', ...await packaged(() => import('@ffmpeg-installer/ffmpeg'))] : [chosen];
  const ffprobes = [...(chosen === undefined ? [] : [path.join(path.dirname(chosen), 'ffprobe')]), 'ffprobe', ...await packaged(() => import('@ffprobe-installer/ffprobe'))];
  const ffmpeg = await firstThat(ffmpegs, async (command) => (await run(command, ['-hide_banner', '-encoders'])).stdout.includes('libx264'));
  const ffprobe = await firstThat(ffprobes, async (command) => (await run(command, ['-hide_banner', '-version'])).stdout !== '');
  return ffmpeg === null || ffprobe === null ? null : { ffmpeg, ffprobe };
}

export function requireVideoTools(tools: VideoTools | null): VideoTools {
  if (tools === null) throw new EngineFailure('encoder_missing', `Videos cannot be encoded: neither the system nor the packages have ffmpeg with libx264 and ffprobe. ${videoToolsCure}`);
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
  streams?: Array<{ codec_name?: string; pix_fmt?: string; width?: number; height?: number; nb_read_frames?: string; duration?: string }>;
}

/** What ffprobe finds in a video file when it decodes all of it. */
export async function probeVideo(tools: VideoTools, file: string, signal?: AbortSignal): Promise<VideoFacts> {
  const { stdout } = await run(tools.ffprobe, [
    '-v', 'error', '-select_streams', 'v:0', '-count_frames', '-show_entries', 'stream=codec_name,pix_fmt,width,height,nb_read_frames,duration', '-of', 'json', file,
  ], { killSignal: 'SIGKILL', ...(signal === undefined ? {} : { signal }) });
  const stream = (JSON.parse(stdout) as ProbeAnswer).streams?.[0];
  return {
    codec: stream?.codec_name ?? '', pixelFormat: stream?.pix_fmt ?? '', width: stream?.width ?? 0, height: stream?.height ?? 0,
    frames: Number(stream?.nb_read_frames ?? 0), durationSeconds: Number(stream?.duration ?? 0),
  };
}
