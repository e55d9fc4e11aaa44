import { createSemaphore, type SharedLock } from '../../lib/semaphore.js';
import { linkSignal } from '../../lib/wait.js';

/** Jobs that let others pass; when there are more, the next one is waited for. */
const maxAside = 64;

export interface PipelineOptions {
  maxInFlight: number;
  /** Held by every attempt of the process. */
  running: SharedLock;
  /** A job that waits this long for somebody else's server lets others pass. */
  patienceMs: number;
}

export function createPipeline({ maxInFlight, running, patienceMs }: PipelineOptions) {
  const inFlight = createSemaphore(maxInFlight);
  const gates = {
    inFlight,
    preparing: createSemaphore(1),
    aside: createSemaphore(maxAside),
    running,
    patienceMs,
  };
  return {
    permits: () => createPermits(gates),
    /** Called when a job has left. */
    onRelease: inFlight.onRelease,
  };
}

interface Gates extends Pick<PipelineOptions, 'running' | 'patienceMs'> {
  inFlight: Semaphore;
  preparing: Semaphore;
  aside: Semaphore;
}
type Semaphore = ReturnType<typeof createSemaphore>;

/** What one job holds on its way through a runner's pipeline. Every function may be called more than once. */
function createPermits({ inFlight, preparing, aside, running, patienceMs }: Gates) {
  let held: Array<() => void> = [];
  let runsAlone = false;

  async function enter(signal: AbortSignal): Promise<void> {
    held = [await inFlight.acquire(signal)];
    held.push(await preparing.acquire(signal));
  }

  /** To be called once it has entered; `alone`: while nothing else runs in this process. */
  async function run(alone: boolean, signal: AbortSignal): Promise<void> {
    runsAlone = alone;
    held.push(await (alone ? running.alone(signal) : running.share(signal)));
  }

  function leave(): void {
    for (const release of held) release();
    held = [];
  }

  /**
   * While the job waits for somebody else's server it holds nobody up: after a while, or as soon as
   * `stepAside` is called, it gives its permits to others, and takes them again when the work has succeeded.
   */
  async function lettingOthersPass<T>(
    signal: AbortSignal,
    work: (stepAside: () => void) => Promise<T>,
  ): Promise<T> {
    const link = linkSignal(signal);
    let stepping: Promise<(() => void) | undefined> | undefined;
    const stepAside = () => {
      stepping ??= aside.acquire(link.signal).then(
        (release) => {
          leave();
          return release;
        },
        () => undefined,
      );
    };
    const timer = setTimeout(stepAside, patienceMs);
    const ended = () => {
      clearTimeout(timer);
      link.abort();
      link.release();
      return stepping;
    };
    try {
      const result = await work(stepAside);
      if ((await ended()) !== undefined) {
        await enter(signal);
        await run(runsAlone, signal);
      }
      return result;
    } finally {
      (await ended())?.();
    }
  }

  return {
    enter,
    run,
    leave,
    lettingOthersPass,
    /** The next job may be prepared. */
    prepared: () => held[1]?.(),
  };
}
export type Permits = ReturnType<typeof createPermits>;
