import { constants } from 'node:fs';
import { access, chmod, lstat, mkdir, readdir, realpath, statfs } from 'node:fs/promises';
import path from 'node:path';
import { errors } from './errors.js';
import { formatGigabytes, mebibyte } from './units.js';
import { sharedFor } from './wait.js';

const others = 0o077;

/**
 * Keeps a folder for its owner alone: what is in it now, and whatever this process and its children make from
 * now on (anywhere: the mask is the process's). Links are not followed.
 * @returns what cannot be changed, because another user owns it or the file system has no modes
 */
export async function keepPrivate(folder: string): Promise<string[]> {
  process.umask(others);
  await mkdir(folder, { recursive: true });
  const refused: string[] = [];
  await close(await realpath(folder));
  return refused;

  /** A folder before what is in it: with it closed, nobody gets at the rest. */
  async function close(file: string): Promise<void> {
    try {
      const found = await lstat(file);
      if (found.isSymbolicLink()) return;
      if ((found.mode & others) !== 0) await chmod(file, found.mode & 0o7700);
      if (found.isDirectory()) for (const name of await readdir(file)) await close(path.join(file, name));
    } catch (error) {
      // Another process's work folder may go meanwhile.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') refused.push(file);
    }
  }
}

/** What a running job, its upload and the queue's own log may still write. */
const leastFreeBytes = 100 * mebibyte;
const lookMs = 1000;

export interface Room {
  /** Null: the file system does not tell. */
  freeBytes: number | null;
  totalBytes: number | null;
  /** Why nothing more may be begun here; null while there is room. */
  trouble: RoomTrouble | null;
}

export interface RoomTrouble {
  code: 'disk_full' | 'data_dir_unwritable';
  cause: string;
  cure: string;
}

export const roomCure = 'Free space on the disk of DATA_DIR, or move DATA_DIR to another one.';
const accessCure =
  'Let the user of this service write to DATA_DIR (chown, chmod, or the mount without "ro").';

/** Whether a folder can be written to, with room for what is to come: a full disk fails jobs late and unclearly. */
export function createRoomWatch(folder: string) {
  let latest: Room = { freeBytes: null, totalBytes: null, trouble: null };
  const look = sharedFor(lookMs, async () => {
    latest = await read(folder);
    return latest;
  });
  return {
    look,
    /** As of the last look. */
    trouble: () => latest.trouble?.cause ?? null,
    /** @throws AppError `insufficientStorage`, `dataFolderUnwritable`, each with its cure */
    async require(): Promise<void> {
      const { trouble } = await look();
      if (trouble === null) return;
      const { code, cure } = trouble;
      throw code === 'disk_full' ? errors.insufficientStorage(cure) : errors.dataFolderUnwritable(cure);
    },
  };
}
export type RoomWatch = ReturnType<typeof createRoomWatch>;

async function read(folder: string): Promise<Room> {
  try {
    await mkdir(folder, { recursive: true });
    await access(folder, constants.W_OK);
  } catch (error) {
    return {
      freeBytes: null,
      totalBytes: null,
      trouble: {
        code: 'data_dir_unwritable',
        cause: `DATA_DIR cannot be written: ${(error as Error).message}`,
        cure: accessCure,
      },
    };
  }
  const { bavail, bsize, blocks, files, ffree } = await statfs(folder);
  const [freeBytes, totalBytes] = [bavail * bsize, blocks * bsize];
  const cause =
    freeBytes < leastFreeBytes
      ? `only ${formatGigabytes(freeBytes)} of ${formatGigabytes(totalBytes)} are free under DATA_DIR`
      : files > 0 && ffree === 0
        ? 'the file system of DATA_DIR has room, but takes no more files (no free inodes)'
        : null;
  const trouble = cause === null ? null : { code: 'disk_full' as const, cause, cure: roomCure };
  return { freeBytes, totalBytes, trouble };
}
