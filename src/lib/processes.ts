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
