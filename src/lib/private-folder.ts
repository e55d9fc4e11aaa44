import { chmod, lstat, mkdir, readdir, realpath } from 'node:fs/promises';
import path from 'node:path';

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
