import { findVideoTools, videoToolsCure, type VideoTools } from '../../lib/video-tools.js';

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
