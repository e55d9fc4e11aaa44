import { execFile } from 'node:child_process';
import { createWriteStream, existsSync } from 'node:fs';
import { cp, mkdir, rename, rm, rmdir, statfs, writeFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { promisify } from 'node:util';
import { cudaRecord, findCudaRuntime, type CudaRuntime } from '../../lib/cuda-runtime.js';
import { versionIn } from '../../lib/project.js';
import { downloadFile } from '../models/download.js';
import { sizeOf, takeLock } from '../models/files.js';

import { gigabytes, nearestFolder } from '../models/pull.js';
import { CliError, exitCodes } from '../output.js';
import { asHubFile, type CudaSet, type PackageIndex, type PinnedPackage } from './packages.js';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { open, type Entry, type ZipFile } from 'yauzl';

/** Left free on the disk: the service's own files need some room. */
const spareBytes = 1 << 30;

export interface InstallOptions {
  cudaDir: string;
  index: PackageIndex;
  signal: AbortSignal;
  onBytes(count: number): void;
  note(text: string): void;
}

export const packagesOf = (set: CudaSet): PinnedPackage[] => [
  ...set.packages,
  ...(set.binding ?? []),
  ...set.llama,
];
export const downloadBytesOf = (set: CudaSet) => packagesOf(set).reduce((sum, { bytes }) => sum + bytes, 0);
export const unpackedBytesOf = (set: CudaSet) =>
  packagesOf(set).reduce((sum, { unpackedBytes }) => sum + unpackedBytes, 0);

/**
 * Fetches a set into `<cudaDir>/<set>` and makes it the one in use. Each file is checked, unpacked and thrown
 * away before the next, so an interrupted run goes on where it ended. The set stands in its folder only when
 * it is whole.
 */
export async function installCudaSet(set: CudaSet, options: InstallOptions): Promise<CudaRuntime> {
  const { cudaDir, signal } = options;
  const incoming = path.join(cudaDir, '.incoming', set.name);
  await mkdir(incoming, { recursive: true }).catch(explainFolder);
  const release = await takeLock(path.join(cudaDir, `${set.name}.lock`), `CUDA (${set.name})`);
  try {
    await requireSpace(set, incoming);
    for (const folder of ['lib', path.join('node_modules/onnxruntime-node', nativeFolder)])
      await mkdir(path.join(incoming, folder), { recursive: true });
    for (const each of set.packages) {
      await withPackage(each, incoming, options, async (file) => {
        await unpackWheel(
          file,
          each.entries,
          (entry) => path.join(incoming, targetOf(entry, each.name)),
          signal,
        );
      });
    }
    await placeModules(set, incoming, options);
    const folder = path.join(cudaDir, set.name);
    await rm(folder, { recursive: true, force: true });
    await rename(incoming, folder);
    const { name, runtime, cuda, minimumDriver } = set;
    const record: Omit<CudaRuntime, 'folder'> = { set: name, runtime, cuda, minimumDriver };
    await writeFile(path.join(cudaDir, cudaRecord), `${JSON.stringify(record, null, 2)}\n`);
    return { ...record, folder };
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOSPC')
      throw new CliError(
        `The disk is full. What has arrived is kept: free ${gigabytes(unpackedBytesOf(set))} under ${cudaDir} ` +
          'and run the command again',
        exitCodes.failed,
      );
    throw error;
  } finally {
    await release();
    // Only when nothing else is in progress there.
    await rmdir(path.dirname(incoming)).catch(() => {});
  }
}

/** The set that is here and whole already; null when it has to be fetched. */
export async function installedSet(set: CudaSet, cudaDir: string): Promise<CudaRuntime | null> {
  const runtime = findCudaRuntime(cudaDir);
  if (runtime === null || runtime.set !== set.name || runtime.runtime !== set.runtime) return null;
  for (const { name, version } of set.llama)
    if (versionIn(path.join(runtime.folder, 'node_modules', name)) !== version) return null;
  for (const { entries } of set.packages)
    for (const entry of entries.filter(isLibrary))
      if ((await sizeOf(path.join(runtime.folder, targetOf(entry, '')))) === null) return null;
  return runtime;
}

/** Downloads one package and hands it over; does nothing where an earlier run already has. */
async function withPackage(
  pinned: PinnedPackage,
  incoming: string,
  { index, signal, onBytes, note }: InstallOptions,
  use: (file: string) => Promise<void>,
): Promise<void> {
  const done = path.join(incoming, `.${pinned.file}.done`);
  if ((await sizeOf(done)) !== null) return onBytes(pinned.bytes);
  const file = path.join(incoming, pinned.file);
  await downloadFile(asHubFile(pinned), file, {
    hub: {
      endpoint: index.endpoint,
      open: (_repository, _commit, _file, offset) => index.open(pinned, offset, signal),
    },
    repository: pinned.name,
    commit: pinned.version,
    signal,
    onBytes,
    note,
  });
  await use(file);
  await writeFile(done, '');
  await rm(file);
}

/**
 * The binding beside its provider: a copy of the service's own, or the one of the set's version. And llama.cpp's
 * CUDA build, which engines find here (`src/inference/llama/runtime.ts`).
 */
async function placeModules(set: CudaSet, incoming: string, options: InstallOptions): Promise<void> {
  const modules = path.join(incoming, 'node_modules');
  if (set.binding === undefined) {
    for (const name of ['onnxruntime-node', 'onnxruntime-common'] as const) {
      const from = folderOfPackage(name);
      await cp(path.join(from, 'package.json'), path.join(modules, name, 'package.json'));
      await cp(path.join(from, 'dist'), path.join(modules, name, 'dist'), { recursive: true });
      const native = path.join(from, nativeFolder);
      if (existsSync(native)) await cp(native, path.join(modules, name, nativeFolder), { recursive: true });
    }
  }
  for (const each of [...(set.binding ?? []), ...set.llama]) {
    await withPackage(each, incoming, options, async (file) => {
      const target = path.join(modules, each.name);
      await mkdir(target, { recursive: true });
      await promisify(execFile)('tar', [
        '-xzf',
        file,
        '-C',
        target,
        '--strip-components=1',
        '--no-same-owner',
      ]);
    });
  }
  await writeFile(path.join(incoming, 'package.json'), '{ "private": true }\n');
}

/** Folder of one of the service's own packages; its package.json need not be exported. */
function folderOfPackage(name: string): string {
  const main = createRequire(import.meta.url).resolve(name);
  return main.slice(0, main.lastIndexOf(`${path.sep}${name}${path.sep}`) + name.length + 1);
}

const nativeFolder = path.join('bin', 'napi-v6', process.platform, process.arch);
const isLibrary = (entry: string) => entry.includes('.so');

/**
 * Where an entry of a wheel goes in the set's folder: the provider beside the binding, all else to the
 * loader's path.
 */
function targetOf(entry: string, packageName: string): string {
  if (!isLibrary(entry)) return `LICENCE-${packageName}.txt`;
  const name = path.basename(entry);
  return name.startsWith('libonnxruntime_providers_')
    ? path.join('node_modules/onnxruntime-node', nativeFolder, name)
    : path.join('lib', name);
}

async function requireSpace(set: CudaSet, incoming: string): Promise<void> {
  const { bavail, bsize } = await statfs(nearestFolder(incoming));
  const largest = Math.max(...packagesOf(set).map(({ bytes }) => bytes));
  const [needed, free] = [unpackedBytesOf(set) + largest + spareBytes, bavail * bsize];
  if (needed <= free) return;
  throw new CliError(
    `CUDA (${set.name}) needs ${gigabytes(needed)} under ${incoming}, ${gigabytes(free)} are free: ` +
      'free some space, or choose another disk with --to or CUDA_DIR',
    exitCodes.failed,
  );
}

function explainFolder(error: NodeJS.ErrnoException): never {
  if (error.code !== 'EACCES' && error.code !== 'EROFS') throw error;
  throw new CliError(
    `${error.path} cannot be written: choose another folder with --to or CUDA_DIR`,
    exitCodes.failed,
  );
}

/**
 * Takes single files out of a wheel (a zip file), each under the last part of its name, or the name `rename`
 * gives it.
 * @throws CliError `failed` when one of them is not in it
 */
async function unpackWheel(
  file: string,
  entries: readonly string[],
  targetOf: (entry: string) => string,
  signal: AbortSignal,
): Promise<void> {
  const missing = new Set(entries);
  const zip = await openZip(file);
  try {
    for await (const entry of entriesOf(zip)) {
      if (!missing.delete(entry.fileName)) continue;
      const target = targetOf(entry.fileName);
      await pipeline(await openEntry(zip, entry), createWriteStream(target, { mode: 0o644 }), { signal });
    }
  } finally {
    zip.close();
  }
  if (missing.size === 0) return;
  throw new CliError(`${path.basename(file)} lacks ${[...missing].join(', ')}`, exitCodes.serviceError);
}

function openZip(file: string): Promise<ZipFile> {
  return new Promise((resolve, reject) => {
    open(file, { lazyEntries: true, autoClose: false }, (error, zip) => {
      if (error !== null) reject(error);
      else resolve(zip);
    });
  });
}

async function* entriesOf(zip: ZipFile): AsyncGenerator<Entry> {
  for (;;) {
    const entry = await new Promise<Entry | null>((resolve, reject) => {
      zip
        .once('entry', resolve)
        .once('end', () => resolve(null))
        .once('error', reject);
      zip.readEntry();
    }).finally(() => zip.removeAllListeners());
    if (entry === null) return;
    yield entry;
  }
}

function openEntry(zip: ZipFile, entry: Entry): Promise<Readable> {
  return new Promise((resolve, reject) => {
    zip.openReadStream(entry, (error, stream) => {
      if (error !== null) reject(error);
      else resolve(stream);
    });
  });
}
