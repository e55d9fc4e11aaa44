import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { crc32, deflateSync } from 'node:zlib';
import type { Test } from 'tap';
import { AppError } from '../../src/lib/errors.js';
import { StorageError, type Storage } from '../../src/services/storage/storage.js';

/** A server on 127.0.0.1 that counts what reaches it. */
export async function startServer(t: Test, listener: RequestListener) {
  const requests: Array<{ url: string; host: string }> = [];
  const server = createServer((request, response) => {
    requests.push({ url: request.url ?? '', host: request.headers.host ?? '' });
    listener(request, response);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(
    () =>
      new Promise<void>((resolve) => {
        server.close(() => resolve());
        server.closeAllConnections();
      }),
  );
  const { port } = server.address() as AddressInfo;
  return { port, host: `127.0.0.1:${port}`, origin: `http://127.0.0.1:${port}`, requests };
}

export async function temporaryFolder(t: Test): Promise<string> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-references-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  return folder;
}

export const noStorage: Pick<Storage, 'read'> = {
  read: (bucket, name) =>
    Promise.reject(new StorageError(`${bucket}/${name} does not exist`, 'not_found', false)),
};

/** Runs what should fail and gives what it failed with, as `code rule`. */
export async function failureOf(
  promise: Promise<unknown>,
): Promise<{ code: string; rule: string | undefined; field: string | undefined; message: string }> {
  try {
    await promise;
  } catch (error) {
    if (!(error instanceof AppError)) throw error;
    return {
      code: error.code,
      rule: error.details[0]?.rule,
      field: error.details[0]?.field,
      message: error.message,
    };
  }
  throw new Error('nothing failed');
}

export const signal = new AbortController().signal;

export function pngChunk(type: string, data: Buffer): Buffer {
  const body = Buffer.concat([Buffer.from(type, 'latin1'), data]);
  const framed = Buffer.alloc(body.length + 8);
  framed.writeUInt32BE(data.length, 0);
  body.copy(framed, 4);
  framed.writeUInt32BE(crc32(body), body.length + 4);
  return framed;
}

/** A black RGB PNG that says it has this size and brings that many rows, as short as zlib makes them. */
export function hollowPng(columns: number, rows: number, rowsOfData: number, extra: Buffer[] = []): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(columns, 0);
  header.writeUInt32BE(rows, 4);
  header.set([8, 2, 0, 0, 0], 8);
  const data = pngChunk('IDAT', deflateSync(Buffer.alloc(rowsOfData * (columns * 3 + 1)), { level: 9 }));
  return Buffer.concat([
    Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'),
    pngChunk('IHDR', header),
    ...extra,
    data,
    pngChunk('IEND', Buffer.alloc(0)),
  ]);
}
