import { EventEmitter, once } from 'node:events';

/** Resolves after `ms`; on abort rejects with the signal's reason. */
export function wait(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const onAbort = () => {
      clearTimeout(timer);
      reject(signal.reason as Error);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener('abort', onAbort);
      resolve();
    }, ms);
    signal.addEventListener('abort', onAbort, { once: true });
  });
}

/**
 * The promise's outcome, or the signal's reason as soon as it aborts; the promise itself goes on unobserved.
 */
export function orAborted<T>(promise: Promise<T>, signal: AbortSignal): Promise<T> {
  promise.catch(() => {});
  return new Promise((resolve, reject) => {
    if (signal.aborted) return reject(signal.reason as Error);
    const onAbort = () => reject(signal.reason as Error);
    signal.addEventListener('abort', onAbort, { once: true });
    promise.then(resolve, reject).finally(() => signal.removeEventListener('abort', onAbort));
  });
}

/**
 * A signal for one use that also aborts with one that lives longer, until `release`. Unlike
 * `AbortSignal.any`, which leaves something of every use on the longer-lived signal, nothing stays there.
 */
export function linkSignal(outer: AbortSignal): {
  signal: AbortSignal;
  abort: (reason?: unknown) => void;
  release: () => void;
} {
  const controller = new AbortController();
  const onAbort = () => controller.abort(outer.reason);
  if (outer.aborted) onAbort();
  else outer.addEventListener('abort', onAbort, { once: true });
  return {
    signal: controller.signal,
    abort: (reason) => controller.abort(reason),
    release: () => outer.removeEventListener('abort', onAbort),
  };
}

/** True when the promise settles within `ms`; it goes on unobserved otherwise. */
export async function within(ms: number, promise: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<false>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  const settled = promise.then(
    () => true,
    () => true,
  );
  return Promise.race([settled, late]).finally(() => clearTimeout(timer));
}

/** For something whose changes others wait for. */
export function createChanges() {
  const emitter = new EventEmitter().setMaxListeners(0);
  return {
    emit: () => void emitter.emit('change'),
    /** Looks at the condition with every change; rejects with the signal's reason on abort. */
    async until(condition: () => boolean, signal: AbortSignal | undefined): Promise<void> {
      while (!condition()) {
        signal?.throwIfAborted();
        await once(emitter, 'change', { signal }).catch(() => signal?.throwIfAborted());
      }
    },
    /** Returns the unsubscribe function. */
    subscribe(listener: () => void): () => void {
      emitter.on('change', listener);
      return () => emitter.off('change', listener);
    },
  };
}

/** Hands out one answer for `maxAgeMs` from the moment it was asked for; a failure to those who wait for it alone. */
export function sharedFor<T>(maxAgeMs: number, ask: () => Promise<T>): () => Promise<T> {
  let latest: { atMs: number; answer: Promise<T> } | undefined;
  return () => {
    if (latest === undefined || performance.now() - latest.atMs > maxAgeMs) {
      const asked = { atMs: performance.now(), answer: ask() };
      latest = asked;
      asked.answer.catch(() => {
        if (latest === asked) latest = undefined;
      });
    }
    return latest.answer;
  };
}

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
