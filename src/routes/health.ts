import type { components } from '../contract/generated.js';
import type { Handlers } from '../contract/routes.js';
import { iso } from '../lib/units.js';
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
      return { ready, reasons: reasons.map(forStrangers), troubles: listed.map(openTroubleView) };
    },
  };
}

/** For routes that need no key. */
export const openTroubleView = ({ what, cause, cure, ...rest }: ListedTrouble) =>
  troubleView({ ...rest, what: forStrangers(what), cause: forStrangers(cause), cure: forStrangers(cure) });

export function troubleView(trouble: ListedTrouble): components['schemas']['Trouble'] {
  const { code, severity, what, cause, cure, target, sinceMs, nextTryAtMs = null } = trouble;
  return {
    code,
    severity,
    what,
    cause,
    cure,
    since: iso(sinceMs),
    ...(nextTryAtMs === null ? {} : { next_try_at: iso(nextTryAtMs) }),
    ...(target === undefined ? {} : { target }),
  };
}
