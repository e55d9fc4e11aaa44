import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import { projectRoot } from './project.js';

/**
 * Whether this code runs as it was written, under a loader of TypeScript (`npm run dev`, a single test),
 * instead of compiled.
 */
const isSource = import.meta.url.endsWith('.ts');

/** Where a program of this project lies, compiled or as written: `ownFile('src/server')`. */
export function ownFile(name: string): string {
  return path.join(projectRoot(), isSource ? `${name}.ts` : `dist/${name}.js`);
}

/** Options a Node process needs to run such a file: the loader this one runs under. */
export const ownLoader: readonly string[] = isSource ? ['--import', import.meta.resolve('tsx')] : [];

/** What Node is given to run a program of this project in a process of its own. */
export const ownProgram = (name: string): string[] => [...ownLoader, ownFile(name)];

/**
 * Is there a process with this id on this machine? One of another user counts: it cannot be signalled, but it
 * is there.
 */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** A port nobody listens on now: `preferred` when it is free, else one the system picks. */
export async function findFreePort(preferred = 0, host = '127.0.0.1'): Promise<number> {
  return (await tryPort(preferred, host)) ?? (await tryPort(0, host)) ?? 0;
}

function tryPort(port: number, host: string): Promise<number | undefined> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once('error', () => resolve(undefined));
    server.listen(port, host, () => {
      const { port: bound } = server.address() as AddressInfo;
      server.close(() => resolve(bound));
    });
  });
}
