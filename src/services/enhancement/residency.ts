import type { Logger } from 'pino';
import type { Engines } from '../engines/engines.js';

export interface ResidencyOptions {
  engines: Pick<Engines, 'has' | 'release' | 'status' | 'whenReady'>;
  log: Logger;
  /** The model is unloaded when nobody has asked it for this long; 0 for never. */
  idleMs: number;
}

/**
 * Keeps the model in memory while it is asked, and no longer: its process is ended, which gives all of its
 * memory back.
 */
export function createResidency({ engines, log, idleMs }: ResidencyOptions) {
  let inUse = 0;
  let timer: NodeJS.Timeout | undefined;
  let stopped = false;

  function restTimer(): void {
    clearTimeout(timer);
    if (idleMs === 0 || inUse > 0 || stopped) return;
    timer = setTimeout(
      () => void unload(`nobody asked it for ${Math.round(idleMs / 1000)} s`),
      idleMs,
    ).unref();
  }

  /** Ends the process after its requests. */
  async function unload(why: string): Promise<void> {
    if (['stopped', 'failed', 'backing_off'].includes(engines.status('qwen').state)) return;
    log.info({ engine: 'qwen', why }, 'qwen model unloaded');
    try {
      await engines.release('qwen', { force: false });
    } catch (error) {
      log.warn({ engine: 'qwen', err: error }, 'qwen model not unloaded');
    }
  }

  return {
    /** While `work` runs the model stays. */
    async during<T>(work: () => Promise<T>): Promise<T> {
      inUse += 1;
      clearTimeout(timer);
      try {
        return await work();
      } finally {
        inUse -= 1;
        restTimer();
      }
    },
    /** Starts loading; whoever needs the model a moment later waits less. */
    preload(): void {
      if (stopped || !engines.has('qwen')) return;
      void engines
        .whenReady('qwen', {})
        .then(restTimer, (error: unknown) =>
          log.debug({ engine: 'qwen', err: error }, 'qwen model not preloaded'),
        );
    },
    stop(): void {
      stopped = true;
      clearTimeout(timer);
    },
  };
}
export type Residency = ReturnType<typeof createResidency>;
