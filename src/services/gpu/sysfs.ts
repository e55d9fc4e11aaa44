import { readFile, readdir } from 'node:fs/promises';
import path from 'node:path';
import type { GpuProbe } from './types.js';

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
