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
