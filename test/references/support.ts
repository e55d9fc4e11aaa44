import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { AppError } from '../../src/errors/app-error.js';
import { StorageError, type Storage } from '../../src/services/storage/types.js';

/** A server on 127.0.0.1 that counts what reaches it. */
export async function startServer(t: Test, listener: RequestListener) {
  const requests: Array<{ url: string; host: string }> = [];
  const server = createServer((request, response) => {
    requests.push({ url: request.url ?? '', host: request.headers.host ?? '' });
    listener(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => new Promise<void>((resolve) => {
    server.close(() => resolve());
    server.closeAllConnections();
  }));
  const { port } = server.address() as AddressInfo;
  return { port, host: `127.0.0.1:${port}`, origin: `http://127.0.0.1:${port}`, requests };
}

export async function temporaryFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-references-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export const noStorage: Pick<Storage, 'read'> = { read: (bucket, name) => Promise.reject(new StorageError(`${bucket}/${name} does not exist`, 'not_found', false)) };

/** Runs what should fail and gives what it failed with, as `code rule`. */
export async function failureOf(promise: Promise<unknown>): Promise<{ code: string; rule: string | undefined; field: string | undefined; message: string }> {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return { code: error.code, rule: error.details[0]?.rule, field: error.details[0]?.field, message: error.message };
  }
  throw new Error('nothing failed');
}

export const signal = new AbortController().signal;
