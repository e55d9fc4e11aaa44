import { AsyncLocalStorage } from 'node:async_hooks';
import { randomUUID } from 'node:crypto';
import { createClient } from '@supabase/supabase-js';
import { fetch, Headers } from 'undici';
import { userAgent } from '../../lib/project.js';
import { keyHeaders, keyTrouble } from '../../lib/supabase.js';
import { orAborted, sharedFor } from '../../lib/wait.js';
import { catalogue, jobTypes } from '../catalogue.js';
import { chunkBytes, createResumableUploads, readLocal, storageOrigin } from './resumable-upload.js';
import {
  checkPlace,
  createProof,
  orMissing,
  type Storage,
  StorageError,
  storageErrorFrom,
} from './storage.js';

export interface SupabaseStorageOptions {
  /** `https://PROJECT.supabase.co`, or where a self-hosted one answers. */
  url: string;
  serviceKey: string;
  /**
   * What `put` answers with: `bucket/path`, the public address (buckets are then created public) or an
   * address signed for `signedUrlSeconds`.
   */
  assetUrls: 'auto' | 'path' | 'public' | 'signed';
  signedUrlSeconds?: number;
  /** For one request; for a resumable upload: without a byte moving. */
  timeoutMs?: number;
  /** Files above this are uploaded in chunks that survive a broken connection. */
  resumableAboveBytes?: number;
  retryDelaysMs?: number[];
  /** What pictures are stored as: the proof that one can be is of the same type. */
  imageType?: string;
  /** How long it is remembered that files can be stored, and that they cannot. */
  remember?: { wellMs: number; unwellMs: number };
}

const week = 7 * 24 * 3600;
const [probeTimeoutMs, bucketsMs] = [10_000, 10_000];
/**
 * The fetch of Node 24 ends the process when a server closes behind an answer that is read slowly
 * (nodejs/undici#5360).
 */
const safeFetch = fetch as unknown as typeof globalThis.fetch;

/**
 * Assets in Supabase Storage. Buckets are made when an upload finds them missing; the same path is replaced
 * on every attempt.
 */
