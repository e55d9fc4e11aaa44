import { randomUUID } from 'node:crypto';
import {
  access,
  constants,
  copyFile,
  mkdir,
  open,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
} from 'node:fs/promises';
import path from 'node:path';
import { type AssetService, checkPlace, isPlace, type Storage, StorageError } from './storage.js';

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
}

/** Assets in a folder, served by the service at `/assets/{bucket}/{path}`. A file is whole or not there. */
export function createFolderStorage({ root, publicUrl = '' }: FolderStorageOptions): Storage & AssetService {
  const base = path.resolve(root);
  const targetOf = (bucket: string, name: string) => path.join(base, bucket, name);

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
        await mkdir(path.dirname(target), { recursive: true });
        await copyFile(localPath, partial);
        signal.throwIfAborted();
        await sync(partial, 'r+');
        await rename(partial, target);
        // The name must survive a power cut as well as the bytes; not every file system lets a folder be
        // synced.
        await sync(path.dirname(target), 'r').catch(() => {});
        await removePartials(target);
      } catch (error) {
        await rm(partial, { force: true });
        signal.throwIfAborted();
        throw new StorageError(
          `cannot write ${bucket}/${name}: ${(error as Error).message}`,
          'unavailable',
          true,
          { cause: error },
        );
      } finally {
        beingWritten.delete(partial);
      }
      return `${publicUrl}/assets/${bucket}/${name.split('/').map(encodeURIComponent).join('/')}`;
    },
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
      return readFile(file, { signal }).catch((error: unknown) => {
        signal.throwIfAborted();
        throw new StorageError(
          `cannot read ${bucket}/${name}: ${(error as Error).message}`,
          'unavailable',
          true,
          { cause: error },
        );
      });
    },
    async remove(bucket, names) {
      for (const name of names) checkPlace(bucket, name);
      await Promise.all(
        names.map(async (name) => {
          await rm(targetOf(bucket, name), { force: true });
          await removePartials(targetOf(bucket, name));
        }),
      );
    },
    async ping() {
      await mkdir(base, { recursive: true });
      await access(base, constants.W_OK);
    },
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
