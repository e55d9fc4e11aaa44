import fp from 'fastify-plugin';

/** Polled by machines every few seconds: worth a line only to who asks for debug. */
const quiet = new Set(['getHealth', 'getReady', 'getMetrics']);

/**
 * One line per answer, with what was asked for; neither query strings nor headers, which may hold secrets.
 */
export const requestLogPlugin = fp(
  (app, _options, done) => {
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
        },
        'answered',
      );
    });
    done();
  },
  { name: 'request-log', fastify: '5.x' },
);
