import { spawnSync } from 'node:child_process';
import { readConfig } from '../../src/config.js';
import { cudaEnvironment, findCudaRuntime } from '../../src/lib/cuda-runtime.js';
import { readEnvironment } from '../../src/lib/environment.js';

/**
 * Starts the program once more with the libraries of `ourvidz setup cuda`, where this process lacks them: the loader
 * reads where libraries lie when a process starts.
 */
export function withCudaLibraries(device: string): void {
  if (device !== 'cuda') return;
  const cuda = cudaEnvironment(findCudaRuntime(readConfig(readEnvironment()).cudaDir), process.env);
  if (Object.keys(cuda).every((name) => process.env[name] !== undefined)) return;
  const env = { ...process.env, ...cuda };
  process.exit(spawnSync(process.execPath, process.argv.slice(1), { env, stdio: 'inherit' }).status ?? 1);
}
