import { mkdirSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { isAlive } from '../../src/lib/processes.js';
import type { GpuProbe } from '../../src/services/card/gpu-monitor.js';

/**
 * A card as a folder: one file per process with the bytes it holds, which end with the process as a real
 * card's do. Engines take memory of it, the service reads it through the interface of real probes.
 */
export function createSimulatedGpu(
  folder: string,
  totalBytes: number,
): GpuProbe & { peakBytes(): number; violations(): string[] } {
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'total'), String(totalBytes));
  return {
    source: 'simulated',
    read: () =>
      Promise.resolve({
        name: 'simulated card',
        totalBytes,
        usedBytes: sum(holdings(folder)),
        utilization: null,
        temperatureCelsius: null,
        powerWatts: null,
        driver: null,
      }),
    processes: () => Promise.resolve(holdings(folder)),
    peakBytes: () =>
      Math.max(
        0,
        ...readdirSync(folder)
          .filter((name) => name.startsWith('peak-'))
          .map((name) => Number(readFileSync(path.join(folder, name), 'utf8'))),
      ),
    violations: () => readdirSync(folder).filter((name) => name.startsWith('over-')),
  };
}

/** False when the card has not that much left for the process, which then keeps what it had. */
export function takeMemory(folder: string, pid: number, bytes: number): boolean {
  const before = holdings(folder).get(pid) ?? 0;
  // Written first and summed then: of two that take at once, at least one sees both.
  write(folder, `pid-${pid}`, bytes);
  const used = sum(holdings(folder));
  if (used > Number(readFileSync(path.join(folder, 'total'), 'utf8'))) {
    write(folder, `pid-${pid}`, before);
    write(folder, `over-${pid}-${Date.now()}`, used);
    return false;
  }
  write(folder, `peak-${pid}-${used}`, used);
  return true;
}

function holdings(folder: string): Map<number, number> {
  const pids = readdirSync(folder)
    .filter((name) => name.startsWith('pid-'))
    .map((name) => Number(name.slice(4)))
    .filter(isAlive);
  return new Map(pids.map((pid) => [pid, Number(readFileSync(path.join(folder, `pid-${pid}`), 'utf8'))]));
}

function write(folder: string, name: string, value: number): void {
  const draft = path.join(folder, `draft-${name}-${process.pid}`);
  writeFileSync(draft, String(value));
  renameSync(draft, path.join(folder, name));
}

const sum = (holdings: Map<number, number>) =>
  [...holdings.values()].reduce((total, bytes) => total + bytes, 0);
