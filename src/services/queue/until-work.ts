import type { EventEmitter } from 'node:events';

/**
 * Resolves with the emitter's next `work`, after `ms`, or on abort. `watch` starts what else may end the wait
 * and returns what stops that.
 */
export function untilWork(
  emitter: EventEmitter,
  ms: number,
  signal: AbortSignal,
  watch: (end: () => void) => Array<() => void> = () => [],
): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    let stops: Array<() => void> = [];
    const timer = setTimeout(end, ms);
    function end() {
      clearTimeout(timer);
      emitter.off('work', end);
      signal.removeEventListener('abort', end);
      for (const stop of stops) stop();
      resolve();
    }
    emitter.on('work', end);
    signal.addEventListener('abort', end);
    stops = watch(end);
  });
}
