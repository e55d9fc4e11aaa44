import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import { projectRoot } from '../../lib/project.js';
import { CliError, exitCodes } from '../output.js';

/** A file of a package index, pinned: whatever an index or a mirror says, only these bytes are taken. */
export interface PinnedPackage {
  name: string;
  version: string;
  file: string;
  bytes: number;
  sha256: string;
  unpackedBytes: number;
}

/** Everything one generation of drivers needs, as models/cuda.json lists it. */
export interface CudaSet {
  name: string;
  /** CUDA version the provider was built for. */
  cuda: string;
  /** First number of the oldest driver that runs it. */
  minimumDriver: number;
  /** Version of ONNX Runtime, of the provider and of the binding alike. */
  runtime: string;
  /** Wheels of PyPI, with what is taken out of each. */
  packages: Array<PinnedPackage & { entries: string[] }>;
  /** Packages of npm, where the binding is not the one the service installs. */
  binding?: PinnedPackage[];
}

export function readCudaSets(): CudaSet[] {
  const file = path.join(projectRoot(), 'models/cuda.json');
  return (JSON.parse(readFileSync(file, 'utf8')) as { sets: CudaSet[] }).sets;
}

/** Version of the NVIDIA driver, e.g. `580.95.05`; null without one. */
export async function readDriver(): Promise<string | null> {
  const asked = await promisify(execFile)(
    'nvidia-smi',
    ['--query-gpu=driver_version', '--format=csv,noheader'],
    { timeout: 20_000 },
  ).then(
    ({ stdout }) => stdout,
    () => '',
  );
  const said = asked.split('\n')[0]?.trim() ?? '';
  if (/^\d+\.[\d.]+$/.test(said)) return said;
  const kernel = await readFile('/proc/driver/nvidia/version', 'utf8').catch(() => '');
  return /Kernel Module(?: for \S+)?\s+(\d+\.[\d.]+)/.exec(kernel)?.[1] ?? null;
}

/**
 * The newest set that the driver runs, or the one asked for.
 * @throws CliError `failed` with the driver that is needed
 */
export function chooseCudaSet(
  sets: readonly CudaSet[],
  driver: string | null,
  wanted: string | undefined,
): CudaSet {
  const newestFirst = [...sets].sort((a, b) => b.minimumDriver - a.minimumDriver);
  if (wanted !== undefined) {
    const set = sets.find(({ name }) => name === wanted);
    if (set !== undefined) return set;
    const names = sets.map(({ name }) => name).join(' or ');
    throw new CliError(`There is no set ${wanted}: use ${names}`, exitCodes.usage);
  }
  if (driver === null)
    throw new CliError(
      'No NVIDIA driver answers here. In a container, start it with --gpus all; on the machine itself, install ' +
        `the driver (${newestFirst[0]?.minimumDriver} or newer). To fetch the files anyway, for an image or ` +
        `another machine, name the set: --set ${newestFirst[0]?.name}`,
      exitCodes.failed,
    );
  const version = Number.parseInt(driver, 10);
  const set = newestFirst.find(({ minimumDriver }) => version >= minimumDriver);
  if (set !== undefined) return set;
  throw new CliError(
    `The NVIDIA driver here is ${driver}; ${newestFirst.at(-1)?.minimumDriver} or newer is needed. Update the ` +
      'driver, or choose a machine with a newer one.',
    exitCodes.failed,
  );
}
