import { randomUUID } from 'node:crypto';
import {
  constants,
  copyFile,
  lstat,
  mkdir,
  open,
  readdir,
  realpath,
  rename,
  rm,
  stat,
  writeFile,
} from 'node:fs/promises';
import path from 'node:path';
import { orAborted } from '../../lib/wait.js';
import {
  type AssetService,
  checkPlace,
  createProof,
  isPlace,
  type Storage,
  StorageError,
} from './storage.js';

const contentTypes: Readonly<Record<string, string>> = {
  '.png': 'image/png',
  '.webp': 'image/webp',
  '.jpg': 'image/jpeg',
  '.mp4': 'video/mp4',
};
/** Half-written files of this process; it may carry several storages. */
const beingWritten = new Set<string>();

export interface FolderStorageOptions {
  /** Buckets are folders below it. */
  root: string;
  /** Makes the addresses in callbacks absolute; absent: relative to the service. */
  publicUrl?: string | undefined;
  /** How long it is remembered that files can be stored, and that they cannot. */
  remember?: { wellMs: number; unwellMs: number };
}

/** Assets in a folder, served by the service at `/assets/{bucket}/{path}`. A file is whole or not there. */
export function createFolderStorage({
  root,
  publicUrl = '',
  remember,
}: FolderStorageOptions): Storage & AssetService {
  const base = path.resolve(root);
  const targetOf = (bucket: string, name: string) => path.join(base, bucket, name);
  const probe = path.join(base, `.check-${randomUUID()}`);
  const proof = createProof(async () => {
    try {
      await mkdir(base, { recursive: true });
      await writeFile(probe, 'ok');
    } catch (error) {
      throw cannotWrite(base, error);
    } finally {
      await rm(probe, { force: true }).catch(() => {});
    }
  }, remember);

  /**
   * Where a file is written or removed: nothing on the way there is a link, for that leads to other people's
   * files.
   */
  async function requireOwn(bucket: string, name: string): Promise<void> {
    const steps = [bucket, ...name.split('/').slice(0, -1)];
    for (const [index] of steps.entries()) {
      const folder = path.join(base, ...steps.slice(0, index + 1));
      const found = await lstat(folder).catch(() => null);
      if (found?.isSymbolicLink() === true)
        throw new StorageError(`${path.relative(base, folder)} is a link, not a folder`, 'rejected', false, {
          origin: 'worker',
        });
      if (found === null) return;
    }
  }

  /**
   * A regular file's real place: null when there is none, when the bucket is itself a link, or a link in it
   * leads out. Anything else (a pipe, say) is never opened: that could wait for ever.
   */
  async function findFile(bucket: string, name: string): Promise<string | null> {
    if (!isPlace(bucket, name)) return null;
    try {
      const folder = path.join(await realpath(base), bucket);
      const file = await realpath(path.join(folder, name));
      return file.startsWith(folder + path.sep) && (await stat(file)).isFile() ? file : null;
    } catch {
      return null;
    }
  }

  return {
    kind: 'folder',
    async put(bucket, name, { localPath }, signal) {
      checkPlace(bucket, name);
      signal.throwIfAborted();
      const target = targetOf(bucket, name);
      const partial = `${target}.${randomUUID()}.part`;
      beingWritten.add(partial);
      try {
        await requireOwn(bucket, name);
        await mkdir(path.dirname(target), { recursive: true });
        await copyFile(localPath, partial);
        signal.throwIfAborted();
        await sync(partial, 'r+');
        await rename(partial, target);
        // The name must survive a power cut as well as the bytes; not every file system lets a folder be
        // synced.
        await sync(path.dirname(target), 'r').catch(() => {});
        await removePartials(target);
        proof.proven();
      } catch (error) {
        await rm(partial, { force: true }).catch(() => {});
        signal.throwIfAborted();
        proof.doubt();
        throw error instanceof StorageError ? error : cannotWrite(`${bucket}/${name}`, error);
      } finally {
        beingWritten.delete(partial);
      }
    },
    addressOf: async (bucket, name) =>
      `${publicUrl}/assets/${bucket}/${name.split('/').map(encodeURIComponent).join('/')}`,
    async read(bucket, name, maxBytes, signal) {
      checkPlace(bucket, name);
      const file = await findFile(bucket, name);
      const info = file === null ? null : await stat(file).catch(() => null);
      if (file === null || info === null)
        throw new StorageError(`${bucket}/${name} does not exist`, 'not_found', false);
      if (info.size > maxBytes)
        throw new StorageError(
          `${bucket}/${name} has ${info.size} bytes, more than ${maxBytes}`,
          'too_large',
          false,
        );
      signal.throwIfAborted();
      return readRegular(file, signal).catch((error: unknown) => {
        signal.throwIfAborted();
        throw new StorageError(
          `cannot read ${bucket}/${name}: ${(error as Error).message}`,
          'unavailable',
          true,
          { cause: error },
        );
      });
    },
    async list(bucket, name) {
      checkPlace(bucket, name);
      return readdir(targetOf(bucket, name)).catch(() => []);
    },
    async remove(bucket, names) {
      for (const name of names) checkPlace(bucket, name);
      await Promise.all(
        names.map(async (name) => {
          await requireOwn(bucket, name);
          await rm(targetOf(bucket, name), { force: true });
          await removePartials(targetOf(bucket, name));
        }),
      );
    },
    ping: (signal) => orAborted(proof.ask(), signal),
    root: base,
    async find(bucket, name) {
      const file = await findFile(bucket, name);
      if (file === null) return null;
      return {
        file: path.relative(await realpath(base), file),
        contentType: contentTypes[path.extname(file)] ?? 'application/octet-stream',
      };
    },
  };
}

/** What keeps this worker from writing, whatever the job: its disk, its rights. */
const ownFaults = new Set(['ENOSPC', 'EDQUOT', 'EROFS', 'EACCES', 'EPERM', 'EIO', 'ENOTDIR']);

function cannotWrite(what: string, error: unknown): StorageError {
  const { code = '', message } = error as NodeJS.ErrnoException;
  return new StorageError(`cannot write ${what}: ${message}`, 'unavailable', true, {
    cause: error,
    ...(ownFaults.has(code) ? { origin: 'worker' } : {}),
  });
}

/** Without waiting for anything: in the meantime it may have become a pipe. */
async function readRegular(file: string, signal: AbortSignal): Promise<Buffer> {
  const handle = await open(file, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    if (!(await handle.stat()).isFile()) throw new Error('it is no regular file');
    return await handle.readFile({ signal });
  } finally {
    await handle.close();
  }
}

async function sync(file: string, flags: 'r' | 'r+'): Promise<void> {
  const handle = await open(file, flags);
  await handle.sync().finally(() => handle.close());
}

/**
 * Removes what others left half-written for a place that was just written or emptied: killed processes. One
 * that is still writing there has lost the job; its write fails and is tried again. Never throws.
 */
async function removePartials(target: string): Promise<void> {
  const folder = path.dirname(target);
  for (const name of await readdir(folder).catch(() => [])) {
    const file = path.join(folder, name);
    if (file.startsWith(`${target}.`) && file.endsWith('.part') && !beingWritten.has(file))
      await rm(file, { force: true }).catch(() => {});
  }
}
