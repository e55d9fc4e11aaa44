import fp from 'fastify-plugin';
import { collectDefaultMetrics, Histogram, type Registry } from 'prom-client';

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
