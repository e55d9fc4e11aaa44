import type { Handlers } from '../contract/routes.js';
import type { EngineStatus, Services } from '../services/types.js';
import type { RouteContext } from './context.js';

/** The open route must not be a way to load the store: one round trip serves everybody for this long. */
const readinessMaxAgeMs = 1000;
const pingTimeoutMs = 3000;

/** Engines whose absence of work means trouble; Qwen may sleep. */
export const generationEngines = ['sdxl', 'wan'] as const;
const upStates: ReadonlySet<EngineStatus['state']> = new Set(['ready', 'busy', 'draining']);
/** Works, or will with its next request. */
const isUp = ({ state, resting }: EngineStatus) => resting || upStates.has(state);
const down: ReadonlySet<EngineStatus['state']> = new Set(['failed', 'backing_off']);

export function healthOf(services: Pick<Services, 'engines'>): 'healthy' | 'degraded' | 'unhealthy' {
  const states = generationEngines.filter((kind) => services.engines.has(kind)).map((kind) => services.engines.status(kind).state);
  if (!states.some((state) => down.has(state))) return 'healthy';
  return states.every((state) => down.has(state)) ? 'unhealthy' : 'degraded';
}

export function healthRoutes({ services }: RouteContext): Handlers {
  const { engines } = services;
  const checkReadiness = createReadinessCheck(services);

  return {
    getHealth: () => ({
      status: healthOf(services),
      qwen_loaded: engines.status('qwen').loaded !== null && upStates.has(engines.status('qwen').state),
      timestamp: Date.now() / 1000,
      worker_ready: generationEngines.some((kind) => isUp(engines.status(kind))),
    }),

    async getReady(_request, reply) {
      const readiness = await checkReadiness();
      reply.code(readiness.ready ? 200 : 503);
      return readiness;
    },
  };
}

/**
 * Ready: queue and storage answer, no engine is still starting, and at least one can draw. An engine that failed while
 * another works is a reason that is told, not one to turn jobs away.
 */
function createReadinessCheck({ engines, store, storage }: Services) {
  let latest: { atMs: number; answer: Promise<{ ready: boolean; reasons: string[] }> } | undefined;

  async function check() {
    const [queue, files] = await Promise.all([answers(() => store.ping()), answers((signal) => storage.ping(signal))]);
    const blocking = [...(queue ? [] : ['the queue does not answer']), ...(files ? [] : ['the storage does not answer'])];
    const told: string[] = [];
    const known = generationEngines.filter((kind) => engines.has(kind)).map((kind) => engines.status(kind));
    for (const status of known) {
      const { kind, state } = status;
      if (isUp(status)) continue;
      (down.has(state) ? told : blocking).push(`the ${kind} engine is ${state.replace('_', ' ')}`);
    }
    if (!known.some(isUp) && blocking.length === 0) blocking.push(known.length === 0 ? 'there is no engine' : 'no engine can draw');
    return { ready: blocking.length === 0, reasons: [...blocking, ...told] };
  }

  return () => {
    if (latest === undefined || Date.now() - latest.atMs > readinessMaxAgeMs) latest = { atMs: Date.now(), answer: check() };
    return latest.answer;
  };
}

async function answers(ping: (signal: AbortSignal) => Promise<void>): Promise<boolean> {
  const signal = AbortSignal.timeout(pingTimeoutMs);
  const late = new Promise<false>((resolve) => signal.addEventListener('abort', () => resolve(false), { once: true }));
  return Promise.race([ping(signal).then(() => true, () => false), late]);
}
