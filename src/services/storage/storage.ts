import { realStatus } from '../../lib/supabase.js';

/** Where assets go: a folder served by the service, or Supabase Storage. Both pass the same suite. */
export interface Storage {
  readonly kind: 'folder' | 'supabase';
  /**
   * Stores a file under `bucket/path`, replacing what is there (same path on every attempt). Creates the
   * bucket when missing.
   * Throws `StorageError` with `retryable` and `origin`.
   */
  put(
    bucket: string,
    path: string,
    file: { localPath: string; contentType: string; bytes: number },
    signal: AbortSignal,
  ): Promise<void>;
  /** What the callback's `assets` carries for a file that was stored: path or URL, by setting. */
  addressOf(bucket: string, path: string, signal: AbortSignal): Promise<string>;
  /** Reads an object (reference images in buckets). Throws `StorageError` code `not_found`. */
  read(bucket: string, path: string, maxBytes: number, signal: AbortSignal): Promise<Buffer>;
  /** Names in a folder of a bucket, some thousand at most; none where there is no such folder. */
  list(bucket: string, folder: string, signal: AbortSignal): Promise<string[]>;
  /** Removes what `put` stored; missing objects are fine. */
  remove(bucket: string, paths: string[]): Promise<void>;
  /**
   * Proves that files can be stored here and now, for readiness, validation and whoever waits for a fault to
   * end. What was found is remembered for a while, so it may be asked at any rate.
   */
  ping(signal: AbortSignal): Promise<void>;
  /**
   * Addresses of what was stored at `storedAtMs`, where those of then may have run out; absent where they never do.
   */
  renewed?(
    places: ReadonlyArray<[bucket: string, path: string]>,
    storedAtMs: number,
    signal: AbortSignal,
  ): Promise<string[] | null>;
  /** What is wrong with how the storage is set up, found by asking; absent where nothing can be. */
  inspect?(signal: AbortSignal): Promise<string[]>;
}

/** Whose fault it is: of this worker's settings, of a storage that fails for now, or of what the job asked. */
export type FaultOrigin = 'worker' | 'storage' | 'job';

const usualOrigin: Record<StorageError['code'], FaultOrigin> = {
  forbidden: 'worker',
  unavailable: 'storage',
  not_found: 'job',
  too_large: 'job',
  rejected: 'job',
};

export class StorageError extends Error {
  /** A fault of `worker` is never charged to a job. */
  readonly origin: FaultOrigin;

  constructor(
    message: string,
    readonly code: 'not_found' | 'too_large' | 'forbidden' | 'unavailable' | 'rejected',
    readonly retryable: boolean,
    { origin, ...options }: ErrorOptions & { origin?: FaultOrigin } = {},
  ) {
    super(message, options);
    this.name = 'StorageError';
    this.origin = origin ?? usualOrigin[code];
  }
}

export interface AssetService {
  /** Folder of the buckets. */
  readonly root: string;
  /**
   * A regular file below `root`, as a path from there; null when there is none, or a link leads out of its
   * bucket.
   */
  find(bucket: string, path: string): Promise<{ file: string; contentType: string } | null>;
}

/**
 * Remembers whether files can be stored: for a minute that they can, for a few seconds that they cannot; asks
 * once for all who want to know meanwhile.
 */
export function createProof(prove: () => Promise<void>, { wellMs = 60_000, unwellMs = 5000 } = {}) {
  let latest: { outcome: Promise<void>; untilMs: number } | undefined;
  return {
    ask(): Promise<void> {
      if (latest !== undefined && performance.now() < latest.untilMs) return latest.outcome;
      const asked = { outcome: prove(), untilMs: Infinity };
      latest = asked;
      const keepFor = (ms: number) => () => {
        asked.untilMs = performance.now() + ms;
      };
      asked.outcome.then(keepFor(wellMs), keepFor(unwellMs));
      return asked.outcome;
    },
    /** A file was stored just now: as good a proof. */
    proven(): void {
      latest = { outcome: Promise.resolve(), untilMs: performance.now() + wellMs };
    },
    /** A file could not be stored: what was known may be over. */
    doubt(): void {
      if (latest !== undefined && latest.untilMs !== Infinity) latest = undefined;
    },
  };
}

/**
 * Whether `bucket/path` is a name inside a bucket: nothing that climbs out of it, nothing that two systems
 * read differently.
 */
export function isPlace(bucket: string, path: string): boolean {
  if (!/^[a-z0-9_]{1,64}$/.test(bucket) || path.length > 1000 || /[\\\p{Cc}]/u.test(path)) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}

/** @throws StorageError `rejected` */
export function checkPlace(bucket: string, path: string): void {
  if (!isPlace(bucket, path))
    throw new StorageError(`${bucket}/${path} is not a place in storage`, 'rejected', false);
}

type Verdict = Pick<StorageError, 'code' | 'retryable'> & { origin?: FaultOrigin };

/**
 * 409 is a collision with another upload to the same path (ours replaces what is there): it passes, like a
 * lock (423). A redirect is never followed, for the key goes to one origin only: the address is wrong.
 */
function verdictOn(status: number): Verdict {
  if (status < 400) return { code: 'rejected', retryable: false, origin: 'worker' };
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
  const { code, retryable, origin } = verdictOn(status);
  return new StorageError(`${action}: ${status} ${error.message}`, code, retryable, {
    cause: error,
    ...(origin === undefined ? {} : { origin }),
  });
}

/** Null where the bucket does not exist. */
export function orMissing<T>(asked: Promise<T>): Promise<T | null> {
  return asked.catch((error: unknown) => {
    if (error instanceof StorageError && error.code === 'not_found') return null;
    throw error;
  });
}
