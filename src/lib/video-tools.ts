import { execFile } from 'node:child_process';
import path from 'node:path';
import { promisify } from 'node:util';

const run = promisify(execFile);

/** Programs that make and check videos. */
export interface VideoTools {
  ffmpeg: string;
  ffprobe: string;
  /** First line of what `ffmpeg -version` says. */
  version: string;
}

export const videoToolsCure =
  'Install ffmpeg with libx264 (on Debian: apt-get install ffmpeg), name it in FFMPEG, ' +
  'or run npm ci without --omit=optional.';

/**
 * The system's ffmpeg and ffprobe, else those of the npm packages; only an ffmpeg with libx264 counts. Null:
 * no videos here.
 * @param chosen this ffmpeg and no other, with the ffprobe beside it if there is one
 */
export async function findVideoTools(chosen?: string, signal?: AbortSignal): Promise<VideoTools | null> {
  const ffmpegs =
    chosen === undefined
      ? ['ffmpeg', ...(await packaged(() => import('@ffmpeg-installer/ffmpeg')))]
      : [chosen];
  const ffprobes = [
    ...(chosen === undefined ? [] : [path.join(path.dirname(chosen), 'ffprobe')]),
    'ffprobe',
    ...(await packaged(() => import('@ffprobe-installer/ffprobe'))),
  ];
  const ask = async (command: string, question: string) =>
    (await run(command, ['-hide_banner', question], { signal, killSignal: 'SIGKILL' })).stdout;
  const ffmpeg = await firstThat(ffmpegs, signal, async (command) =>
    /\blibx264\b/.test(await ask(command, '-encoders')),
  );
  const ffprobe = await firstThat(
    ffprobes,
    signal,
    async (command) => (await ask(command, '-version')) !== '',
  );
  return ffmpeg === null || ffprobe === null
    ? null
    : { ffmpeg, ffprobe, version: (await ask(ffmpeg, '-version')).split('\n')[0]?.slice(0, 80) ?? ffmpeg };
}

/** The packages that ship binaries throw when they are imported on a platform they have none for. */
async function packaged(load: () => Promise<{ default: { path: string } }>): Promise<string[]> {
  try {
    return [(await load()).default.path];
  } catch {
    return [];
  }
}

async function firstThat(
  candidates: readonly string[],
  signal: AbortSignal | undefined,
  works: (command: string) => Promise<boolean>,
): Promise<string | null> {
  for (const command of candidates) {
    try {
      if (await works(command)) return command;
    } catch {
      // not there, or not runnable: the next one
      signal?.throwIfAborted();
    }
  }
  return null;
}

/** For whoever asks for a video. */
export const noVideoEncoder = `videos cannot be encoded: there is no ffmpeg. ${videoToolsCure}`;

export interface VideoEncoder {
  /** Looks for it now; null when there is none that makes H.264. */
  find(signal?: AbortSignal): Promise<VideoTools | null>;
  /**
   * As of the last look; after one that found nothing another is made in the background, so that an
   * installation counts without a restart.
   */
  available(): boolean;
}

/**
 * ffmpeg as named by the operator, else the one on the PATH, else the one that is installed with the
 * packages.
 */
export function createVideoEncoder({
  command,
  repeatMs = 10_000,
}: { command?: string | undefined; repeatMs?: number } = {}): VideoEncoder {
  let found = false;
  let lookedAtMs = -Infinity;

  async function find(signal?: AbortSignal): Promise<VideoTools | null> {
    lookedAtMs = performance.now();
    const tools = await findVideoTools(command, signal);
    found = tools !== null;
    return tools;
  }

  return {
    find,
    available() {
      if (!found && performance.now() - lookedAtMs > repeatMs) void find().catch(() => {});
      return found;
    },
  };
}
