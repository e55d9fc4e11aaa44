import type { Handlers } from '../contract/routes.js';
import {
  generationEngines,
  hasComputed,
  healthOf,
  isAble,
  isUp,
  troubleOf,
  describeState,
} from '../services/engines/engine-status.js';
import { orAborted, sharedFor } from '../lib/wait.js';
import type { Services } from '../services/index.js';
import { QueueUnavailable } from '../services/queue/index.js';
import { StorageError } from '../services/storage/storage.js';
import type { RouteContext } from './context.js';

/** The open route must not be a way to load the store: one round trip serves everybody for this long. */
const readinessMaxAgeMs = 1000;
const pingTimeoutMs = 3000;

export function healthRoutes({ services }: RouteContext): Handlers {
  const { engines, fitness } = services;
  const checkReadiness = createReadinessCheck(services);

  return {
    getHealth: () => ({
      status: healthOf(engines, fitness.reasons()),
      qwen_loaded: engines.status('qwen').loaded !== null && isUp(engines.status('qwen')),
      timestamp: Date.now() / 1000,
      worker_ready:
        fitness.reasons().length === 0 && generationEngines.some((kind) => isUp(engines.status(kind))),
    }),

    async getReady(_request, reply) {
      const readiness = await checkReadiness();
      reply.code(readiness.ready ? 200 : 503);
      return readiness;
    },
  };
}

/**
 * Ready: queue and storage take writes, nobody refuses this worker as such, every engine has had its first
 * start, and at least one can draw, as its last run showed. An engine in trouble, replaced or loading again
 * while another works is told, and no reason to turn jobs away.
 */
function createReadinessCheck({ engines, fitness, store, storage, unfit }: Services) {
  async function check() {
    const [queue, files] = await Promise.all([
      whyNot('the queue does not answer', () => store.ping()),
      whyNot('the storage does not answer', (signal) => storage.ping(signal)),
    ]);
    // What keeps this worker from taking jobs may be what its storage has just said.
    const blocking = [...new Set([unfit, queue, files, ...fitness.reasons()])].filter(
      (reason) => reason !== null,
    );
    const told: string[] = [];
    const known = generationEngines.filter((kind) => engines.has(kind)).map((kind) => engines.status(kind));
    for (const status of known) {
      const trouble = troubleOf(status);
      if (trouble !== null) told.push(trouble);
      else if (!isUp(status)) (hasComputed(status) ? told : blocking).push(`the ${describeState(status)}`);
    }
    const withoutQwen = engines.has('qwen') ? troubleOf(engines.status('qwen')) : null;
    if (withoutQwen !== null) told.push(withoutQwen);
    if (!known.some(isAble) && blocking.length === 0)
      blocking.push(known.length === 0 ? 'there is no engine' : 'no engine can draw');
    return { ready: blocking.length === 0, reasons: [...blocking, ...told] };
  }

  return sharedFor(readinessMaxAgeMs, check);
}

/** Null when it answers. A fault of this worker's own is said as it is: nobody else can end it. */
function whyNot(reason: string, ping: (signal: AbortSignal) => Promise<void>): Promise<string | null> {
  const signal = AbortSignal.timeout(pingTimeoutMs);
  return orAborted(ping(signal), signal).then(
    () => null,
    (error: unknown) => {
      if (error instanceof QueueUnavailable)
        return error.sentence.replace(/^./, (first) => first.toLowerCase());
      return error instanceof StorageError && error.origin === 'worker' ? error.message : reason;
    },
  );
}
