/** Permits handed out in the order they were asked for. */
export function createSemaphore(permits: number) {
  let free = permits;
  const waiting: Array<() => void> = [];
  const listeners = new Set<() => void>();

  function release(): void {
    const next = waiting.shift();
    if (next) next();
    else free += 1;
    for (const listener of listeners) listener();
  }

  /**
   * Resolves with the function that gives the permit back (once; more calls do nothing). Rejects with the
   * signal's reason on abort.
   */
  async function acquire(signal: AbortSignal): Promise<() => void> {
    signal.throwIfAborted();
    if (free > 0) free -= 1;
    else {
      await new Promise<void>((resolve, reject) => {
        const onAbort = () => {
          waiting.splice(waiting.indexOf(grant), 1);
          reject(signal.reason as Error);
        };
        const grant = () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        };
        waiting.push(grant);
        signal.addEventListener('abort', onAbort, { once: true });
      });
    }
    let held = true;
    return () => {
      if (held) {
        held = false;
        release();
      }
    };
  }

  return {
    acquire,
    free: () => free,
    waiting: () => waiting.length,
    /** Called after every release. Returns the unsubscribe function. */
    onRelease(listener: () => void): () => void {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

/** Runs tasks one after the other in the order of the calls. A task that fails does not stop the next. */
export function createMutex() {
  let last: Promise<unknown> = Promise.resolve();
  return {
    run<T>(task: () => Promise<T>): Promise<T> {
      const result = last.then(task, task);
      last = result.catch(() => undefined);
      return result;
    },
    /** Resolves when every task called so far has ended. */
    idle: () => last.then(() => undefined),
  };
}
