import { createHash, randomBytes } from 'node:crypto';
import { mkdir, readdir, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import type { Logger } from 'pino';
import { type GeneratedFile, pictureExtensions } from '../../inference/generation.js';
import { errors } from '../../lib/errors.js';
import { isAlive } from '../../lib/processes.js';
import { retry } from '../../lib/retry.js';
import { createSemaphore } from '../../lib/semaphore.js';
import { runPictureProcess } from '../references/picture-process.js';
import { type AssetService, isPlace, type Storage, StorageError } from '../storage/storage.js';
import { assetPath, catalogue, everyPath, isJobType, posterPath, type JobType } from '../catalogue.js';
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

const staleMs = 24 * 3600_000;
/** Names in use by this process; a process may carry several services. */
const inUse = new Set<string>();

/**
 * Folders jobs work in: `{root}/{host}~{pid}~{random}/{job id}-{attempt}`. They hold nothing that is needed
 * later: what matters is uploaded, so they go with their attempt, and whatever a killed process left goes at
 * the next start.
 */
export function createWorkFolders(root: string) {
  const name = `${hostname()}~${process.pid}~${randomBytes(4).toString('hex')}`;
  const own = path.join(root, name);
  inUse.add(name);

  return {
    /**
     * Removes what earlier processes left: dead processes of this host, and folders of other hosts older than
     * a day.
     */
    async clean(): Promise<void> {
      await mkdir(root, { recursive: true });
      for (const found of await readdir(root)) {
        if (await isLeftOver(root, found)) await rm(path.join(root, found), { recursive: true, force: true });
      }
      await mkdir(own, { recursive: true });
    },
    async create(jobId: string, attempt: number): Promise<string> {
      const folder = path.join(own, `${jobId.replace(/[^\w-]/g, '_')}-${attempt}`);
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      return folder;
    },
    remove: (folder: string): Promise<void> => rm(folder, { recursive: true, force: true, maxRetries: 3 }),
    /** At the end of the process. */
    async removeAll(): Promise<void> {
      await rm(own, { recursive: true, force: true });
      inUse.delete(name);
    },
  };
}
export type WorkFolders = ReturnType<typeof createWorkFolders>;

async function isLeftOver(root: string, name: string): Promise<boolean> {
  const [host, pid] = name.split('~');
  // In a container every start has the same process id: what is not in use here was left by an earlier one.
  if (host === hostname() && pid !== undefined)
    return Number(pid) === process.pid ? !inUse.has(name) : !isAlive(Number(pid));
  try {
    return Date.now() - (await stat(path.join(root, name))).mtimeMs > staleMs;
  } catch {
    return false;
  }
}

/** Kept at most; beyond it those that were made first go. */
const mostThumbnails = 5000;
/** Of a storage elsewhere one is looked at anew after this time. */
const goodForMs = 600_000;
const mostAssetBytes = 64 * 1024 * 1024;
const thumbnailMs = 20_000;
const thumbnailLimits = { maxPixels: 36_000_000, minSide: 1, maxMemoryBytes: 768 * 1024 * 1024 };

interface ThumbnailOptions {
  folder: string;
  storage: Pick<Storage, 'read'>;
  assets: AssetService | undefined;
}

/**
 * Small pictures of assets, made by a process of their own when they are first asked for, and kept in a folder. Of a
 * video its still.
 */
export function createThumbnails({ folder, storage, assets }: ThumbnailOptions) {
  const making = new Map<string, Promise<void>>();
  const processes = createSemaphore(2);
  let made = 0;

  /** The asset as a file, and what tells it from one that had its name before; null when there is none. */
  async function sourceOf(bucket: string, name: string): Promise<{ version: string; file?: string } | null> {
    // The service's key opens more there than is the service's: only buckets of job types are shown.
    if (assets === undefined && !isJobType(bucket)) return null;
    if (assets === undefined) return { version: String(Math.floor(Date.now() / goodForMs)) };
    const found = await assets.find(bucket, name);
    if (found === null) return null;
    const file = path.join(assets.root, found.file);
    return { version: String((await stat(file)).mtimeMs), file };
  }

  async function make(target: string, size: number, place: [string, string], file?: string): Promise<void> {
    const signal = AbortSignal.timeout(thumbnailMs);
    const release = await processes.acquire(signal);
    const copy = `${target}.source`;
    try {
      await mkdir(folder, { recursive: true });
      if (file === undefined) await writeFile(copy, await storage.read(...place, mostAssetBytes, signal));
      const limits = { ...thumbnailLimits, targetSide: size };
      const task = { kind: 'decode', format: 'webp', input: file ?? copy, output: target, limits } as const;
      const answer = await runPictureProcess(task, { timeoutMs: thumbnailMs }, signal);
      if (!answer.ok) throw new StorageError(answer.problem, 'not_found', false);
      made += 1;
      if (made % 100 === 1) await forgetOldest();
    } finally {
      release();
      await rm(copy, { force: true });
    }
  }

  async function forgetOldest(): Promise<void> {
    const files = (await readdir(folder)).map((name) => path.join(folder, name));
    if (files.length <= mostThumbnails) return;
    const ages = await Promise.all(
      files.map(async (file) => ({ file, madeMs: (await stat(file).catch(() => null))?.mtimeMs ?? 0 })),
    );
    ages.sort((a, b) => a.madeMs - b.madeMs);
    for (const { file } of ages.slice(0, files.length - mostThumbnails)) await rm(file, { force: true });
  }

  async function thumbnailOf(bucket: string, name: string, size: number): Promise<string | null> {
    const source = await sourceOf(bucket, name);
    if (source === null) return null;
    const key = createHash('sha256').update(JSON.stringify([bucket, name, size, source.version]));
    const own = `${key.digest('hex').slice(0, 40)}.webp`;
    const target = path.join(folder, own);
    if (await stat(target).catch(() => null)) return own;
    const task =
      making.get(own) ??
      make(target, size, [bucket, name], source.file).finally(() => {
        making.delete(own);
      });
    making.set(own, task);
    try {
      await task;
      return own;
    } catch (error) {
      if (error instanceof StorageError && error.code === 'not_found') return null;
      throw error instanceof StorageError ? errors.unavailable('The storage does not answer') : error;
    }
  }

  return {
    root: folder,
    /** As a path below `root`; null when there is no such asset, or nothing of it can be shown. */
    async find(
      bucket: string,
      name: string,
      size: number,
    ): Promise<{ file: string; contentType: string } | null> {
      if (!isPlace(bucket, name)) return null;
      const video = /^(.+)\.mp4$/.exec(name)?.[1];
      const stills = Object.values(pictureExtensions).map((extension) => `${video}-poster.${extension}`);
      for (const one of video === undefined ? [name] : stills) {
        const file = await thumbnailOf(bucket, one, size);
        if (file !== null) return { file, contentType: 'image/webp' };
      }
      return null;
    },
  };
}
