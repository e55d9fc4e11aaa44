import type { components } from '../contract/generated.js';
import type { Handlers } from '../contract/routes.js';
import { generationEngines, isUp } from '../services/engines/engine-status.js';
import { forStrangers, type ListedTrouble } from '../services/operations/troubles.js';
import type { RouteContext } from './context.js';

export function healthRoutes({ services }: RouteContext): Handlers {
  const { engines, fitness, troubles } = services;

  return {
    getHealth: () => ({
      status: troubles.health(),
      qwen_loaded: engines.status('qwen').loaded !== null && isUp(engines.status('qwen')),
      timestamp: Date.now() / 1000,
      worker_ready:
        fitness.reasons().length === 0 && generationEngines.some((kind) => isUp(engines.status(kind))),
    }),

    async getReady(_request, reply) {
      const { ready, reasons, troubles: listed } = await troubles.readiness();
      reply.code(ready ? 200 : 503);
      const open = ({ what, cause, cure, ...rest }: ListedTrouble) => ({
        ...rest,
        what: forStrangers(what),
        cause: forStrangers(cause),
        cure: forStrangers(cure),
      });
      return { ready, reasons: reasons.map(forStrangers), troubles: listed.map(open).map(troubleView) };
    },
  };
}

export function troubleView(trouble: ListedTrouble): components['schemas']['Trouble'] {
  const { code, severity, what, cause, cure, target, sinceMs, nextTryAtMs = null } = trouble;
  return {
    code,
    severity,
    what,
    cause,
    cure,
    since: new Date(sinceMs).toISOString(),
    ...(nextTryAtMs === null ? {} : { next_try_at: new Date(nextTryAtMs).toISOString() }),
    ...(target === undefined ? {} : { target }),
  };
}
