import { setMaxListeners } from 'node:events';
import type { FastifyInstance, FastifyReply } from 'fastify';
import type { Registry } from 'prom-client';
import type { OpenApiDocument } from '../contract/document.js';
import { linkSignal } from '../lib/wait.js';
import type { Services } from '../services/index.js';

/** What handlers work with. */
export interface RouteContext {
  services: Services;
  document: OpenApiDocument;
  registry: Registry;
  disconnect: DisconnectSignals;
  facts: ServiceFacts;
}

/** Facts of this process that answers repeat. */
export interface ServiceFacts {
  version: string;
  /** Name of this instance among those that share the queue. */
  workerId: string;
  bodyLimitBytes: number;
  maxWaitingJobs: number;
  /** What a job is sampled with that names nothing. */
  schedulers: Record<'sdxl' | 'wan', string>;
  /** Whether prompt weights are applied here. */
  compel: boolean;
  /** Features the configuration leaves off, each with the reason. */
  featuresOff: Array<{ feature: string; reason: string }>;
}

/**
 * Signals that abort when the client goes away, or when the service begins to stop: slow work is never done
 * for nobody, and an open event stream never holds up a shutdown.
 */
export function createDisconnectSignals(app: FastifyInstance) {
  const closing = new AbortController();
  // One listener for each open stream, however many there are.
  setMaxListeners(0, closing.signal);
  app.addHook('preClose', async () => {
    closing.abort(new Error('the service is stopping'));
    // Fastify closes connections that are idle now; those whose stream ends a moment later would be kept
    // alive by their clients.
    const sweep = setInterval(() => app.server.closeIdleConnections(), 50).unref();
    app.server.once('close', () => clearInterval(sweep));
  });

  return {
    of(reply: FastifyReply): AbortSignal {
      const link = linkSignal(closing.signal);
      const gone = () => {
        link.release();
        link.abort(new Error('the client went away'));
      };
      // It may have gone while something else was waited for: that is not said twice.
      if (reply.raw.destroyed) gone();
      else reply.raw.once('close', gone);
      return link.signal;
    },
  };
}
export type DisconnectSignals = ReturnType<typeof createDisconnectSignals>;