export function createSupabaseStorage({
  url,
  serviceKey,
  assetUrls,
  signedUrlSeconds = week,
  timeoutMs = 60_000,
  resumableAboveBytes = chunkBytes,
  retryDelaysMs = [500, 2000, 5000],
  imageType = 'image/png',
  remember,
}: SupabaseStorageOptions): Storage {
  const ownHeaders = { ...keyHeaders(serviceKey), 'user-agent': userAgent() };
  /**
   * storage-js takes no signal for uploads: the one of the call in progress reaches its requests this way.
   */
  const callSignal = new AsyncLocalStorage<AbortSignal>();
  const { storage } = createClient(url, serviceKey, {
    auth: { persistSession: false, autoRefreshToken: false, detectSessionInUrl: false },
    global: {
      fetch: (input, init) => {
        const given = callSignal.getStore();
        const limit = AbortSignal.timeout(timeoutMs);
        const signal = given === undefined ? limit : AbortSignal.any([given, limit]);
        // The key goes to this origin only, in the form that it has: no redirect is followed.
        const headers = new Headers(init?.headers as Headers | undefined);
        headers.delete('authorization');
        for (const [name, value] of Object.entries(ownHeaders)) headers.set(name, value);
        return safeFetch(input, { ...init, signal, redirect: 'manual', headers: headers as never });
      },
    },
  });
  const uploadLarge = createResumableUploads({
    endpoint: `${storageOrigin(url)}/storage/v1/upload/resumable`,
    headers: ownHeaders,
    stallMs: timeoutMs,
    retryDelaysMs,
  });

  /** Runs a call of storage-js and turns its `{ data, error }` into a value or a StorageError. */
  async function ask<T>(
    action: string,
    signal: AbortSignal | undefined,
    call: () => Promise<{ data: T; error: null } | { data: null; error: { message: string } }>,
  ): Promise<NonNullable<T>> {
    const answer = await (signal === undefined ? call() : callSignal.run(signal, call)).catch(
      (error: unknown) => {
        signal?.throwIfAborted();
        throw storageErrorFrom(action, { message: error instanceof Error ? error.message : String(error) });
      },
    );
    if (answer.error === null) return answer.data as NonNullable<T>;
    signal?.throwIfAborted();
    throw explained(storageErrorFrom(action, answer.error));
  }

  /** A refused key says itself why, often. */
  function explained(error: StorageError): StorageError {
    if (error.code !== 'forbidden') return error;
    const why = keyTrouble(serviceKey)?.message ?? 'the storage refuses SUPABASE_SERVICE_KEY';
    return new StorageError(`${why} (${error.message})`, 'forbidden', false, { cause: error.cause });
  }

  async function uploadBytes(
    bucket: string,
    path: string,
    bytes: Buffer,
    contentType: string,
    signal: AbortSignal,
  ): Promise<void> {
    await ask(`upload of ${bucket}/${path}`, signal, () =>
      storage.from(bucket).upload(path, bytes, { contentType, upsert: true, cacheControl: '3600' }),
    );
  }

  async function upload(
    bucket: string,
    path: string,
    file: Parameters<Storage['put']>[2],
    signal: AbortSignal,
  ): Promise<void> {
    if (file.bytes <= resumableAboveBytes) {
      const bytes = await readLocal(file.localPath, signal);
      return uploadBytes(bucket, path, bytes, file.contentType, signal);
    }
    await uploadLarge(bucket, path, file, signal).catch((error: unknown) => {
      throw error instanceof StorageError ? explained(error) : error;
    });
  }

  /** Makes the bucket when it is missing. That it cannot be made is no job's fault. */
  async function inBucket(bucket: string, signal: AbortSignal, store: () => Promise<void>): Promise<void> {
    const isMissing = (error: unknown) => error instanceof StorageError && error.code === 'not_found';
    const ofTheWorker = (error: unknown) => {
      if (!(error instanceof StorageError) || error.retryable) throw error;
      const { message, code, retryable, cause } = error;
      throw new StorageError(message, code, retryable, { cause, origin: 'worker' });
    };
    try {
      await store();
    } catch (error) {
      if (!isMissing(error)) throw error;
      await ask(`creation of bucket ${bucket}`, signal, () =>
        storage.createBucket(bucket, { public: assetUrls === 'public' }),
      ).catch((refusal: unknown) => {
        // Another worker made it in the meantime.
        if (!(refusal instanceof StorageError && /already exists/i.test(refusal.message)))
          ofTheWorker(refusal);
      });
      await store().catch((again: unknown) => {
        if (isMissing(again)) ofTheWorker(again);
        throw again;
      });
    }
  }

  const probe = { bucket: catalogue.sdxl_image_fast.bucket, path: `worker-check/${randomUUID()}` };
  const proof = createProof(async () => {
    const { bucket, path } = probe;
    const signal = AbortSignal.timeout(probeTimeoutMs);
    try {
      await inBucket(bucket, signal, () => uploadBytes(bucket, path, Buffer.from('ok'), imageType, signal));
    } catch (error) {
      if (error instanceof StorageError) throw error;
      throw storageErrorFrom('a small upload', { message: (error as Error).message });
    }
    // What stays behind is written over the next time.
    await ask(`removal from ${bucket}`, signal, () => storage.from(bucket).remove([path])).catch(() => {});
  }, remember);

  /** A bucket that is opened or closed is noticed within seconds. */
  const publicBuckets = sharedFor(bucketsMs, async () => {
    const buckets = await ask('listing of buckets', undefined, () => storage.listBuckets());
    return new Set(buckets.filter((one) => one.public).map((one) => one.name));
  });

  async function addressOf(bucket: string, path: string, signal: AbortSignal): Promise<string> {
    if (assetUrls === 'path') return `${bucket}/${path}`;
    if (assetUrls === 'public' || (assetUrls === 'auto' && (await publicBuckets()).has(bucket)))
      return storage.from(bucket).getPublicUrl(path).data.publicUrl;
    const sign = () => storage.from(bucket).createSignedUrl(path, signedUrlSeconds);
    return (await ask(`signing of ${bucket}/${path}`, signal, sign)).signedUrl;
  }

  return {
    kind: 'supabase',
    async put(bucket, path, file, signal) {
      checkPlace(bucket, path);
      try {
        await inBucket(bucket, signal, () => upload(bucket, path, file, signal));
        proof.proven();
      } catch (error) {
        if (error instanceof StorageError && error.origin !== 'job') proof.doubt();
        throw error;
      }
    },
    addressOf,
    async read(bucket, path, maxBytes, signal) {
      checkPlace(bucket, path);
      const action = `download of ${bucket}/${path}`;
      const stream = await ask(action, signal, async () =>
        storage.from(bucket).download(path).asStream(),
      ).catch((error: unknown) => {
        if (error instanceof StorageError && error.origin === 'worker') proof.doubt();
        throw error;
      });
      const chunks: Uint8Array[] = [];
      let bytes = 0;
      try {
        for await (const chunk of stream as AsyncIterable<Uint8Array>) {
          bytes += chunk.length;
          if (bytes > maxBytes)
            throw new StorageError(`${action}: it is larger than ${maxBytes} bytes`, 'too_large', false);
          chunks.push(chunk);
        }
      } catch (error) {
        signal.throwIfAborted();
        if (error instanceof StorageError) throw error;
        throw storageErrorFrom(action, { message: error instanceof Error ? error.message : String(error) });
      }
      return Buffer.concat(chunks);
    },
    async list(bucket, folder, signal) {
      checkPlace(bucket, folder);
      const page = () => storage.from(bucket).list(folder, { limit: 1000 });
      const entries = await orMissing(ask(`listing of ${bucket}/${folder}`, signal, page));
      return (entries ?? []).map(({ name }) => name);
    },
    async remove(bucket, paths) {
      for (const path of paths) checkPlace(bucket, path);
      if (paths.length === 0) return;
      await orMissing(ask(`removal from ${bucket}`, undefined, () => storage.from(bucket).remove(paths)));
    },
    async renewed(places, storedAtMs, signal) {
      const isFresh = Date.now() - storedAtMs < signedUrlSeconds * 500;
      if (isFresh || assetUrls === 'path' || assetUrls === 'public') return null;
      return Promise.all(places.map(([bucket, path]) => addressOf(bucket, path, signal)));
    },
    ping: (signal) => orAborted(proof.ask(), signal),
    async inspect(signal) {
      if (assetUrls !== 'public') return [];
      const ours = new Set(jobTypes.map((type): string => catalogue[type].bucket));
      const buckets = await ask('listing of buckets', signal, () => storage.listBuckets());
      const closed = buckets.filter((bucket) => ours.has(bucket.name) && !bucket.public);
      return closed.map(
        ({ name }) => `the bucket ${name} is private: the addresses of ASSET_URLS=public do not work for it`,
      );
    },
  };
}
