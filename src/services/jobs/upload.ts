import path from 'node:path';
import type { Logger } from 'pino';
import type { GeneratedFile } from '../../inference/generation.js';
import { retry } from '../../lib/retry.js';
import { StorageError, type Storage } from '../storage/storage.js';
import { assetPath, catalogue, everyPath, posterPath, type JobType } from '../catalogue.js';
import type { GenerateOutcome } from './plan.js';
import type { RunnerContext } from './runner-context.js';
import type { ValidJob } from './payload.js';

/**
 * Uploads a job's files to the paths that are the same on every attempt. A storage that fails for now is
 * tried again for `limits.uploadPatienceMs`: drawing anew costs far more.
 * @returns what the callback lists for them, in order, and the poster of a video
 */
export async function uploadFiles(
  job: Pick<ValidJob, 'id' | 'user_id' | 'type'>,
  outcome: Pick<GenerateOutcome, 'files' | 'poster'>,
  options: {
    context: Pick<RunnerContext, 'storage' | 'limits'>;
    signal: AbortSignal;
    log: Logger;
    onFile: (done: number) => void;
  },
): Promise<{ assets: string[]; assetPaths: string[]; poster?: string }> {
  const { context, signal, log, onFile } = options;
  const { uploadBackoff: backoff, uploadPatienceMs } = context.limits;
  const { bucket } = catalogue[job.type];
  const stored: string[] = [];
  const deadlineMs = performance.now() + uploadPatienceMs;
  for (const [index, { file, path: target }] of storedFilesOf(job, outcome).entries()) {
    const local = { localPath: file.path, contentType: file.contentType, bytes: file.bytes };
    const patiently = <T>(what: string, action: () => Promise<T>) =>
      retry(action, {
        backoff,
        limitMs: deadlineMs - performance.now(),
        signal,
        isRetryable: (error) => !(error instanceof StorageError) || error.retryable,
        onRetry: (err, tries) => log.warn({ err, tries, file: index }, `${what} failed; trying again`),
      });
    await patiently('upload', () => context.storage.put(bucket, target, local, signal));
    // Apart: without an address the file need not be sent again.
    stored.push(await patiently('its address', () => context.storage.addressOf(bucket, target, signal)));
    onFile(index + 1);
  }
  const [poster] = stored.splice(outcome.files.length);
  const assetPaths = storedFilesOf(job, outcome)
    .slice(0, stored.length)
    .map((one) => `${bucket}/${one.path}`);
  return { assets: stored, assetPaths, ...(poster === undefined ? {} : { poster }) };
}

/** What is stored of a job, with where: its assets in order, then the poster. */
export function storedFilesOf(
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
