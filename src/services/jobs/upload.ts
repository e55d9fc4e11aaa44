import path from 'node:path';
import type { Logger } from 'pino';
import type { GeneratedFile } from '../../inference/engine-protocol.js';
import { backoffDelayMs, type BackoffOptions } from '../../lib/retry.js';
import { StorageError, type Storage } from '../storage/storage.js';
import { assetPath, catalogue, everyPath, posterPath, type JobType } from '../catalogue.js';
import type { GenerateOutcome } from './plan.js';
import { wait } from '../../lib/wait.js';

export interface UploadOptions {
  storage: Storage;
  bucket: string;
  job: { user_id: string; id: string };
  outcome: Pick<GenerateOutcome, 'files' | 'poster'>;
  signal: AbortSignal;
  /**
   * How long a storage that fails for now is tried again before the attempt fails: drawing anew costs far
   * more.
   */
  patienceMs: number;
  backoff: BackoffOptions;
  log: Logger;
  onFile: (done: number) => void;
}

/**
 * Uploads a job's files to the paths that are the same on every attempt. Returns what the callback lists for
 * them, in order, and names the poster of a video.
 */
export async function uploadFiles({
  storage,
  bucket,
  job,
  outcome,
  signal,
  patienceMs,
  backoff,
  log,
  onFile,
}: UploadOptions): Promise<{ assets: string[]; poster?: string }> {
  const stored: string[] = [];
  const deadlineMs = Date.now() + patienceMs;
  for (const [index, { file, path: target }] of placesOf(job, outcome).entries()) {
    for (let tries = 1; ; tries += 1) {
      try {
        stored.push(
          await storage.put(
            bucket,
            target,
            { localPath: file.path, contentType: file.contentType, bytes: file.bytes },
            signal,
          ),
        );
        break;
      } catch (error) {
        signal.throwIfAborted();
        const delayMs = backoffDelayMs(tries, backoff);
        if ((error instanceof StorageError && !error.retryable) || Date.now() + delayMs > deadlineMs)
          throw error;
        log.warn({ err: error, tries, file: index }, 'upload failed; trying again');
        await wait(delayMs, signal);
      }
    }
    onFile(index + 1);
  }
  const [poster] = stored.splice(outcome.files.length);
  return { assets: stored, ...(poster === undefined ? {} : { poster }) };
}

/** What is stored of a job, with where: its assets in order, then the poster. */
export function placesOf(
  job: { user_id: string; id: string },
  { files, poster }: Pick<GenerateOutcome, 'files' | 'poster'>,
): Array<{ file: GeneratedFile; path: string }> {
  const extensionOf = (file: GeneratedFile) => path.extname(file.path).slice(1);
  return [
    ...files.map((file, index) => ({ file, path: assetPath(job, index, extensionOf(file)) })),
    ...(poster === undefined ? [] : [{ file: poster, path: posterPath(job, extensionOf(poster)) }]),
  ];
}

/**
 * Removes what any attempt at a cancelled job may have stored, here or elsewhere. After its terminal write
 * only: before it, another runner might just have stored the same paths. Never throws.
 */
export async function removeStored(
  { id, type, userId }: { id: string; type: JobType; userId: string },
  { storage, log }: { storage: Pick<Storage, 'remove'>; log: Logger },
): Promise<void> {
  try {
    await storage.remove(catalogue[type].bucket, everyPath({ id, user_id: userId }, type));
  } catch (error) {
    log.warn({ err: error, job_id: id }, 'assets of a cancelled job were not removed');
  }
}
