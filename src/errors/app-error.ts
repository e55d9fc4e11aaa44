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

export interface AppErrorOptions {
  details?: ErrorDetail[];
  cause?: unknown;
  retryAfterSeconds?: number;
}

export function createAppError<Args extends unknown[]>(code: string, statusCode: number, message: (...args: Args) => string) {
  const factory = (args: Args, options?: AppErrorOptions) => new AppError(code, statusCode, message(...args), options);
  return Object.assign((...args: Args) => factory(args), { code, statusCode, with: (options: AppErrorOptions, ...args: Args) => factory(args, options) });
}
