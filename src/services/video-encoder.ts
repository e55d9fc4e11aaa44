import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const run = promisify(execFile);

export const videoEncoderCure = 'Install ffmpeg with libx264, name it in FFMPEG, or run npm ci without --omit=optional.';

/** For whoever asks for a video. */
export const noVideoEncoder = `videos cannot be encoded: there is no ffmpeg. ${videoEncoderCure}`;

export interface VideoEncoder {
  /** Looks for it now; null when there is none that makes H.264. */
  find(signal?: AbortSignal): Promise<{ command: string; version: string } | null>;
  /** As of the last look; after one that found nothing another is made in the background, so that an installation counts without a restart. */
  available(): boolean;
}

/** ffmpeg as named by the operator, else the one on the PATH, else the one that is installed with the packages. */
export function createVideoEncoder({ command, repeatMs = 10_000 }: { command?: string | undefined; repeatMs?: number } = {}): VideoEncoder {
  let found = false;
  let lookedAtMs = -Infinity;

  async function find(signal?: AbortSignal): Promise<{ command: string; version: string } | null> {
    lookedAtMs = performance.now();
    for (const each of command === undefined ? ['ffmpeg', ...await packaged()] : [command]) {
      try {
        const ask = async (question: string) => (await run(each, ['-hide_banner', question], { signal, killSignal: 'SIGKILL' })).stdout;
        const [version, encoders] = await Promise.all([ask('-version'), ask('-encoders')]);
        if (!/\blibx264\b/.test(encoders)) continue;
        found = true;
        return { command: each, version: version.split('\n')[0]?.slice(0, 80) ?? each };
      } catch {
        signal?.throwIfAborted();
      }
    }
    found = false;
    return null;
  }

  return {
    find,
    available() {
      if (!found && performance.now() - lookedAtMs > repeatMs) void find().catch(() => {});
      return found;
    },
  };
}

/** The package that ships binaries throws when it is imported on a platform it has none for. */
async function packaged(): Promise<string[]> {
  try {
    return [(await import('@ffmpeg-installer/ffmpeg')).default.path];
  } catch {
    return [];
  }
}
