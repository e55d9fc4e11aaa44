import { randomBytes } from 'node:crypto';
import { link, mkdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import { CliError, exitCodes } from '../output.js';
import { isAlive } from '../../lib/processes.js';

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
