import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { mebibyte } from '../../lib/units.js';
import type { GpuProbe, GpuReading } from './gpu-monitor.js';

const run = promisify(execFile);
const query = 'name,memory.total,memory.used,utilization.gpu,temperature.gpu,driver_version';

/**
 * Reads the first NVIDIA GPU through `nvidia-smi`, which speaks NVML without a native binding.
 * Absent tool, absent driver or a hanging driver (`timeoutMs`) all read as "no GPU to be seen".
 */
export function createNvidiaSmiProbe(options: { command?: string; timeoutMs?: number } = {}): GpuProbe {
  const { command = 'nvidia-smi', timeoutMs = 2000 } = options;
  return {
    source: 'nvidia-smi',
    async read() {
      try {
        const { stdout } = await run(command, [`--query-gpu=${query}`, '--format=csv,noheader,nounits'], {
          timeout: timeoutMs,
          killSignal: 'SIGKILL',
        });
        return parseNvidiaSmi(stdout);
      } catch {
        return null;
      }
    },
    async processes() {
      try {
        const { stdout } = await run(
          command,
          ['--query-compute-apps=pid,used_gpu_memory', '--format=csv,noheader,nounits'],
          { timeout: timeoutMs, killSignal: 'SIGKILL' },
        );
        return parseComputeApps(stdout);
      } catch {
        return null;
      }
    },
  };
}

/**
 * Parses `pid, MiB` lines. Null when none has both: in some containers the driver hides processes, or their
 * memory.
 */
export function parseComputeApps(output: string): ReadonlyMap<number, number> | null {
  const pairs = output
    .split('\n')
    .map((line) => line.split(',').map((cell) => (cell.trim() === '' ? NaN : Number(cell))))
    .filter((pair) => pair.length === 2 && pair.every(Number.isFinite));
  const bytes = new Map<number, number>();
  // a process that computes on several cards has a row for each
  for (const [pid = 0, mebibytes = 0] of pairs) bytes.set(pid, (bytes.get(pid) ?? 0) + mebibytes * mebibyte);
  return pairs.length === 0 ? null : bytes;
}

/** Parses one CSV line; a value the driver does not support ("[N/A]") is null. */
export function parseNvidiaSmi(output: string): GpuReading | null {
  const line = output.split('\n').find((text) => text.trim() !== '');
  if (line === undefined) return null;
  const [name, totalMiB, usedMiB, utilizationPercent, temperature, driver] = line
    .split(',')
    .map((cell) => cell.trim());
  if (name === undefined || name === '') return null;
  const number = (cell: string | undefined) => {
    const value = Number(cell);
    return cell === undefined || cell === '' || !Number.isFinite(value) ? null : value;
  };
  const scale = (value: number | null, factor: number) => (value === null ? null : value * factor);
  return {
    name,
    totalBytes: scale(number(totalMiB), mebibyte),
    usedBytes: scale(number(usedMiB), mebibyte),
    utilization: scale(number(utilizationPercent), 0.01),
    temperatureCelsius: number(temperature),
    driver: driver === undefined || driver === '' ? null : driver,
  };
}

/** Reads the first card under `/sys/class/drm` that states its memory (the amdgpu driver does). */
export function createSysfsProbe(root = '/sys/class/drm'): GpuProbe {
  return {
    source: 'sysfs',
    async read() {
      const cards = await readdir(root).catch(() => [] as string[]);
      for (const card of cards.filter((name) => /^card\d+$/.test(name)).sort()) {
        const device = path.join(root, card, 'device');
        const number = async (file: string) => {
          const text = await readFile(path.join(device, file), 'utf8').catch(() => '');
          return text.trim() === '' || !Number.isFinite(Number(text)) ? null : Number(text);
        };
        const totalBytes = await number('mem_info_vram_total');
        if (totalBytes === null) continue;
        const busyPercent = await number('gpu_busy_percent');
        const product = (await readFile(path.join(device, 'product_name'), 'utf8').catch(() => '')).trim();
        return {
          name: product === '' ? card : product,
          totalBytes,
          usedBytes: await number('mem_info_vram_used'),
          utilization: busyPercent === null ? null : busyPercent / 100,
          temperatureCelsius: null,
          driver: null,
        };
      }
      return null;
    },
  };
}
