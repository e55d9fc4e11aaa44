import { copyFile, mkdir, open, readFile, rename, rm, stat } from 'node:fs/promises';
import path from 'node:path';
import { randomUUID } from 'node:crypto';
import type { AssetService } from '../types.js';
import { StorageError, type Storage } from './types.js';

const contentTypes: Readonly<Record<string, string>> = { '.png': 'image/png', '.webp': 'image/webp', '.jpg': 'image/jpeg', '.mp4': 'video/mp4' };

export interface FolderStorageOptions {
  /** Buckets are folders below it. */
  root: string;
  /** Makes the addresses in callbacks absolute; absent: relative to the service. */
  publicUrl?: string | undefined;
}

/** Assets in a folder, served by the service at `/assets/{bucket}/{path}`. A file is whole or not there. */
export function createFolderStorage({ root, publicUrl = '' }: FolderStorageOptions): Storage & AssetService {
  const base = path.resolve(root);

  /** Null for anything that would leave its bucket's folder. */
  function locate(bucket: string, name: string): string | null {
    if (!/^[a-z0-9_]{1,64}$/.test(bucket) || name.includes('\0')) return null;
    const folder = path.join(base, bucket);
    const file = path.resolve(folder, name);
    return file.startsWith(folder + path.sep) ? file : null;
  }

  function require_(bucket: string, name: string): string {
    const file = locate(bucket, name);
    if (file === null) throw new StorageError(`${bucket}/${name} is not a place in the storage folder`, 'rejected', false);
    return file;
  }

  return {
    kind: 'folder',
    async put(bucket, name, { localPath }, signal) {
      const target = require_(bucket, name);
      const partial = `${target}.${randomUUID()}.part`;
      try {
        await mkdir(path.dirname(target), { recursive: true });
        await copyFile(localPath, partial);
        signal.throwIfAborted();
        const handle = await open(partial, 'r+');
        await handle.sync().finally(() => handle.close());
        await rename(partial, target);
      } catch (error) {
        await rm(partial, { force: true });
        signal.throwIfAborted();
        throw new StorageError(`cannot write ${target}: ${(error as Error).message}`, 'unavailable', true, { cause: error });
      }
      return `${publicUrl}/assets/${bucket}/${name.split('/').map(encodeURIComponent).join('/')}`;
    },
    async read(bucket, name, maxBytes, signal) {
      const file = require_(bucket, name);
      const info = await stat(file).catch(() => null);
      if (info === null || !info.isFile()) throw new StorageError(`${bucket}/${name} does not exist`, 'not_found', false);
      if (info.size > maxBytes) throw new StorageError(`${bucket}/${name} has ${info.size} bytes, more than ${maxBytes}`, 'too_large', false);
      return readFile(file, { signal });
    },
    async remove(bucket, names) {
      await Promise.all(names.map(async (name) => rm(require_(bucket, name), { force: true })));
    },
    async ping() {
      await mkdir(base, { recursive: true });
    },
    async open(bucket, name) {
      const file = locate(bucket, name);
      if (file === null) return null;
      const handle = await open(file).catch(() => null);
      if (handle === null) return null;
      const info = await handle.stat();
      if (!info.isFile()) {
        await handle.close();
        return null;
      }
      return { stream: handle.createReadStream(), contentType: contentTypes[path.extname(file)] ?? 'application/octet-stream', bytes: info.size, modifiedAt: info.mtime };
    },
  };
}
