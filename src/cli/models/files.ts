import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, readFile, stat } from 'node:fs/promises';
import path from 'node:path';
import type { HubFile } from './hub.js';

export interface PulledFolder {
  folder: string;
  record: SourceRecord;
}

/** Folders of the models folder that a pull made, sources included. */
export async function listPulled(modelsDir: string): Promise<PulledFolder[]> {
  const found: PulledFolder[] = [];
  for (const parent of [modelsDir, path.join(modelsDir, 'sources')]) {
    for (const entry of await readdir(parent, { withFileTypes: true }).catch(() => [])) {
      const folder = path.join(parent, entry.name);
      const record = entry.isDirectory() ? await readRecord(folder) : null;
      if (record !== null) found.push({ folder, record });
    }
  }
  return found;
}

/**
 * Reads every byte of a pulled folder. @returns what is wrong, one sentence a file; empty when all is well
 */
export async function verifyFolder(
  { folder, record }: PulledFolder,
  onBytes: (count: number) => void,
): Promise<string[]> {
  const problems: string[] = [];
  for (const file of record.files) {
    const place = path.join(folder, file.path);
    const size = await sizeOf(place);
    if (size !== file.size) {
      problems.push(
        size === null ? `${file.path} is missing` : `${file.path} has ${size} bytes, not ${file.size}`,
      );
      continue;
    }
    const hash = beginChecksum(file);
    await addFile(hash, place, file.size, { onBytes });
    if (hash.digest('hex') !== file.checksum.value)
      problems.push(`${file.path} has another content than was pulled`);
  }
  return problems;
}

/** Hash of a file's content as the hub names it; a Git blob's id covers a header with the size, too. */
export function beginChecksum(file: HubFile): Hash {
  if (file.checksum.algorithm === 'sha256') return createHash('sha256');
  return createHash('sha1').update(`blob ${file.size}\0`);
}

/** Adds the first `bytes` of a file on disk to a hash. */
export async function addFile(
  hash: Hash,
  path: string,
  bytes: number,
  { onBytes = () => {}, signal }: { onBytes?: (count: number) => void; signal?: AbortSignal } = {},
): Promise<void> {
  if (bytes <= 0) return;
  const options = { highWaterMark: 1 << 20, end: bytes - 1, ...(signal === undefined ? {} : { signal }) };
  for await (const chunk of createReadStream(path, options) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    onBytes(chunk.length);
  }
}

/**
 * What a pulled folder is, kept in it: `models verify` needs no network, and a later pull knows what is
 * there.
 */
export interface SourceRecord {
  name: string;
  repository: string;
  commit: string;
  quantisation?: string;
  files: HubFile[];
}

export const recordName = 'ourvidz-source.json';

/** Null without a readable record. */
export async function readRecord(folder: string): Promise<SourceRecord | null> {
  try {
    const record = JSON.parse(await readFile(path.join(folder, recordName), 'utf8')) as SourceRecord;
    return Array.isArray(record.files) && typeof record.commit === 'string' ? record : null;
  } catch {
    return null;
  }
}

export async function sizeOf(file: string): Promise<number | null> {
  return stat(file).then(
    (info) => (info.isFile() ? info.size : null),
    () => null,
  );
}
