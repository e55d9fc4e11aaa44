import { spawn, type ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import type { Socket } from 'node:net';

export interface ProcessInfo {
  pid: number;
  command: string;
}

/** Living direct children of a process, read from /proc (Linux). */
export function childProcesses(parentPid: number): ProcessInfo[] {
  return readdirSync('/proc')
    .filter((name) => /^\d+$/.test(name))
    .flatMap((name) => {
      try {
        // The command in parentheses may hold spaces; state and parent follow the last one.
        const [state, ppid] = readFileSync(`/proc/${name}/stat`, 'utf8')
          .replace(/^.*\) /s, '')
          .split(' ');
        if (Number(ppid) !== parentPid || state === 'Z') return [];
        return [
          {
            pid: Number(name),
            command: readFileSync(`/proc/${name}/cmdline`, 'utf8').replaceAll('\0', ' ').trim(),
          },
        ];
      } catch {
        return [];
      }
    });
}

/** Children, their children and so on. */
export const descendants = (pid: number): ProcessInfo[] =>
  childProcesses(pid).flatMap((child) => [child, ...descendants(child.pid)]);

export function isAlive(pid: number): boolean {
  try {
    return !/^\d+ \(.*\) Z/s.test(readFileSync(`/proc/${pid}/stat`, 'utf8'));
  } catch {
    return false;
  }
}

/** Resident memory of a process, MiB (Linux). */
export async function residentMb(pid: number): Promise<number> {
  return Number(/VmRSS:\s+(\d+) kB/.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1] ?? 0) / 1024;
}

/** SIGTERM, and SIGKILL for one that has not ended after ten seconds. */
export async function endProcess(child: ChildProcess): Promise<void> {
  const gone = new Promise((resolve) => {
    child.once('exit', resolve);
  });
  child.kill('SIGTERM');
  const timer = setTimeout(() => child.kill('SIGKILL'), 10_000);
  if (child.exitCode === null && child.signalCode === null) await gone;
  clearTimeout(timer);
}

/**
 * Ends with this process, however that ends, whatever was given to it: a broken-off run leaves nothing behind.
 * A shell of its own session reads process ids and kills what is left of them when its input closes.
 */
const guardScript = `
pids=' '
while read -r what pid; do
  case $what in
    watch) pids="$pids$pid " ;;
    forget) pids=$(printf '%s' "$pids" | sed "s/ $pid / /") ;;
  esac
done
for pid in $pids; do kill -9 "$pid"; done 2>/dev/null
`;
let guard: ChildProcess | undefined;

/** The process does not outlive this one, not even when this one is killed. */
export function endWithThisProcess<T extends ChildProcess>(child: T): T {
  const { pid } = child;
  if (pid === undefined) return child;
  if (guard === undefined) {
    guard = spawn('sh', ['-c', guardScript], { detached: true, stdio: ['pipe', 'ignore', 'ignore'] });
    guard.unref();
    (guard.stdin as Socket).on('error', () => {}).unref();
  }
  const tell = (what: string) => guard?.stdin?.write(`${what} ${pid}\n`);
  tell('watch');
  child.once('exit', () => tell('forget'));
  return child;
}
