import { execFile, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import { cancelled, EngineFailure, throwIfCancelled } from '../engine.js';
import type { GeneratedFile } from '../generation.js';
import { videoToolsCure, type VideoTools } from '../../lib/video-tools.js';
import { type Picture, seal } from './pictures.js';

export interface VideoOptions {
  width: number;
  height: number;
  framesPerSecond: number;
  /** H.264 constant rate factor. */
  crf: number;
  /** Put into the file's `comment`. */
  parameters: string;
  seed: number;
  signal: AbortSignal;
}

export type VideoWriter = ReturnType<typeof openVideo>;

/**
 * Encodes H.264 (yuv420p, BT.709, moov first) from frames that come one by one. `write` resolves when the
 * encoder has taken the frame, so a slow encoder holds the decoder back and no frames pile up. The file
 * appears whole or not at all.
 */
export function openVideo(
  tools: VideoTools,
  file: string,
  { width, height, framesPerSecond, crf, parameters, seed, signal }: VideoOptions,
) {
  const partial = `${file}.part`;
  const child = spawn(
    tools.ffmpeg,
    [
      ...'-hide_banner -loglevel error -nostats -y -f rawvideo -pixel_format rgb24'.split(' '),
      ...`-video_size ${width}x${height} -framerate ${framesPerSecond} -i pipe:0`.split(' '),
      ...'-vf scale=out_color_matrix=bt709:out_range=tv -pix_fmt yuv420p'.split(' '),
      ...'-colorspace bt709 -color_primaries bt709 -color_trc bt709 -color_range tv'.split(' '),
      ...`-c:v libx264 -preset medium -crf ${crf} -movflags +faststart -progress pipe:1`.split(' '),
      ...['-metadata', `comment=${parameters}`, '-f', 'mp4', partial],
    ],
    { stdio: ['pipe', 'pipe', 'pipe'] },
  );
  let errors = '';
  let written = 0;
  let notify: (frames: number) => void = () => {};
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    errors = (errors + text).slice(-2000);
  });
  createInterface({ input: child.stdout }).on('line', (line) => {
    if (!line.startsWith('frame=')) return;
    notify(Number(line.slice('frame='.length)));
  });
  // an encoder that ends early breaks the pipe; its exit code and words say why
  child.stdin.on('error', () => {});
  const ended = new Promise<number | null>((resolve) => {
    child.once('error', (error) => {
      errors = error.message;
      resolve(null);
    });
    child.once('close', (code) => {
      resolve(code);
    });
  });
  let exited = false;
  void ended.then(() => {
    exited = true;
  });
  const stop = () => {
    child.kill('SIGKILL');
  };
  signal.addEventListener('abort', stop, { once: true });

  const failed = () =>
    signal.aborted
      ? cancelled()
      : new EngineFailure(
          'engine_failed',
          `ffmpeg failed after ${written} frames: ${errors.trim() || 'it gave no reason'}`,
        );

  async function abandon(): Promise<void> {
    signal.removeEventListener('abort', stop);
    stop();
    await ended;
    await rm(partial, { force: true });
  }

  return {
    pid: child.pid,
    async write(picture: Picture): Promise<void> {
      if (exited || signal.aborted) throw failed();
      written += 1;
      if (child.stdin.write(picture.data)) return;
      await Promise.race([once(child.stdin, 'drain').catch(() => ended), ended]);
      if (exited || signal.aborted) throw failed();
    },
    /**
     * Waits for the rest, checks the file by decoding it, and gives it its name. `onEncoded` hears how many
     * frames are encoded.
     */
    async finish(onEncoded: (frames: number) => void): Promise<GeneratedFile> {
      try {
        notify = onEncoded;
        child.stdin.end();
        if ((await ended) !== 0) throw failed();
        const facts = await probeVideo(tools, partial, signal).catch((error: unknown) => {
          throw signal.aborted ? cancelled() : error;
        });
        requireWhole(facts, { width, height, frames: written, framesPerSecond });
        throwIfCancelled(signal);
        return {
          path: file,
          contentType: 'video/mp4',
          ...(await seal(partial, file)),
          width,
          height,
          seed,
          frames: facts.frames,
          durationSeconds: facts.durationSeconds,
        };
      } catch (error) {
        await abandon();
        throw error;
      } finally {
        signal.removeEventListener('abort', stop);
      }
    },
    /** Ends the encoder, waits until it is gone, and removes what it wrote. */
    abandon,
  };
}

/** @throws EngineFailure when the file is not what was asked for; durations may be off by half a frame */
function requireWhole(
  facts: VideoFacts,
  asked: { width: number; height: number; frames: number; framesPerSecond: number },
): void {
  const seconds = asked.frames / asked.framesPerSecond;
  const right =
    facts.codec === 'h264' &&
    facts.pixelFormat === 'yuv420p' &&
    facts.width === asked.width &&
    facts.height === asked.height &&
    facts.frames === asked.frames &&
    Math.abs(facts.durationSeconds - seconds) <= 0.5 / asked.framesPerSecond;
  if (!right)
    throw new EngineFailure(
      'engine_failed',
      'The encoded video is not what was asked for: ' +
        `${JSON.stringify(facts)} instead of ${JSON.stringify({ ...asked, seconds })}`,
    );
}

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
  const { stdout } = await promisify(execFile)(
    tools.ffprobe,
    [
      // ffprobe decodes on one thread unless told
      ...'-threads 0 -v error -select_streams v:0 -count_frames -of json -show_entries'.split(' '),
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
