import { STATUS_CODES } from 'node:http';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import type { Contract } from '../contract/routes.js';
import { AppError, errors } from '../lib/errors.js';
import { EngineError } from '../services/engines/engine-error.js';
import { QueueUnavailable } from '../services/queue/index.js';
import { StorageError } from '../services/storage/storage.js';

/**
 * The one place that turns errors into answers: catalogue errors as they are, everything else hidden behind
 * `INTERNAL`.
 */
export const errorsPlugin = fp<{ contract: Contract }>(
  (app, { contract }, done) => {
    function refuseUnrouted({ url, method }: FastifyRequest, reply: FastifyReply): never {
      const [path = ''] = url.split('?');
      const allowed = contract.methodsFor(path);
      if (allowed.length === 0) throw errors.notFound(path.slice(0, 200));
      reply.header('allow', allowed.join(', '));
      throw errors.methodNotAllowed(method, allowed.join(' or '));
    }

    app.addHook('onRequest', async (request, reply) => {
      // Before its body is read: nobody will, and its headers may be refused for other reasons.
      if (request.is404) refuseUnrouted(request, reply);
    });

    app.setErrorHandler((error, request, reply) => renderError(error, request, reply, app));
    app.setNotFoundHandler(refuseUnrouted);
    done();
  },
  { name: 'errors', fastify: '5.x' },
);

/** Also for what Fastify refuses before a route is found (a path that cannot be decoded). */
export function renderError(
  thrown: unknown,
  request: FastifyRequest,
  reply: FastifyReply,
  app: Pick<FastifyInstance, 'initialConfig'>,
): FastifyReply {
  const error = toAppError(thrown, app.initialConfig.bodyLimit ?? 0);
  if (error.statusCode >= 500) request.log.error({ err: thrown }, error.message);
  if (error.statusCode === 401) reply.header('www-authenticate', 'Bearer realm="ourvidz"');
  if (error.retryAfterSeconds !== undefined)
    reply.header('retry-after', String(Math.ceil(error.retryAfterSeconds)));
  const range = (thrown as { headers?: Record<string, string> }).headers?.['Content-Range'];
  if (error.statusCode === 416 && range !== undefined) reply.header('content-range', range);
  return reply
    .code(error.statusCode)
    .header('x-request-id', request.id)
    .type('application/json; charset=utf-8')
    .send({
      statusCode: error.statusCode,
      code: error.code,
      error: STATUS_CODES[error.statusCode] ?? 'Error',
      message: error.message,
      request_id: request.id,
      ...(error.details.length > 0 ? { details: error.details } : {}),
    });
}

function toAppError(thrown: unknown, bodyLimitBytes: number): AppError {
  if (thrown instanceof AppError) return thrown;
  if (thrown instanceof StorageError && thrown.origin !== 'job')
    return errors.unavailable.with({ retryAfterSeconds: 5 }, 'The storage does not answer');
  if (thrown instanceof QueueUnavailable)
    return errors.unavailable.with({ retryAfterSeconds: 5 }, thrown.sentence);
  if (thrown instanceof EngineError && thrown.code === 'invalid_parameters') {
    const details =
      thrown.field === undefined ? [] : [{ field: thrown.field, rule: 'engine', message: thrown.message }];
    return errors.invalidParameters.with({ details }, thrown.message);
  }
  if (thrown instanceof EngineError)
    return errors.unavailable.with({ retryAfterSeconds: 5 }, 'The engine could not answer; try again');
  const { code = '', statusCode = 500, message } = thrown as Partial<FastifyError> & { message: string };
  switch (code) {
    case 'FST_ERR_CTP_BODY_TOO_LARGE':
      return errors.bodyTooLarge(bodyLimitBytes);
    case 'FST_ERR_CTP_INVALID_MEDIA_TYPE':
      return errors.unsupportedMediaType();
    case 'FST_ERR_CTP_INVALID_CONTENT_LENGTH':
      return errors.badRequest('The body does not have the length its header states');
    case 'FST_ERR_MAX_PARAM_LENGTH':
      return errors.addressTooLong();
    case 'FST_ERR_BAD_URL':
      return errors.badRequest('The path cannot be decoded');
  }
  if (statusCode === 416) return errors.rangeNotSatisfiable();
  if (statusCode === 404) return errors.notFound('What was asked for');
  if (statusCode >= 400 && statusCode < 500) return new AppError('BAD_REQUEST', statusCode, message);
  return errors.internal();
}
