/** Where assets go: a folder served by the service, or Supabase Storage. Both pass the same suite. */
export interface Storage {
  readonly kind: 'folder' | 'supabase';
  /**
   * Stores a file under `bucket/path`, replacing what is there (same path on every attempt). Creates the
   * bucket when missing.
   * @returns what the callback's `assets` carries for it (path or URL, by setting)
   * Throws `StorageError` with `retryable`.
   */
  put(
    bucket: string,
    path: string,
    file: { localPath: string; contentType: string; bytes: number },
    signal: AbortSignal,
  ): Promise<string>;
  /** Reads an object (reference images in buckets). Throws `StorageError` code `not_found`. */
  read(bucket: string, path: string, maxBytes: number, signal: AbortSignal): Promise<Buffer>;
  /** Removes what `put` stored; missing objects are fine. */
  remove(bucket: string, paths: string[]): Promise<void>;
  /** Round trip, for readiness and validation. */
  ping(signal: AbortSignal): Promise<void>;
}

export class StorageError extends Error {
  constructor(
    message: string,
    readonly code: 'not_found' | 'too_large' | 'forbidden' | 'unavailable' | 'rejected',
    readonly retryable: boolean,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'StorageError';
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
