import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import type { HubFile } from './hub.js';

/** Hash of a file's content as the hub names it; a Git blob's id covers a header with the size, too. */
export function beginChecksum(file: HubFile): Hash {
  if (file.checksum.algorithm === 'sha256') return createHash('sha256');
  return createHash('sha1').update(`blob ${file.size}\0`);
}

/** Adds the first `bytes` of a file on disk to a hash. */
export async function addFile(hash: Hash, path: string, bytes = Infinity, onBytes: (count: number) => void = () => {}): Promise<void> {
  if (bytes <= 0) return;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20, ...(Number.isFinite(bytes) ? { end: bytes - 1 } : {}) }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    onBytes(chunk.length);
  }
}
