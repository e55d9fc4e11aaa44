import { open } from 'node:fs/promises';
import { DefaultHttpStack, DetailedError, Upload, type UploadOptions } from 'tus-js-client';
import { storageErrorFrom } from './supabase-errors.js';

/** The Storage API takes chunks of exactly this size, the last one excepted. */
export const chunkBytes = 6 * 1024 * 1024;

export interface ResumableUploadOptions {
  endpoint: string;
  headers: Record<string, string>;
  bucket: string;
  path: string;
  file: { localPath: string; contentType: string; bytes: number };
  /** An upload of the same file that was broken off; a server that has forgotten it makes a new one. */
  previousUrl?: string | undefined;
  /** Without a byte moving for so long the upload counts as broken off. */
  stallMs: number;
  /** Waits before the retries within this upload, milliseconds. */
  retryDelaysMs: number[];
  onUrl: (url: string) => void;
}

/**
 * Uploads a large file by TUS 1.0 as the Storage API speaks it: after a broken connection it goes on from the
 * offset the server has. Throws `StorageError`, or the signal's reason when it aborts.
 */
export async function uploadResumable(options: ResumableUploadOptions, signal: AbortSignal): Promise<void> {
  const { bucket, path, file, previousUrl, stallMs } = options;
  signal.throwIfAborted();
  // tus forgets an abort that comes while it starts: what it asks us for (chunks, requests, whether to retry)
  // has to end it.
  const stopped = new AbortController();
  try {
    await new Promise<void>((resolve, reject) => {
      const upload = new Upload(Buffer.alloc(0), {
        endpoint: options.endpoint,
        chunkSize: chunkBytes,
        uploadSize: file.bytes,
        retryDelays: options.retryDelaysMs,
        headers: { ...options.headers, 'x-upsert': 'true' },
        metadata: {
          bucketName: bucket,
          objectName: path,
          contentType: file.contentType,
          cacheControl: '3600',
        },
        storeFingerprintForResuming: false,
        removeFingerprintOnSuccess: true,
        fileReader: chunksOf(file, stopped.signal),
        httpStack: new DefaultHttpStack({ signal: stopped.signal }),
        ...(previousUrl === undefined ? {} : { uploadUrl: previousUrl }),
        onUploadUrlAvailable: () => {
          if (upload.url !== null) options.onUrl(upload.url);
        },
        onProgress: moved,
        onAfterResponse: moved,
        onShouldRetry: (error) => !stopped.signal.aborted && asStorageError(error).retryable,
        onSuccess: () => {
          finish();
        },
        onError: (error) => {
          finish(asStorageError(error));
        },
      });
      const stop = (reason: unknown) => {
        stopped.abort();
        void upload.abort().catch(() => {});
        finish(reason);
      };
      const onAbort = () => stop(signal.reason);
      const timer = setTimeout(
        () =>
          stop(
            storageErrorFrom(`upload of ${bucket}/${path}`, {
              message: `no byte moved for ${stallMs / 1000} s`,
            }),
          ),
        stallMs,
      );
      signal.addEventListener('abort', onAbort, { once: true });
      function moved(): void {
        if (!stopped.signal.aborted) timer.refresh();
      }
      function finish(error?: unknown): void {
        clearTimeout(timer);
        signal.removeEventListener('abort', onAbort);
        if (error === undefined) resolve();
        else reject(error instanceof Error ? error : new Error('the upload was aborted', { cause: error }));
      }
      upload.start();
    });
  } finally {
    stopped.abort();
  }

  function asStorageError(error: Error) {
    const response = error instanceof DetailedError ? error.originalResponse : null;
    const action = `upload of ${bucket}/${path}`;
    if (response === null) return storageErrorFrom(action, { message: error.message });
    return storageErrorFrom(action, {
      message: response.getBody().slice(0, 200),
      status: response.getStatus(),
    });
  }
}

/**
 * One chunk of the file in memory at a time, and the file open only while it is read. (Given a file stream,
 * tus opens another one for each chunk and leaves it open when the request breaks off.)
 */
function chunksOf(
  file: { localPath: string; bytes: number },
  stopped: AbortSignal,
): NonNullable<UploadOptions['fileReader']> {
  async function slice(start: number, end: number) {
    stopped.throwIfAborted();
    const handle = await open(file.localPath);
    try {
      const length = Math.min(end, file.bytes) - start;
      const { bytesRead, buffer } = await handle.read(Buffer.allocUnsafe(length), 0, length, start);
      stopped.throwIfAborted();
      if (bytesRead < length)
        throw new Error(`${file.localPath} ends after ${start + bytesRead} of ${file.bytes} bytes`);
      // `size` becomes the content length.
      return { value: Object.assign(buffer, { size: length }), done: end >= file.bytes };
    } finally {
      await handle.close();
    }
  }
  return { openFile: async () => ({ size: file.bytes, slice, close: () => {} }) };
}
