import { STATUS_CODES } from 'node:http';

/** One thing wrong with a request: where, which rule, and what to do. */
export interface ErrorDetail {
  /** Path of the field as a client writes it, e.g. `config.num_images`. */
  field: string;
  /** The rule that was broken, e.g. `enum`, `maxLength`, `publicAddress`. */
  rule: string;
  message: string;
}

/** An error with a code of the catalogue; carries what the error handler renders. */
export class AppError extends Error {
  readonly code: string;
  readonly statusCode: number;
  readonly details: ErrorDetail[];
  /** Seconds for `Retry-After`, when trying again makes sense. */
  readonly retryAfterSeconds: number | undefined;

  constructor(code: string, statusCode: number, message: string, options: AppErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = 'AppError';
    this.code = code;
    this.statusCode = statusCode;
    this.details = options.details ?? [];
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

interface AppErrorOptions {
  details?: ErrorDetail[];
  cause?: unknown;
  retryAfterSeconds?: number;
}

function createAppError<Args extends unknown[]>(
  code: string,
  statusCode: number,
  message: (...args: Args) => string,
) {
  const factory = (args: Args, options?: AppErrorOptions) =>
    new AppError(code, statusCode, message(...args), options);
  return Object.assign((...args: Args) => factory(args), {
    code,
    statusCode,
    with: (options: AppErrorOptions, ...args: Args) => factory(args, options),
  });
}

/**
 * The catalogue: every error a client can meet has a code, a status and a message here.
 * Handlers throw `errors.jobNotFound(id)`; the one error handler renders it. Text of errors that are not in
 * the catalogue is never sent.
 */
export const errors = {
  invalidParameters: createAppError(
    'INVALID_PARAMETERS',
    400,
    (summary: string) => `Invalid parameters: ${summary}`,
  ),
  rangeNotSatisfiable: createAppError(
    'RANGE_NOT_SATISFIABLE',
    416,
    () => 'The file does not have the bytes that Range asks for',
  ),
  invalidJson: createAppError(
    'INVALID_JSON',
    400,
    (reason: string) => `The body is not valid JSON: ${reason}`,
  ),
  badRequest: createAppError('BAD_REQUEST', 400, (reason: string) => reason),
  unauthorized: createAppError(
    'UNAUTHORIZED',
    401,
    (reason: string = 'Send the API key as "Authorization: Bearer <key>"') => reason,
  ),
  forbidden: createAppError(
    'FORBIDDEN',
    403,
    (scope: string) => `This key may not do that: it does not have the scope "${scope}"`,
  ),
  requestTimeout: createAppError('REQUEST_TIMEOUT', 408, () => 'The request took too long to arrive'),
  expectationFailed: createAppError(
    'EXPECTATION_FAILED',
    417,
    () => 'The only expectation that is met is 100-continue',
  ),
  headersTooLarge: createAppError(
    'HEADERS_TOO_LARGE',
    431,
    () => 'The headers are larger than this service reads',
  ),
  /** For who acts for one user. */
  foreign: createAppError('FORBIDDEN', 403, (reason: string) => reason),
  notFound: createAppError('NOT_FOUND', 404, (what: string) => `${what} was not found`),
  methodNotAllowed: createAppError(
    'METHOD_NOT_ALLOWED',
    405,
    (method: string, allowed: string) => `This address takes ${allowed}, not ${method}`,
  ),
  conflict: createAppError('CONFLICT', 409, (reason: string) => reason),
  bodyTooLarge: createAppError(
    'BODY_TOO_LARGE',
    413,
    (limitBytes: number) => `The body is larger than ${limitBytes} bytes`,
  ),
  addressTooLong: createAppError('ADDRESS_TOO_LONG', 414, () => 'A part of the path is too long'),
  unsupportedMediaType: createAppError(
    'UNSUPPORTED_MEDIA_TYPE',
    415,
    (type: string = 'application/json') => `Send the body as ${type}`,
  ),
  promptRejected: createAppError('PROMPT_REJECTED', 422, () => "The prompt is on the operator's deny list"),
  tooManyRequests: createAppError('TOO_MANY_REQUESTS', 429, (what: string) => what),
  queueFull: createAppError('QUEUE_FULL', 429, (queue: string) => `${queue} is full; try again later`),
  enhancementFailed: createAppError(
    'ENHANCEMENT_FAILED',
    503,
    (reason: string) => `Enhancement failed: ${reason}`,
  ),
  internal: createAppError(
    'INTERNAL',
    500,
    () => 'The service failed; its log has the details under this request_id',
  ),
  unavailable: createAppError('UNAVAILABLE', 503, (what: string) => what),
  insufficientStorage: createAppError(
    'INSUFFICIENT_STORAGE',
    507,
    (cure: string) => `The disk of this worker is full. ${cure}`,
  ),
  dataFolderUnwritable: createAppError(
    'UNAVAILABLE',
    503,
    (cure: string) => `This worker cannot write its own files. ${cure}`,
  ),
} as const;

/** What an error answer says: the shape `Error` of the contract. */
export function errorBody({ statusCode, code, message, details }: AppError, requestId: string) {
  return {
    statusCode,
    code,
    error: STATUS_CODES[statusCode] ?? 'Error',
    message,
    request_id: requestId,
    ...(details.length > 0 ? { details } : {}),
  };
}

/**
 * The same in the shape `EnhanceFailure`: whatever happens, the caller keeps a prompt to go on with, as far as
 * it could be read.
 */
export function enhanceFailureBody(error: AppError, requestId: string, prompt: unknown) {
  return {
    ...errorBody(error, requestId),
    success: false as const,
    error: error.message,
    enhanced_prompt: typeof prompt === 'string' ? prompt : null,
  };
}

/** One thing that is wrong with the service, and what to do. The texts are for people, `code` is for programs. */
export interface Trouble {
  code: string;
  /**
   * `critical`: no jobs are taken (`/ready` answers 503). `error`: a part does not work (`/health` is degraded).
   * `warning`: works, with less than there could be, or not for long.
   */
  severity: 'critical' | 'error' | 'warning';
  what: string;
  cause: string;
  cure: string;
  /** An engine, a queue, a folder: where there may be several of a kind. */
  target?: string;
  /** When the service itself tries again. */
  nextTryAtMs?: number | null;
}
