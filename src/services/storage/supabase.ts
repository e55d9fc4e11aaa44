import { AsyncLocalStorage } from 'node:async_hooks';
import { readFile } from 'node:fs/promises';
import { createClient } from '@supabase/supabase-js';
import { fetch } from 'undici';
import { chunkBytes, uploadResumable } from './resumable-upload.js';
import { checkPlace, type Storage, StorageError } from './storage.js';
import { storageErrorFrom } from './supabase-errors.js';

export interface SupabaseStorageOptions {
  /** `https://PROJECT.supabase.co`, or where a self-hosted one answers. */
  url: string;
  serviceKey: string;
  /**
   * What `put` answers with: `bucket/path`, the public address (buckets are then created public) or an
   * address signed for `signedUrlSeconds`.
   */
  assetUrls: 'path' | 'public' | 'signed';
  signedUrlSeconds?: number;
  /** For one request; for a resumable upload: without a byte moving. */
  timeoutMs?: number;
  /** Files above this are uploaded in chunks that survive a broken connection. */
  resumableAboveBytes?: number;
  retryDelaysMs?: number[];
}

const week = 7 * 24 * 3600;
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
}: SupabaseStorageOptions): Storage {
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
        return safeFetch(input, { ...init, signal });
      },
    },
  });
  const authorization = { authorization: `Bearer ${serviceKey}`, apikey: serviceKey };
  const endpoint = `${storageOrigin(url)}/storage/v1/upload/resumable`;
  /** Uploads that were broken off, by what they upload: the next try goes on where they ended. */
  const brokenOff = new Map<string, string>();

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
    throw storageErrorFrom(action, answer.error);
  }

  async function upload(
    bucket: string,
    path: string,
    file: Parameters<Storage['put']>[2],
    signal: AbortSignal,
  ): Promise<void> {
    if (file.bytes <= resumableAboveBytes) {
      const bytes = await readLocal(file.localPath, signal);
      await ask(`upload of ${bucket}/${path}`, signal, () =>
        storage
          .from(bucket)
          .upload(path, bytes, { contentType: file.contentType, upsert: true, cacheControl: '3600' }),
      );
      return;
    }
    const key = `${bucket}/${path}\n${file.localPath}\n${file.bytes}`;
    const previousUrl = brokenOff.get(key);
    brokenOff.delete(key);
    await uploadResumable(
      {
        endpoint,
        headers: authorization,
        bucket,
        path,
        file,
        previousUrl,
        stallMs: timeoutMs,
        retryDelaysMs,
        onUrl: (uploadUrl) => {
          brokenOff.set(key, uploadUrl);
        },
      },
      signal,
    ).catch((error: unknown) => {
      if (signal.aborted || (error instanceof StorageError && !error.retryable)) brokenOff.delete(key);
      throw error;
    });
    brokenOff.delete(key);
  }

  async function createBucket(bucket: string, signal: AbortSignal): Promise<void> {
    try {
      await ask(`creation of bucket ${bucket}`, signal, () =>
        storage.createBucket(bucket, { public: assetUrls === 'public' }),
      );
    } catch (error) {
      // Another worker made it in the meantime.
      if (!(error instanceof StorageError && /already exists/i.test(error.message))) throw error;
    }
  }

  async function addressOf(bucket: string, path: string, signal: AbortSignal): Promise<string> {
    if (assetUrls === 'path') return `${bucket}/${path}`;
    if (assetUrls === 'public') return storage.from(bucket).getPublicUrl(path).data.publicUrl;
    return (
      await ask(`signing of ${bucket}/${path}`, signal, () =>
        storage.from(bucket).createSignedUrl(path, signedUrlSeconds),
      )
    ).signedUrl;
  }

  return {
    kind: 'supabase',
    async put(bucket, path, file, signal) {
      checkPlace(bucket, path);
      try {
        await upload(bucket, path, file, signal);
      } catch (error) {
        if (!(error instanceof StorageError && error.code === 'not_found')) throw error;
        await createBucket(bucket, signal);
        await upload(bucket, path, file, signal);
      }
      return addressOf(bucket, path, signal);
    },
    async read(bucket, path, maxBytes, signal) {
      checkPlace(bucket, path);
      const action = `download of ${bucket}/${path}`;
      const stream = await ask(action, signal, async () => storage.from(bucket).download(path).asStream());
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
    async remove(bucket, paths) {
      for (const path of paths) checkPlace(bucket, path);
      if (paths.length === 0) return;
      await ask(`removal from ${bucket}`, undefined, () => storage.from(bucket).remove(paths)).catch(
        (error: unknown) => {
          if (!(error instanceof StorageError && error.code === 'not_found')) throw error;
        },
      );
    },
    async ping(signal) {
      await ask('listing of buckets', signal, () => storage.listBuckets({ limit: 1 }));
    },
  };
}

/** Hosted projects take large uploads at a host of their own, without the proxy that buffers requests. */
function storageOrigin(url: string): string {
  return url.replace(/^(https:\/\/[a-z0-9-]+)\.supabase\.(co|in|red)$/, '$1.storage.supabase.$2');
}

async function readLocal(file: string, signal: AbortSignal): Promise<Buffer> {
  try {
    return await readFile(file, { signal });
  } catch (error) {
    signal.throwIfAborted();
    throw new StorageError(`cannot read ${file}: ${(error as Error).message}`, 'unavailable', true, {
      cause: error,
    });
  }
}
