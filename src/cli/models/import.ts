import { existsSync } from 'node:fs';
import { copyFile, link, mkdir, open, readdir, rename, rm, stat, symlink } from 'node:fs/promises';
import path from 'node:path';
import { CliError, exitCodes } from '../output.js';
import { CheckpointError, type TensorEntry } from '../../inference/checkpoint/tensor-table.js';
import { describeFailure } from '../../inference/engine.js';
import { findModelGraphs } from '../../inference/graphs/model-graphs.js';
import { type DrawingEngine, originalLayout, weightsFile } from '../../inference/model-layout.js';

export interface ImportOptions {
  modelsDir: string;
  /** Folder name in the models folder; chosen from the source's where absent. */
  name?: string | undefined;
  /** Replace what stands there. */
  force: boolean;
  /** Told once how many bytes will be read. */
  onTotal(bytes: number): void;
  onBytes(count: number): void;
  signal: AbortSignal;
}

export interface Imported {
  engine: DrawingEngine;
  folder: string;
  tensors: number;
  bytes: number;
  /** Files that are the source's own, on another disk: it must stay where it is. */
  stillThere: number;
}

const isWeights = (name: string) => /\.(safetensors|pth|onnx|onnx_data)$/.test(name);

/**
 * Makes a model folder of a checkpoint: its graphs can be built, none of its values is infinite or no number. Weights
 * are not copied: they get a second name where the disk is the same, else a link to where they lie.
 * @throws CliError naming the file and the tensor that is wrong; nothing is left behind then
 */
export async function importCheckpoint(source: string, options: ImportOptions): Promise<Imported> {
  const { modelsDir, signal } = options;
  const files = await filesOf(source);
  const staging = path.join(modelsDir, '.incoming', `import-${process.pid}`);
  await rm(staging, { recursive: true, force: true });
  try {
    const stillThere = await place(files, staging);
    const engine = engineOf(staging, source);
    const entries = await findModelGraphs(engine, staging)
      .check()
      .catch((error: unknown) => refuse(source, staging, describeFailure(error).message));
    const bytes = entries.reduce((sum, { length }) => sum + length, 0);
    options.onTotal(bytes);
    for (const entry of entries) await requireFinite(entry, options.onBytes, signal);
    const folder = path.join(modelsDir, options.name ?? nameFor(engine, source));
    if (existsSync(folder) && !options.force)
      throw new CliError(`${folder} is there already: take another name (--as) or --force`, exitCodes.failed);
    await rm(folder, { recursive: true, force: true });
    await rename(staging, folder);
    return { engine, folder, tensors: entries.length, bytes, stillThere };
  } catch (error) {
    if (error instanceof CheckpointError) refuse(source, staging, error.message);
    throw error;
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

function refuse(source: string, staging: string, problem: string): never {
  const message = problem.replaceAll(staging, path.resolve(source));
  throw new CliError(`${source} is not imported: ${message}`, exitCodes.failed);
}

/** Relative name -> absolute place. */
async function filesOf(source: string): Promise<Map<string, string>> {
  const info = await stat(source).catch(() => null);
  if (info === null) throw new CliError(`${source} is not there`, exitCodes.usage);
  if (info.isFile()) return new Map([[path.basename(source), path.resolve(source)]]);
  const entries = await readdir(source, { recursive: true, withFileTypes: true });
  const files = entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => path.resolve(entry.parentPath, entry.name))
    .map((file): [string, string] => [path.relative(source, file), file]);
  return new Map(files.filter(([name]) => !name.split(path.sep).some((part) => part.startsWith('.'))));
}

/** @returns how many weights are only linked to */
async function place(files: ReadonlyMap<string, string>, folder: string): Promise<number> {
  let linked = 0;
  for (const [name, file] of files) {
    const target = path.join(folder, name);
    await mkdir(path.dirname(target), { recursive: true });
    if (!isWeights(name)) await copyFile(file, target);
    else
      await link(file, target).catch(async () => {
        linked += 1;
        await symlink(file, target);
      });
  }
  return linked;
}

function engineOf(folder: string, source: string): DrawingEngine {
  for (const [engine, part] of [['sdxl', 'unet'], ['wan', 'transformer']] as const)
    if (weightsFile(path.join(folder, part)) !== undefined || originalLayout(engine, folder) !== undefined)
      return engine;
  throw new CliError(
    `${source} is no checkpoint that is known here: a single-file SDXL (.safetensors), a diffusers folder of SDXL ` +
      "or Wan 2.1, or Wan's own folder",
    exitCodes.failed,
  );
}

/** A name that the service recognises the engine by. */
function nameFor(engine: DrawingEngine, source: string): string {
  const stem = path.basename(path.resolve(source), '.safetensors').replaceAll(/[^\w.-]+/g, '-');
  return stem.toLowerCase().startsWith(engine) ? stem : `${engine}-${stem}`;
}

const chunkBytes = 8 << 20;

/** Masks of the exponent, all of whose bits are set in what is infinite or no number. */
const exponents: Partial<Record<TensorEntry['dtype'], { view: typeof Uint16Array | typeof Uint32Array; mask: number }>> = {
  F16: { view: Uint16Array, mask: 0x7c00 },
  BF16: { view: Uint16Array, mask: 0x7f80 },
  F32: { view: Uint32Array, mask: 0x7f800000 },
};

async function requireFinite(entry: TensorEntry & { name: string }, onBytes: (count: number) => void, signal: AbortSignal): Promise<void> {
  const kind = exponents[entry.dtype];
  const handle = await open(entry.file);
  const buffer = new ArrayBuffer(Math.min(chunkBytes, entry.length));
  try {
    for (let done = 0; done < entry.length;) {
      signal.throwIfAborted();
      const wanted = Math.min(chunkBytes, entry.length - done);
      const { bytesRead } = await handle.read(new Uint8Array(buffer), 0, wanted, entry.offset + done);
      if (bytesRead !== wanted) throw new CheckpointError(entry.file, 'ends too early');
      if (kind !== undefined && hasExtreme(new kind.view(buffer, 0, wanted / kind.view.BYTES_PER_ELEMENT), kind.mask))
        throw new CheckpointError(entry.file, `tensor ${entry.name} has values that are infinite or no number`);
      done += wanted;
      onBytes(wanted);
    }
  } finally {
    await handle.close();
  }
}

function hasExtreme(values: Uint16Array | Uint32Array, mask: number): boolean {
  for (let i = 0; i < values.length; i += 1) if (((values[i] as number) & mask) === mask) return true;
  return false;
}
