import { existsSync } from 'node:fs';
import { copyFile, link, mkdir, open, readdir, realpath, rename, rm, stat, symlink } from 'node:fs/promises';
import path from 'node:path';
import { CheckpointError, type TensorEntry } from './tensor-table.js';
import { EngineFailure } from '../engine.js';
import { findModelGraphs } from '../graphs/model-graphs.js';
import { type DrawingEngine, originalLayout, weightsFile } from './model-layout.js';

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
 * @throws CheckpointError naming the file and the tensor that is wrong; nothing is left behind then
 */
export async function importCheckpoint(source: string, options: ImportOptions): Promise<Imported> {
  const { modelsDir } = options;
  if (options.name !== undefined && !/^\w[\w.-]*$/.test(options.name))
    throw new CheckpointError(options.name, 'is no name for a folder: letters, digits, - _ and . are');
  const files = await filesOf(source);
  const staging = path.join(modelsDir, '.incoming', `import-${process.pid}`);
  await rm(staging, { recursive: true, force: true });
  try {
    const stillThere = await place(files, staging);
    const engine = engineOf(staging, source);
    const folder = path.join(modelsDir, options.name ?? nameFor(engine, source));
    if (existsSync(folder) && !options.force)
      throw new CheckpointError(folder, 'is there already: take another name (--as) or --force');
    const entries = await checked(engine, staging, options).catch((error: unknown) => {
      if (!(error instanceof CheckpointError || error instanceof EngineFailure)) throw error;
      throw new CheckpointError(path.resolve(source), error.message.replaceAll(`${staging}${path.sep}`, ''));
    });
    await rm(folder, { recursive: true, force: true });
    await rename(staging, folder);
    return { engine, folder, tensors: entries.length, bytes: bytesOf(entries), stillThere };
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

const bytesOf = (entries: readonly TensorEntry[]) => entries.reduce((sum, { length }) => sum + length, 0);

async function checked(engine: DrawingEngine, folder: string, { onTotal, onBytes, signal }: ImportOptions) {
  const entries = await findModelGraphs(engine, folder).check();
  onTotal(bytesOf(entries));
  for (const entry of entries) await requireFinite(entry, onBytes, signal);
  return entries;
}

/** Relative name -> absolute place. */
async function filesOf(source: string): Promise<Map<string, string>> {
  const info = await stat(source).catch(() => null);
  if (info === null) throw new CheckpointError(source, 'is not there');
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
  for (const [name, given] of files) {
    // other tools' caches are full of links
    const file = await realpath(given);
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
  for (const [engine, part] of [
    ['wan', 'transformer'],
    ['sdxl', 'unet'],
  ] as const)
    if (weightsFile(path.join(folder, part)) !== undefined || originalLayout(engine, folder) !== undefined)
      return engine;
  throw new CheckpointError(
    source,
    'is no checkpoint that is known here: a single-file SDXL (.safetensors), a diffusers folder of SDXL or Wan 2.1, ' +
      "or Wan's own folder",
  );
}

/** A name that the service recognises the engine by. */
function nameFor(engine: DrawingEngine, source: string): string {
  const stem = path.basename(path.resolve(source), '.safetensors').replaceAll(/[^\w.-]+/g, '-');
  return stem.toLowerCase().startsWith(engine) ? stem : `${engine}-${stem}`;
}

const chunkBytes = 8 << 20;

/** Masks of the exponent, all of whose bits are set in what is infinite or no number. */
const exponents: Partial<
  Record<TensorEntry['dtype'], { view: typeof Uint16Array | typeof Uint32Array; mask: number }>
> = {
  F16: { view: Uint16Array, mask: 0x7c00 },
  BF16: { view: Uint16Array, mask: 0x7f80 },
  F32: { view: Uint32Array, mask: 0x7f800000 },
};

async function requireFinite(
  entry: TensorEntry & { name: string },
  onBytes: (count: number) => void,
  signal: AbortSignal,
): Promise<void> {
  const kind = exponents[entry.dtype];
  const handle = await open(entry.file);
  const buffer = new ArrayBuffer(Math.min(chunkBytes, entry.length));
  try {
    for (let done = 0; done < entry.length;) {
      signal.throwIfAborted();
      const wanted = Math.min(chunkBytes, entry.length - done);
      const { bytesRead } = await handle.read(new Uint8Array(buffer), 0, wanted, entry.offset + done);
      if (bytesRead !== wanted) throw new CheckpointError(entry.file, 'ends too early');
      if (
        kind !== undefined &&
        hasExtreme(new kind.view(buffer, 0, wanted / kind.view.BYTES_PER_ELEMENT), kind.mask)
      )
        throw new CheckpointError(
          entry.file,
          `tensor ${entry.name} has values that are infinite or no number`,
        );
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
