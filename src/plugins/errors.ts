import { randomUUID } from 'node:crypto';
import { STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';
import type { FastifyError, FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { plainPath } from '../contract/document.js';
import type { Contract } from '../contract/routes.js';
import { roomCure } from '../lib/data-folder.js';
import { AppError, enhanceFailureBody, errorBody, errors } from '../lib/errors.js';
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

    let stopping = false;
    app.addHook('preClose', async () => {
      stopping = true;
    });
    app.addHook('onRequest', async (request, reply) => {
      if (stopping) throw errors.unavailable.with({ retryAfterSeconds: 5 }, 'The service is stopping');
      if (request.headers.host === undefined && request.raw.httpVersion !== '1.0')
        throw errors.badRequest('A request needs the header Host');
      // Before its body is read: nobody will, and its headers may be refused for other reasons.
      const [path = ''] = request.url.split('?');
      if (request.is404 || contract.isMistaken(path, request.routeOptions.url))
        refuseUnrouted(request, reply);
    });

    answerBeforeRouting(app);
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
  // Why there is no better prompt has been logged where it was found out.
  if (error.statusCode >= 500 && error.code !== errors.enhancementFailed.code)
    request.log.error({ err: thrown }, error.message);
  if (error.statusCode === 401) reply.header('www-authenticate', 'Bearer realm="ourvidz"');
  if (error.retryAfterSeconds !== undefined)
    reply.header('retry-after', String(Math.ceil(error.retryAfterSeconds)));
  const range = (thrown as { headers?: Record<string, string> }).headers?.['Content-Range'];
  if (error.statusCode === 416 && range !== undefined) reply.header('content-range', range);
  return reply
    .code(error.statusCode)
    .headers({ 'x-request-id': request.id, ...alwaysSent })
    .type('application/json; charset=utf-8')
    .send(
      asksToEnhance(request)
        ? enhanceFailureBody(
            error,
            request.id,
            (request.body as { prompt?: unknown } | null | undefined)?.prompt,
          )
        : errorBody(error, request.id),
    );
}

/** `/enhance` answers in one shape, whatever is wrong with the request. */
function asksToEnhance({ routeOptions, url }: FastifyRequest): boolean {
  const { operationId } = routeOptions.config;
  return operationId === undefined ? isEnhance(url) : operationId === 'enhancePrompt';
}

const isEnhance = (url: string): boolean => plainPath(url.split('?')[0] ?? '') === '/enhance';

/** No browser may take an answer for something else than it says it is. */
export const alwaysSent = { 'x-content-type-options': 'nosniff' };

/** What Node refuses before there is a request, in the same shape as everything else. */
export function answerClientError(error: NodeJS.ErrnoException, socket: Duplex): void {
  // In the middle of an answer nothing can be said.
  const { _httpMessage: answering } = socket as { _httpMessage?: { headersSent?: boolean } | null };
  if (error.code === 'ECONNRESET' || !socket.writable || answering?.headersSent === true)
    return void socket.destroy();
  const reasons: Record<string, () => AppError> = {
    HPE_HEADER_OVERFLOW: errors.headersTooLarge,
    ERR_HTTP_REQUEST_TIMEOUT: errors.requestTimeout,
    HPE_INVALID_METHOD: () => errors.badRequest('The method is none of HTTP'),
  };
  writeRaw(
    socket,
    (reasons[error.code ?? ''] ?? (() => errors.badRequest('The request is not valid HTTP')))(),
  );
}

function writeRaw(socket: Duplex, error: AppError, url = ''): void {
  const requestId = randomUUID();
  const body = JSON.stringify(
    isEnhance(url) ? enhanceFailureBody(error, requestId, undefined) : errorBody(error, requestId),
  );
  const headers = {
    'content-type': 'application/json; charset=utf-8',
    'content-length': Buffer.byteLength(body),
    'x-request-id': requestId,
    ...alwaysSent,
    connection: 'close',
  };
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  socket.end(
    `HTTP/1.1 ${error.statusCode} ${STATUS_CODES[error.statusCode]}\r\n${lines.join('')}\r\n${body}`,
  );
}

/** What Node would answer itself, or not at all, without asking a route. */
function answerBeforeRouting({ server }: FastifyInstance): void {
  server.on('checkExpectation', (request, response) => {
    response.shouldKeepAlive = false;
    writeRaw(request.socket, errors.expectationFailed(), request.url);
  });
  server.on('connect', (_request, socket) => {
    writeRaw(socket, errors.badRequest('This service is no proxy: it does not take CONNECT'));
  });
}

function toAppError(thrown: unknown, bodyLimitBytes: number): AppError {
  if (thrown instanceof AppError) return thrown;
  if (isOutOfSpace(thrown)) return errors.insufficientStorage(roomCure);
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

/** LevelDB passes on what the system says in words alone. */
function isOutOfSpace(thrown: unknown): boolean {
  for (let error = thrown, depth = 0; error instanceof Error && depth < 5; error = error.cause, depth += 1) {
    const { code = '', message } = error as NodeJS.ErrnoException;
    if (code === 'ENOSPC' || code === 'EDQUOT' || /no space left on device/i.test(message)) return true;
  }
  return false;
}
