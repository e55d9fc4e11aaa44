import { StorageError } from './storage.js';

type Verdict = Pick<StorageError, 'code' | 'retryable'>;

/** The names newer servers send instead of a number; others fall back to the HTTP status. */
const namedCodes: Readonly<Record<string, number>> = {
  NoSuchBucket: 404,
  NoSuchKey: 404,
  NoSuchUpload: 404,
  EntityTooLarge: 413,
  InvalidMimeType: 415,
  AccessDenied: 403,
  InvalidJWT: 403,
  SignatureDoesNotMatch: 403,
  ResourceAlreadyExists: 409,
  KeyAlreadyExists: 409,
  BucketAlreadyExists: 409,
  ResourceLocked: 423,
  LockTimeout: 503,
  SlowDown: 429,
  DatabaseTimeout: 544,
  DatabaseConnectionLimit: 503,
  DatabaseReadOnly: 503,
  InternalError: 500,
  DatabaseError: 500,
  S3Error: 500,
  Aborted: 500,
  AbortedTerminate: 500,
};

/**
 * The status an error stands for. The Storage API answers HTTP 400 to nearly everything and puts the real
 * status into the body, where it is a number or, in newer servers, a name.
 */
export function realStatus(httpStatus: number, bodyCode: string | undefined): number {
  if (bodyCode === undefined) return httpStatus;
  const number = Number(bodyCode);
  if (Number.isInteger(number) && number >= 400 && number < 600) return number;
  return namedCodes[bodyCode] ?? httpStatus;
}

/**
 * 409 is a collision with another upload to the same path (ours replaces what is there): it passes, like a
 * lock (423).
 */
function verdictOn(status: number): Verdict {
  if (status === 404) return { code: 'not_found', retryable: false };
  if (status === 413) return { code: 'too_large', retryable: false };
  if (status === 401 || status === 403) return { code: 'forbidden', retryable: false };
  if (status >= 500 || [408, 409, 423, 425, 429].includes(status))
    return { code: 'unavailable', retryable: true };
  return { code: 'rejected', retryable: false };
}

/**
 * Errors of storage-js: `status` is HTTP's and `statusCode` the body's; without either nothing was answered.
 */
export function storageErrorFrom(
  action: string,
  error: { message: string; status?: unknown; statusCode?: unknown },
): StorageError {
  const httpStatus = Number(error.status ?? 0);
  if (!Number.isInteger(httpStatus) || httpStatus === 0)
    return new StorageError(`${action}: ${error.message}`, 'unavailable', true, { cause: error });
  const status = realStatus(httpStatus, typeof error.statusCode === 'string' ? error.statusCode : undefined);
  const { code, retryable } = verdictOn(status);
  return new StorageError(`${action}: ${status} ${error.message}`, code, retryable, { cause: error });
}
