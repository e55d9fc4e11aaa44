import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { errors } from '../../lib/errors.js';
import { createSemaphore } from '../../lib/semaphore.js';
import { type Storage, StorageError } from '../storage/storage.js';
import { type DecodeLimits, type PictureTask, runPictureProcess } from './picture-process.js';
import { checkOwner, expiryOf, type OwnAddresses, type Place, placeOf } from './uploads.js';
import {
  bareHost,
  checkUrl,
  isDataUrl,
  PictureProblem,
  readDataUrl,
  type ReferencePolicy,
} from './url-policy.js';

export interface ReferenceFetcherOptions {
  storage: Pick<Storage, 'read'>;
  policy: ReferencePolicy;
  /** Addresses that mean our own storage. */
  own?: OwnAddresses;
  /** Where the n-th asset of a user's finished job lies; null when there is none. */
  assetOf?: (jobId: string, index: number, userId: string) => Promise<Place | null>;
  /** Whether a user's job has not ended yet: it may have the asset in time. */
  isComing?: (jobId: string, userId: string) => Promise<boolean>;
  /** Of the file as it comes over the network. */
  maxBytes?: number;
  /** For the whole download. */
  timeoutMs?: number;
  decodeTimeoutMs?: number;
  limits?: Partial<DecodeLimits>;
  /** Downloads at a time, and of those from one host. */
  maxDownloads?: number;
  maxPerHost?: number;
  /** Entry of the process that downloads and decodes, for tests. */
  entry?: string;
}

export interface FetchedReference {
  /** A PNG: 8-bit sRGB, upright, without metadata. */
  path: string;
  width: number;
  height: number;
  contentType: 'image/png';
}

/** The n-th asset of a finished job. */
const assetName = /^asset:([0-9a-f-]{36})\/(\d)$/i;

export type ReferenceFetcher = ReturnType<typeof createReferenceFetcher>;

/**
 * A picture of `maxPixels` needs up to 240 MiB as JPEG, PNG, WebP or GIF and 700 MiB as AVIF, which is
 * decoded whole.
 */
const defaultLimits: DecodeLimits = {
  maxPixels: 36_000_000,
  minSide: 8,
  targetSide: 2048,
  maxMemoryBytes: 768 * 1024 * 1024,
};
/** Each may take `maxMemoryBytes`. */
const maxDecoders = 2;
/** The download keeps its time itself; a process that does not is killed this much later. */
const overrunMs = 5000;

/**
 * Fetches the pictures jobs refer to, from the web and from buckets. What a producer names is untrusted to
 * the last byte.
 */
