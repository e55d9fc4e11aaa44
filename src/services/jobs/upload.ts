import path from 'node:path';
import type { Logger } from 'pino';
import type { GeneratedFile } from '../../inference/engine-protocol.js';
import { backoffDelayMs, type BackoffOptions } from '../backoff.js';
import { StorageError, type Storage } from '../storage/types.js';
import { assetPath } from './catalogue.js';
import { wait } from './wait.js';

export interface UploadOptions {
  storage: Storage;
  bucket: string;
  job: { user_id: string; id: string };
  files: GeneratedFile[];
  signal: AbortSignal;
  /** How long a storage that fails for now is tried again before the attempt fails: drawing anew costs far more. */
  patienceMs: number;
  backoff: BackoffOptions;
  log: Logger;
  onFile: (done: number) => void;
}

/** Uploads a job's files to the paths that are the same on every attempt. Returns what the callback lists for them, in order. */
export async function uploadFiles({ storage, bucket, job, files, signal, patienceMs, backoff, log, onFile }: UploadOptions): Promise<string[]> {
  const assets: string[] = [];
  const deadlineMs = Date.now() + patienceMs;
  for (const [index, file] of files.entries()) {
    for (let tries = 1; ; tries += 1) {
      try {
        assets.push(await storage.put(bucket, assetPathOf(job, index, file), { localPath: file.path, contentType: file.contentType, bytes: file.bytes }, signal));
        break;
      } catch (error) {
        signal.throwIfAborted();
        const delayMs = backoffDelayMs(tries, backoff);
        if ((error instanceof StorageError && !error.retryable) || Date.now() + delayMs > deadlineMs) throw error;
        log.warn({ err: error, tries, asset: index }, 'upload failed; trying again');
        await wait(delayMs, signal);
      }
    }
    onFile(index + 1);
  }
  return assets;
}

export function assetPathOf(job: { user_id: string; id: string }, index: number, file: GeneratedFile): string {
  return assetPath(job, index, path.extname(file.path).slice(1));
}
