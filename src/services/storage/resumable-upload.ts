import { open, readFile } from 'node:fs/promises';
import { DefaultHttpStack, DetailedError, Upload as TusUpload, type UploadOptions } from 'tus-js-client';
import { readErrorBody } from '../../lib/supabase.js';
import { StorageError, storageErrorFrom } from './storage.js';

/** The Storage API takes chunks of exactly this size, the last one excepted. */
export const chunkBytes = 6 * 1024 * 1024;

/** Broken connections are answered with the same offset; a healthy server does so rarely twice in a row. */
const mostIdleAnswers = 8;

interface ResumableUploadOptions {
  endpoint: string;
  headers: Record<string, string>;
  /** Without a byte moving for so long the upload counts as broken off. */
  stallMs: number;
  /** Waits before the retries within this upload, milliseconds. */
  retryDelaysMs: number[];
}
interface LargeFile {
  localPath: string;
  contentType: string;
  bytes: number;
}
interface Upload extends ResumableUploadOptions {
  bucket: string;
  path: string;
  file: LargeFile;
  /** An upload of the same file that was broken off; a server that has forgotten it makes a new one. */
  previousUrl: string | undefined;
  onUrl: (url: string) => void;
}

/** Uploads large files; one that was broken off goes on where it ended when the same file is tried again. */
export function createResumableUploads(options: ResumableUploadOptions) {
  const brokenOff = new Map<string, string>();

  return async (bucket: string, path: string, file: LargeFile, signal: AbortSignal): Promise<void> => {
    const key = `${bucket}/${path}\n${file.localPath}\n${file.bytes}`;
    const previousUrl = brokenOff.get(key);
    brokenOff.delete(key);
    const onUrl = (url: string) => void brokenOff.set(key, url);
    await uploadResumable({ ...options, bucket, path, file, previousUrl, onUrl }, signal).catch(
      (error: unknown) => {
        if (signal.aborted || (error instanceof StorageError && !error.retryable)) brokenOff.delete(key);
        throw error;
      },
    );
    brokenOff.delete(key);
  };
}

/**
 * Uploads a large file by TUS 1.0 as the Storage API speaks it: after a broken connection it goes on from the
 * offset the server has. Throws `StorageError`, or the signal's reason when it aborts.
 */
async function uploadResumable(options: Upload, signal: AbortSignal): Promise<void> {
  const { bucket, path, file, previousUrl, stallMs } = options;
  signal.throwIfAborted();
  // tus forgets an abort that comes while it starts: what it asks us for (chunks, requests, whether to retry)
  // has to end it.
  const stopped = new AbortController();
  const mostAnswers = mostIdleAnswers + 4 * Math.ceil(file.bytes / chunkBytes);
  let [furthest, idle, answers] = [0, 0, 0];
  try {
    await new Promise<void>((resolve, reject) => {
      const upload = new TusUpload(Buffer.alloc(0), {
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
        httpStack: new OwnEndpoint(options.endpoint, stopped.signal),
        ...(previousUrl === undefined ? {} : { uploadUrl: previousUrl }),
        onUploadUrlAvailable: () => {
          if (upload.url !== null) options.onUrl(upload.url);
        },
        onProgress: moved,
        onAfterResponse: (request, response) => {
          moved();
          if (request.getMethod() === 'PATCH') advance(response.getHeader('Upload-Offset'));
        },
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
      /** Every answer to a chunk has to bring the upload on: a server that never does is not asked for ever. */
      function advance(header: string | undefined): void {
        const offset = Number(header ?? 0);
        idle = offset > furthest ? 0 : idle + 1;
        furthest = Math.max(furthest, offset);
        answers += 1;
        if (idle > mostIdleAnswers || answers > mostAnswers)
          stop(
            new StorageError(`upload of ${bucket}/${path}: the server does not advance`, 'unavailable', true),
          );
      }
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
    // The API before the upload server answers 400 with the status in a JSON body, that server itself in plain
    // text.
    return storageErrorFrom(action, { ...readErrorBody(response.getBody()), status: response.getStatus() });
  }
}

/**
 * Whatever `Location` says, the upload is the one of that name at our own endpoint: behind a proxy the server
 * names itself by an address that only it can reach, and the key goes nowhere else.
 */
class OwnEndpoint extends DefaultHttpStack {
  constructor(
    private readonly endpoint: string,
    signal: AbortSignal,
  ) {
    super({ signal });
  }

  override createRequest(method: string, url: string) {
    if (url === this.endpoint) return super.createRequest(method, url);
    const { pathname, search } = new URL(url, this.endpoint);
    const name = pathname.split('/').findLast((part) => part !== '') ?? '';
    return super.createRequest(method, `${this.endpoint}/${name}${search}`);
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

/** Hosted projects take large uploads at a host of their own, without the proxy that buffers requests. */
export function storageOrigin(url: string): string {
  return url.replace(/^(https:\/\/[a-z0-9-]+)\.supabase\.(co|in|red)$/, '$1.storage.supabase.$2');
}

/** A file small enough to be sent at once. */
export async function readLocal(file: string, signal: AbortSignal): Promise<Buffer> {
  return readFile(file, { signal }).catch((cause: unknown) => {
    signal.throwIfAborted();
    const message = `cannot read ${file}: ${(cause as Error).message}`;
    throw new StorageError(message, 'unavailable', true, { cause });
  });
}
