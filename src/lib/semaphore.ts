/** Permits handed out in the order they were asked for. */
export function createSemaphore(permits: number) {
  let free = permits;
  const waiting: Array<{ wanted: number; grant: () => void }> = [];
  const listeners = new Set<() => void>();

  /** The first one that waits is not overtaken, however little the next one wants. */
  function grantNext(): void {
    for (let next = waiting[0]; next !== undefined && next.wanted <= free; next = waiting[0]) {
      waiting.shift();
      free -= next.wanted;
      next.grant();
    }
  }

  /**
   * Resolves with the function that gives the permits back (once; more calls do nothing). Rejects with the
   * signal's reason on abort.
   */
  async function acquire(signal: AbortSignal, wanted = 1): Promise<() => void> {
    signal.throwIfAborted();
    await new Promise<void>((resolve, reject) => {
      const request = {
        wanted,
        grant: () => {
          signal.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      const onAbort = () => {
        waiting.splice(waiting.indexOf(request), 1);
        reject(signal.reason as Error);
        grantNext();
      };
      waiting.push(request);
      signal.addEventListener('abort', onAbort, { once: true });
      grantNext();
    });
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      free += wanted;
      grantNext();
      for (const listener of listeners) listener();
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

/** Held by any number at a time, or by one alone; new ones wait behind one that waits to be alone. */
export function createSharedLock() {
  const permits = 10_000;
  const semaphore = createSemaphore(permits);
  return {
    share: (signal: AbortSignal) => semaphore.acquire(signal),
    alone: (signal: AbortSignal) => semaphore.acquire(signal, permits),
  };
}
export type SharedLock = ReturnType<typeof createSharedLock>;

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
