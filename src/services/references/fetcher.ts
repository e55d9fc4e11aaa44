import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { type DecodeLimits, type DecodeOptions, decodePicture } from './decode.js';
import { download, type Resolve } from './download.js';
import { notNow, type ReferencePolicy, refusal } from './url-policy.js';
import { type Storage, StorageError } from '../storage/storage.js';

/** Buckets that hold inputs; `reference_images/a/b.png` names an object in one. */
const bucketPath = /^(reference_images|workspace_assets)\/(.+)$/s;

export interface ReferenceFetcherOptions {
  storage: Pick<Storage, 'read'>;
  policy: ReferencePolicy;
  /** Of the file as it comes over the network. */
  maxBytes?: number;
  /** For the whole download. */
  timeoutMs?: number;
  decodeTimeoutMs?: number;
  limits?: Partial<DecodeLimits>;
  /** Name look-up, for tests. */
  resolve?: Resolve;
  decoderEntry?: string;
}

export interface FetchedReference {
  /** A PNG: 8-bit sRGB, upright, without metadata. */
  path: string;
  width: number;
  height: number;
  contentType: 'image/png';
}

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
    resolve,
    decoderEntry,
  } = options;
  const decoding: DecodeOptions = {
    limits: { ...defaultLimits, ...options.limits },
    timeoutMs: decodeTimeoutMs,
    ...(decoderEntry === undefined ? {} : { entry: decoderEntry }),
  };

  async function fromBucket(
    reference: { url: string; field: string },
    bucket: string,
    name: string,
    file: string,
    signal: AbortSignal,
  ): Promise<void> {
    const { field } = reference;
    if (/(^|\/)\.{0,2}(\/|$)|[\\\p{Cc}]/u.test(name))
      throw refusal(field, 'url', 'is not the path of an object in a bucket');
    try {
      await writeFile(file, await storage.read(bucket, name, maxBytes, signal));
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof StorageError)) throw error;
      if (error.code === 'too_large') throw refusal(field, 'size', `is larger than ${maxBytes} bytes`);
      if (error.code === 'not_found')
        throw refusal(field, 'reachable', 'names an object that does not exist');
      if (!error.retryable) throw refusal(field, 'reachable', 'names an object that cannot be read');
      throw notNow(field, 'storage does not answer', error);
    }
  }

  return {
    /**
     * Fetches into `folder`. `field` is where the producer wrote the address, for messages.
     * @throws AppError `invalidParameters` (final, with field and rule) or `unavailable` (another attempt may
     *   succeed)
     */
    async fetch(
      reference: { url: string; field: string; role: string },
      folder: string,
      signal: AbortSignal,
    ): Promise<FetchedReference> {
      const raw = path.join(folder, `reference-${reference.role}.raw`);
      const output = path.join(folder, `reference-${reference.role}.png`);
      try {
        const [, bucket, name] = bucketPath.exec(reference.url) ?? [];
        if (bucket !== undefined && name !== undefined)
          await fromBucket(reference, bucket, name, raw, signal);
        else
          await download(
            reference,
            raw,
            { policy, maxBytes, timeoutMs, ...(resolve === undefined ? {} : { resolve }) },
            signal,
          );
        const picture = await decodePicture(raw, output, decoding, signal);
        if (!picture.ok) throw refusal(reference.field, picture.rule, picture.problem);
        return { path: output, width: picture.width, height: picture.height, contentType: 'image/png' };
      } finally {
        await rm(raw, { force: true });
      }
    },
  };
}
