/** Samples the used memory of one GPU while something runs; without nvidia-smi everything is null. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

/**
 * @returns `stop()` -> bytes used before and the most seen since, of the whole GPU (all processes); the first
 * one, which WebGPU takes
 */
export function watchGpuMemory(intervalMs = 200, gpu = 0) {
  const child = spawn(
    'nvidia-smi',
    [`--id=${gpu}`, '--query-gpu=memory.used', '--format=csv,noheader,nounits', `--loop-ms=${intervalMs}`],
    { stdio: ['ignore', 'pipe', 'ignore'] },
  );
  let first: number | null = null;
  let most: number | null = null;
  child.on('error', () => {});
  createInterface({ input: child.stdout }).on('line', (line) => {
    const bytes = Number(line.trim()) * 2 ** 20;
    if (!Number.isFinite(bytes)) return;
    first ??= bytes;
    most = Math.max(most ?? 0, bytes);
  });
  return {
    stop(): { beforeBytes: number | null; peakBytes: number | null } {
      // without a process of its own the signal would go to this one's group
      if (child.pid !== undefined) child.kill();
      return { beforeBytes: first, peakBytes: most };
    },
  };
}