export function createReferenceFetcher(options: ReferenceFetcherOptions) {
  const {
    storage,
    policy,
    maxBytes = 20 * 1024 * 1024,
    timeoutMs = 30_000,
    decodeTimeoutMs = 30_000,
  } = options;
  const limits = { ...defaultLimits, ...options.limits };
  const downloads = createHostSlots(options.maxDownloads ?? 8, options.maxPerHost ?? 2);
  const decoders = createSemaphore(maxDecoders);

  async function runTask(task: PictureTask, limitMs: number, signal: AbortSignal) {
    const { entry } = options;
    const answer = await runPictureProcess(
      task,
      { timeoutMs: limitMs, ...(entry === undefined ? {} : { entry }) },
      signal,
    );
    if (!answer.ok) throw new PictureProblem(answer.rule, answer.problem);
    return answer.size;
  }

  async function fromWeb(
    url: string,
    file: string,
    signal: AbortSignal,
    onWaiting: () => void,
  ): Promise<void> {
    const checked = checkUrl(url, policy);
    if (!checked.allowed) throw new PictureProblem(checked.rule, checked.problem);
    const release = await downloads.acquire(bareHost(checked.url), signal, onWaiting);
    try {
      const { allowedHosts } = policy;
      await runTask(
        { kind: 'download', url, file, allowedHosts, maxBytes, timeoutMs },
        timeoutMs + overrunMs,
        signal,
      );
    } finally {
      release();
    }
  }

  async function fromDataUrl(url: string, file: string): Promise<void> {
    const bytes = readDataUrl(url);
    if (bytes.length > maxBytes) throw new PictureProblem('size', `is larger than ${maxBytes} bytes`);
    await writeFile(file, bytes);
  }

  /** `asset:JOB_ID/N`: the picture of one job goes into the next. */
  async function placeOfAsset(url: string, userId: string): Promise<Place> {
    const [, jobId, index] = assetName.exec(url) ?? [];
    if (jobId === undefined)
      throw new PictureProblem('url', 'must be asset:JOB_ID/N: N is 0 for the first asset of the job');
    const place = (await options.assetOf?.(jobId.toLowerCase(), Number(index), userId)) ?? null;
    if (place === null) throw new PictureProblem('reachable', 'names an asset that this user has not');
    return place;
  }

  /** Where a file of our own lies; null for what comes from elsewhere. @throws PictureProblem */
  async function findPlace(url: string, userId: string): Promise<Place | null> {
    const place = /^asset:/i.test(url) ? await placeOfAsset(url, userId) : placeOf(url, options.own);
    if (place !== null) checkOwner(place, userId);
    return place;
  }

  async function fromBucket({ bucket, name }: Place, file: string, signal: AbortSignal): Promise<void> {
    if ((expiryOf(name) ?? Infinity) * 1000 < Date.now())
      throw new PictureProblem('expired', 'names an upload that has expired: upload it again');
    if (/(^|\/)\.{0,2}(\/|$)|[\\\p{Cc}]/u.test(name))
      throw new PictureProblem('url', 'is not the path of an object in a bucket');
    try {
      await writeFile(file, await storage.read(bucket, name, maxBytes, signal));
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof StorageError) || error.origin === 'worker') throw error;
      if (error.code === 'too_large') throw new PictureProblem('size', `is larger than ${maxBytes} bytes`);
      if (error.code === 'not_found')
        throw new PictureProblem('reachable', 'names an object that does not exist');
      if (!error.retryable) throw new PictureProblem('reachable', 'names an object that cannot be read');
      throw new PictureProblem(null, 'storage does not answer', { cause: error });
    }
  }

  async function decode(input: string, output: string, signal: AbortSignal) {
    const release = await decoders.acquire(signal);
    try {
      return await runTask({ kind: 'decode', input, output, limits }, decodeTimeoutMs, signal);
    } finally {
      release();
    }
  }

  return {
    /**
     * Fetches into `folder`. `field` is where the producer wrote the address, for messages; `onWaiting` is
     * called when other downloads have to end first.
     * @throws AppError `invalidParameters` (final, with field and rule) or `unavailable` (another attempt may
     *   succeed)
     */
    async fetch(
      reference: { url: string; field: string; role: string; /** Whose job it is for. */ userId?: string },
      folder: string,
      signal: AbortSignal,
      onWaiting: () => void = () => {},
    ): Promise<FetchedReference> {
      const { url, field, userId = '' } = reference;
      const raw = path.join(folder, `reference-${reference.role}.raw`);
      const output = path.join(folder, `reference-${reference.role}.png`);
      try {
        const place = await findPlace(url, userId);
        if (place !== null) {
          await fromBucket(place, raw, signal);
        } else if (isDataUrl(url)) await fromDataUrl(url, raw);
        else await fromWeb(url, raw, signal, onWaiting);
        const size = await decode(raw, output, signal);
        return { path: output, ...(size ?? { width: 0, height: 0 }), contentType: 'image/png' };
      } catch (error) {
        throw error instanceof PictureProblem ? asAppError(field, error) : error;
      } finally {
        await rm(raw, { force: true });
      }
    },

    /**
     * Before a job is taken: a name that is not this user's is refused, and a `data:` address that is none. An
     * asset of a job that has not ended may be there in time. @throws AppError `invalidParameters`
     */
    async judge({ url, field, userId }: { url: string; field: string; userId: string }): Promise<void> {
      const [, jobId = ''] = assetName.exec(url) ?? [];
      if (jobId !== '' && (await options.isComing?.(jobId.toLowerCase(), userId)) === true) return;
      try {
        if (isDataUrl(url)) readDataUrl(url);
        else await findPlace(url, userId);
      } catch (error) {
        throw error instanceof PictureProblem ? asAppError(field, error) : error;
      }
    },

    /** Turns an untrusted file into a plain PNG. @throws as `fetch` does */
    async decode(input: string, output: string, field: string, signal: AbortSignal) {
      try {
        return (await decode(input, output, signal)) ?? { width: 0, height: 0 };
      } catch (error) {
        throw error instanceof PictureProblem ? asAppError(field, error) : error;
      }
    },
    maxBytes,
  };
}

export function asAppError(field: string, { rule, message: problem, cause }: PictureProblem) {
  if (rule === null) return errors.unavailable.with({ cause }, `${field} could not be fetched: ${problem}`);
  const message = `${field} ${problem}`;
  return errors.invalidParameters.with({ details: [{ field, rule, message }] }, message);
}

/**
 * Places for downloads, few of them for one host: a slow server holds up who asks for its pictures, nobody
 * else.
 */
export function createHostSlots(total: number, perHost: number) {
  const all = createSemaphore(total);
  const hosts = new Map<string, ReturnType<typeof createSemaphore>>();
  return {
    /** One that waits for its host takes no place from others. */
    async acquire(host: string, signal: AbortSignal, onWaiting: () => void): Promise<() => void> {
      const own = hosts.get(host) ?? createSemaphore(perHost);
      hosts.set(host, own);
      const held: Array<() => void> = [];
      const release = () => {
        for (const each of held) each();
        if (own.free() === perHost && own.waiting() === 0) hosts.delete(host);
      };
      try {
        if (own.free() === 0 || all.free() === 0) onWaiting();
        held.push(await own.acquire(signal));
        held.push(await all.acquire(signal));
        return release;
      } catch (error) {
        release();
        throw error;
      }
    },
    /** Hosts in use. */
    size: () => hosts.size,
  };
}
