import { readdirSync, readFileSync } from 'node:fs';

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}

interface Child {
  pid: number;
  name: string;
}

/**
 * Direct children of a process (this one unless named), from Linux' /proc; ended ones that nobody waited for
 * count.
 */
export function childrenOf(pid: number = process.pid): Child[] {
  return readdirSync('/proc')
    .filter((entry) => /^\d+$/.test(entry))
    .flatMap((entry) => {
      try {
        // "pid (name) state ppid …", where the name may hold anything
        const [, name = '', rest = ''] =
          /^\d+ \((.*)\) (.*)$/s.exec(readFileSync(`/proc/${entry}/stat`, 'utf8')) ?? [];
        return Number(rest.split(' ')[1]) === pid ? [{ pid: Number(entry), name }] : [];
      } catch {
        // it ended while we looked
        return [];
      }
    });
}
