import { createHash, type Hash, randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { link, mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { isAlive } from '../../lib/processes.js';
import { CliError, exitCodes } from '../output.js';
import type { HubFile } from './hub.js';

export interface PulledFolder {
  folder: string;
  record: SourceRecord;
}

/** Folders of the models folder that a pull made. */
export async function listPulled(modelsDir: string): Promise<PulledFolder[]> {
  const found: PulledFolder[] = [];
  for (const entry of await readdir(modelsDir, { withFileTypes: true }).catch(() => [])) {
    const folder = path.join(modelsDir, entry.name);
    const record = entry.isDirectory() ? await readRecord(folder) : null;
    if (record !== null) found.push({ folder, record });
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

/**
 * One pull of a model at a time. The lock names its process; one that is gone (killed, rebooted) is taken
 * over.
 * @returns a function that gives the lock back
 * @throws CliError `busy` naming the process that holds it
 */
export async function takeLock(file: string, what: string): Promise<() => Promise<void>> {
  await mkdir(path.dirname(file), { recursive: true });
  const mine = `${file}.${process.pid}.${randomBytes(4).toString('hex')}`;
  const text = JSON.stringify({ pid: process.pid, host: hostname() });
  await writeFile(mine, text);
  try {
    for (let attempt = 0; attempt < 3; attempt += 1) {
      // a link is made whole or not at all, and never over another
      if (
        await link(mine, file).then(
          () => true,
          (error: NodeJS.ErrnoException) => refuseUnless(error, 'EEXIST'),
        )
      )
        return async () => rm(file, { force: true });
      const held = await readFile(file, 'utf8').catch(() => '');
      const holder = parse(held);
      if (holder !== null && (holder.host !== hostname() || isAlive(holder.pid))) {
        const [where, cure] =
          holder.host === hostname()
            ? ['', '']
            : [` on ${holder.host}`, ` (if that machine is gone, remove ${file})`];
        throw new CliError(
          `${what} is being pulled by process ${holder.pid}${where}: wait for it, or end it and run this again${cure}`,
          exitCodes.busy,
        );
      }
      // Two that find the same stale lock both move something away: whoever moved a fresh one puts it back.
      const aside = `${mine}.stale`;
      if (
        await rename(file, aside).then(
          () => true,
          () => false,
        )
      ) {
        if ((await readFile(aside, 'utf8')) !== held) await link(aside, file).catch(() => {});
        await rm(aside, { force: true });
      }
    }
    throw new CliError(`${what} is being pulled by another process: wait for it`, exitCodes.busy);
  } finally {
    await rm(mine, { force: true });
  }
}

function refuseUnless(error: NodeJS.ErrnoException, code: string): false {
  if (error.code === code) return false;
  throw error;
}

function parse(text: string): { pid: number; host: string } | null {
  try {
    const { pid, host } = JSON.parse(text) as { pid?: unknown; host?: unknown };
    return typeof pid === 'number' && typeof host === 'string' ? { pid, host } : null;
  } catch {
    return null;
  }
}
