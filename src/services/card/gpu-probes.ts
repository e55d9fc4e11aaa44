import { execFile } from 'node:child_process';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { gibibyte, mebibyte } from '../../lib/units.js';
import type { GpuProbe, GpuReading } from './gpu-monitor.js';

const run = promisify(execFile);
const query = 'uuid,name,memory.total,memory.used,utilization.gpu,temperature.gpu,driver_version,power.draw';

interface NvidiaSmiOptions {
  command?: string;
  timeoutMs?: number;
  /** CUDA_VISIBLE_DEVICES, which decides what card the engines compute on: the first it names. */
  visible?: string | undefined;
}

/**
 * Reads the NVIDIA GPU that engines compute on through `nvidia-smi`, which speaks NVML without a native binding.
 * Absent tool, absent driver or a hanging driver (`timeoutMs`) all read as "no GPU to be seen".
 */
export function createNvidiaSmiProbe(options: NvidiaSmiOptions = {}): GpuProbe {
  const { command = 'nvidia-smi', timeoutMs = 2000, visible } = options;
  const ask = async (...given: string[]) =>
    (await run(command, given, { timeout: timeoutMs, killSignal: 'SIGKILL' })).stdout;
  return {
    source: 'nvidia-smi',
    async read() {
      try {
        const cards = await ask(`--query-gpu=${query}`, '--format=csv,noheader,nounits');
        return chooseCard(cards, visible, () => ask('-L'));
      } catch {
        return null;
      }
    },
    async processes() {
      try {
        return parseComputeApps(
          await ask('--query-compute-apps=pid,used_gpu_memory', '--format=csv,noheader,nounits'),
        );
      } catch {
        return null;
      }
    },
  };
}

/**
 * The card that CUDA's device 0 is, of `nvidia-smi`'s lines. Engines run with CUDA_DEVICE_ORDER=PCI_BUS_ID, so that
 * numbers mean the same to both. Null where nothing is visible.
 */
async function chooseCard(
  listing: string,
  visible: string | undefined,
  listParts: () => Promise<string>,
): Promise<GpuReading | null> {
  const cards = listing.split('\n').filter((line) => line.trim() !== '');
  const uuidOf = (line: string) => line.split(',')[0]?.trim() ?? '';
  const first = visible?.split(',')[0]?.trim();
  if (first === undefined) return parseNvidiaSmi(cards[0] ?? '');
  if (/^\d+$/.test(first)) return parseNvidiaSmi(cards[Number(first)] ?? '');
  if (first.startsWith('GPU-'))
    return parseNvidiaSmi(cards.find((line) => uuidOf(line).startsWith(first)) ?? '');
  if (!first.startsWith('MIG-')) return null;
  const part = parseMigDevices(await listParts()).find(({ uuid }) => uuid.startsWith(first));
  const reading = parseNvidiaSmi(cards.find((line) => uuidOf(line) === part?.cardUuid) ?? '');
  if (part === undefined || reading === null) return null;
  // what is said of use and load is the whole card's
  return {
    ...reading,
    name: `${reading.name} (MIG ${part.profile})`,
    totalBytes: part.bytes,
    usedBytes: null,
    utilization: null,
  };
}

/** Of the gigabytes in a profile's name, such as 1g.10gb, a part is the driver's. */
const migUsableShare = 0.97;

/** MIG devices in the output of `nvidia-smi -L`, each with the card it is a part of. */
function parseMigDevices(listing: string) {
  let cardUuid = '';
  return listing.split('\n').flatMap((line) => {
    cardUuid = /^GPU \d+:.*\(UUID: (GPU-[^)]+)\)/.exec(line)?.[1] ?? cardUuid;
    const [, profile = '', size, uuid] = /^\s+MIG (\S*?(\d+)gb\S*)\s.*\(UUID: (MIG-[^)]+)\)/.exec(line) ?? [];
    return uuid === undefined
      ? []
      : [{ uuid, profile, cardUuid, bytes: Number(size) * gibibyte * migUsableShare }];
  });
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
export function parseNvidiaSmi(line: string): GpuReading | null {
  const [, name, totalMiB, usedMiB, utilizationPercent, temperature, driver, watts] = line
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
    powerWatts: number(watts),
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
        const sensors = (await readdir(path.join(device, 'hwmon')).catch(() => []))[0] ?? '';
        const number = async (file: string, unit = 1) => {
          const text = await readFile(path.join(device, file), 'utf8').catch(() => '');
          return text.trim() === '' || !Number.isFinite(Number(text)) ? null : Number(text) * unit;
        };
        const totalBytes = await number('mem_info_vram_total');
        if (totalBytes === null) continue;
        const product = (await readFile(path.join(device, 'product_name'), 'utf8').catch(() => '')).trim();
        return {
          name: product === '' ? card : product,
          totalBytes,
          usedBytes: await number('mem_info_vram_used'),
          utilization: await number('gpu_busy_percent', 1 / 100),
          temperatureCelsius: await number(path.join('hwmon', sensors, 'temp1_input'), 1 / 1000),
          powerWatts: await number(path.join('hwmon', sensors, 'power1_average'), 1 / 1e6),
          driver: null,
        };
      }
      return null;
    },
  };
}
