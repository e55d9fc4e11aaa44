import { StorageError } from './types.js';

/** Whether `bucket/path` is a name inside a bucket: nothing that climbs out of it, nothing that two systems read differently. */
export function isPlace(bucket: string, path: string): boolean {
  if (!/^[a-z0-9_]{1,64}$/.test(bucket) || path.length > 1000 || /[\\\p{Cc}]/u.test(path)) return false;
  return path.split('/').every((part) => part !== '' && part !== '.' && part !== '..');
}

/** @throws StorageError `rejected` */
export function checkPlace(bucket: string, path: string): void {
  if (!isPlace(bucket, path)) throw new StorageError(`${bucket}/${path} is not a place in storage`, 'rejected', false);
}
