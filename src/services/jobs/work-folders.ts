import { randomBytes } from 'node:crypto';
import { mkdir, readdir, rm, stat } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { isAlive } from '../../lib/processes.js';

const staleMs = 24 * 3600_000;
/** Names in use by this process; a process may carry several services. */
const inUse = new Set<string>();

/**
 * Folders jobs work in: `{root}/{host}~{pid}~{random}/{job id}-{attempt}`. They hold nothing that is needed
 * later: what matters is uploaded, so they go with their attempt, and whatever a killed process left goes at
 * the next start.
 */
export function createWorkFolders(root: string) {
  const name = `${hostname()}~${process.pid}~${randomBytes(4).toString('hex')}`;
  const own = path.join(root, name);
  inUse.add(name);

  return {
    /**
     * Removes what earlier processes left: dead processes of this host, and folders of other hosts older than
     * a day.
     */
    async clean(): Promise<void> {
      await mkdir(root, { recursive: true });
      for (const found of await readdir(root)) {
        if (await isLeftOver(root, found)) await rm(path.join(root, found), { recursive: true, force: true });
      }
      await mkdir(own, { recursive: true });
    },
    async create(jobId: string, attempt: number): Promise<string> {
      const folder = path.join(own, `${jobId.replace(/[^\w-]/g, '_')}-${attempt}`);
      await rm(folder, { recursive: true, force: true });
      await mkdir(folder, { recursive: true });
      return folder;
    },
    remove: (folder: string): Promise<void> => rm(folder, { recursive: true, force: true, maxRetries: 3 }),
    /** At the end of the process. */
    async removeAll(): Promise<void> {
      await rm(own, { recursive: true, force: true });
      inUse.delete(name);
    },
  };
}
export type WorkFolders = ReturnType<typeof createWorkFolders>;

async function isLeftOver(root: string, name: string): Promise<boolean> {
  const [host, pid] = name.split('~');
  // In a container every start has the same process id: what is not in use here was left by an earlier one.
  if (host === hostname() && pid !== undefined)
    return Number(pid) === process.pid ? !inUse.has(name) : !isAlive(Number(pid));
  try {
    return Date.now() - (await stat(path.join(root, name))).mtimeMs > staleMs;
  } catch {
    return false;
  }
}
