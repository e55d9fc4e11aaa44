import fp from 'fastify-plugin';
import { collectDefaultMetrics, Histogram, type Registry } from 'prom-client';
import { alwaysSent } from './errors.js';

const secondsBuckets = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];

/**
 * Times every answer by operation, and adds the process's own measurements; one registry per app, so that
 * tests do not share.
 */
export const metricsPlugin = fp<{ registry: Registry }>(
  (app, { registry }, done) => {
    collectDefaultMetrics({ register: registry, prefix: 'ourvidz_' });
    const seconds = new Histogram({
      name: 'ourvidz_http_request_seconds',
      help: 'Time from request to end of the answer; streams count until they close',
      labelNames: ['method', 'operation', 'status'],
      buckets: secondsBuckets,
      registers: [registry],
    });
    app.addHook('onResponse', async (request, reply) => {
      // Never the path itself: any client could make a new time series with each request.
      const operation = request.routeOptions.config.operationId ?? 'other';
      seconds.observe(
        { method: request.method, operation, status: String(reply.statusCode) },
        reply.elapsedTime / 1000,
      );
    });
    done();
  },
  { name: 'metrics', fastify: '5.x' },
);

/** Polled by machines every few seconds: worth a line only to who asks for debug. */
const quiet = new Set(['getHealth', 'getReady', 'getMetrics']);

/**
 * Every answer names its request, and is a line in the log, with what was asked for; neither query strings
 * nor headers, which may hold secrets.
 */
export const requestLogPlugin = fp(
  (app, _options, done) => {
    app.addHook('onRequest', async (request, reply) => {
      reply.headers({ 'x-request-id': request.id, ...alwaysSent });
    });
    app.addHook('onResponse', async (request, reply) => {
      const { operationId } = request.routeOptions.config;
      request.log[operationId !== undefined && quiet.has(operationId) ? 'debug' : 'info'](
        {
          method: request.method,
          path: request.url.split('?')[0]?.slice(0, 300),
          operation: operationId,
          status: reply.statusCode,
          elapsed_ms: Math.round(reply.elapsedTime * 10) / 10,
          client: request.ip,
          ...(request.caller ? { caller: request.caller.name } : {}),
        },
        'answered',
      );
    });
    done();
  },
  { name: 'request-log', fastify: '5.x' },
);

/** Beside what needs the scope `operate`. */
const audited = new Set(['cancelJob', 'cancelJobs', 'deleteJobAssets']);

/**
 * One line for everything an operator changes, done or refused: who, what, at which of them. Its `request_id`
 * is the answer's.
 */
export const auditPlugin = fp(
  (scope, _options, done) => {
    scope.addHook('onResponse', async (request, reply) => {
      const { operationId, scope: asked } = request.routeOptions.config;
      const changes =
        !['GET', 'HEAD'].includes(request.method) &&
        (asked === 'operate' || (operationId !== undefined && audited.has(operationId)));
      if (!changes || !request.caller) return;
      const { id, worker_id: workerId, queue } = request.params as Record<string, string | undefined>;
      const { id: named, ...selection } = (request.body ?? {}) as Record<string, unknown>;
      const target = workerId ?? queue ?? id ?? (typeof named === 'string' ? named : undefined);
      request.log.info(
        {
          event: 'audit',
          caller: request.caller.name,
          operation: operationId,
          ...(target === undefined ? {} : { target: target.slice(0, 300) }),
          ...(Object.keys(selection).length === 0 ? {} : { asked: JSON.stringify(selection).slice(0, 500) }),
          status: reply.statusCode,
          client: request.ip,
        },
        'operator action',
      );
    });
    done();
  },
  { name: 'audit', fastify: '5.x' },
);
