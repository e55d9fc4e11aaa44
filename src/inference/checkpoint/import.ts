import { existsSync } from 'node:fs';
import {
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  realpath,
  rename,
  rm,
  stat,
  symlink,
} from 'node:fs/promises';
import path from 'node:path';
import { adapterAt, isAdapter, readImageEncoder } from './parts.js';
import { requireFinite } from './safetensors.js';
import { CheckpointError, type TensorEntry } from './tensor-table.js';
import { EngineFailure } from '../engine.js';
import { findModelGraphs } from '../graphs/model-graphs.js';
import {
  adapterFolder,
  type DrawingEngine,
  findAdapter,
  originalLayout,
  weightsFile,
} from './model-layout.js';

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
  /** Not a model, but what adds references to one that is there. */
  isAdapter: boolean;
  folder: string;
  tensors: number;
  bytes: number;
  /** Files that are the source's own, on another disk: it must stay where it is. */
  stillThere: number;
}

const isWeights = (name: string) => /\.(safetensors|pth|bin|onnx|onnx_data)$/.test(name);

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
  const [only = ''] = files.size === 1 ? files.values() : [];
  if (only === path.resolve(source) && (await isAdapter(only))) return importAdapter(only, options);
  const staging = path.join(modelsDir, '.incoming', `import-${process.pid}`);
  await rm(staging, { recursive: true, force: true });
  try {
    const stillThere = await place(files, staging);
    const engine = engineOf(staging, source);
    const folder = path.join(modelsDir, options.name ?? nameFor(engine, source));
    if (existsSync(folder) && !options.force)
      throw new CheckpointError(folder, 'is there already: take another name (--as) or --force');
    const read = () => findModelGraphs(engine, staging).check();
    const entries = await checked(read, options).catch(inTermsOf(source, staging));
    await rm(folder, { recursive: true, force: true });
    await rename(staging, folder);
    return { engine, isAdapter: false, folder, tensors: entries.length, bytes: bytesOf(entries), stillThere };
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

const bytesOf = (entries: readonly TensorEntry[]) => entries.reduce((sum, { length }) => sum + length, 0);

/** Says what is wrong with the source instead of where it lies for now. */
const inTermsOf = (source: string, folder: string) => (error: unknown) => {
  if (!(error instanceof CheckpointError || error instanceof EngineFailure)) throw error;
  throw new CheckpointError(path.resolve(source), error.message.replaceAll(`${folder}${path.sep}`, ''));
};

/**
 * Puts an IP-Adapter into the folder of the model that `name` names, with its image encoder.
 * @throws CheckpointError when it does not fit that model, or no image encoder is beside it
 */
async function importAdapter(file: string, options: ImportOptions): Promise<Imported> {
  const { modelsDir, name = '', force } = options;
  const model = [name, `${name}.safetensors`]
    .filter((each) => name !== '' && existsSync(path.join(modelsDir, each)))
    .map((each) => path.join(modelsDir, each))[0];
  if (model === undefined)
    throw new CheckpointError(
      file,
      'is an IP-Adapter, which adds references to an SDXL model: name one of the models folder (--as NAME)',
    );
  const folder = adapterFolder(model);
  if (findAdapter(model) !== undefined && !force)
    throw new CheckpointError(folder, 'has an adapter already: --force replaces it');
  const staging = path.join(modelsDir, '.incoming', `import-${process.pid}`);
  const [fresh, old] = [path.join(staging, 'ip_adapter'), path.join(staging, 'old')];
  await rm(staging, { recursive: true, force: true });
  try {
    const encoder = await encoderFor(file, model);
    const named = new Map([[path.basename(file), file]]);
    if (path.dirname(encoder) !== model)
      for (const [inside, each] of await filesOf(encoder))
        if (/\.(safetensors|json)$/.test(inside)) named.set(path.join('image_encoder', inside), each);
    const stillThere = await place(named, fresh);
    if (existsSync(folder)) await rename(folder, old);
    await rename(fresh, folder);
    try {
      const entries = await checked(() => adapterEntries(model), options).catch(inTermsOf(file, folder));
      const bytes = bytesOf(entries);
      return { engine: 'sdxl', isAdapter: true, folder, tensors: entries.length, bytes, stillThere };
    } catch (error) {
      await rm(folder, { recursive: true });
      if (existsSync(old)) await rename(old, folder);
      throw error;
    }
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

/** Everything that a model's adapter consists of, once it is known to fit the model. */
async function adapterEntries(model: string) {
  const graphs = findModelGraphs('sdxl', model);
  if (typeof (await graphs.required('unet/model', 'cpu')) === 'string')
    throw new CheckpointError(model, 'has an exported UNet, which no adapter can be added to');
  await graphs.required('image_encoder/model', 'cpu');
  const at = findAdapter(model) as NonNullable<ReturnType<typeof findAdapter>>;
  const { attention } = await adapterAt(at);
  return [...attention, ...(await readImageEncoder(at))].map(([name, entry]) => ({ ...entry, name }));
}

/** Beside the adapter, as its publisher's repository has them, or the model's own; the one that fits where one does. */
async function encoderFor(file: string, model: string): Promise<string> {
  const beside = ['image_encoder', '../models/image_encoder', '../image_encoder'].map((each) =>
    path.join(path.dirname(file), each),
  );
  const own = [path.join(model, 'image_encoder'), path.join(adapterFolder(model), 'image_encoder')];
  const found = [...beside, ...own].filter((folder) => weightsFile(folder) !== undefined);
  const { projection } = await adapterAt({ files: [file], encoder: '' });
  const wanted = (projection.get('image_proj.proj.weight') ?? projection.get('image_proj.proj_in.weight'))
    ?.shape[1];
  const gives = projection.has('image_proj.proj.weight') ? 'projection_dim' : 'hidden_size';
  for (const folder of found) {
    const text = await readFile(path.join(folder, 'config.json'), 'utf8').catch(() => '{}');
    if ((JSON.parse(text) as Record<string, unknown>)[gives] === wanted) return folder;
  }
  if (found[0] !== undefined) return found[0];
  throw new CheckpointError(
    file,
    'needs the image encoder it was trained with: put config.json and model.safetensors into image_encoder beside it',
  );
}

async function checked(
  read: () => Promise<(TensorEntry & { name: string })[]>,
  { onTotal, onBytes, signal }: ImportOptions,
) {
  const entries = await read();
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
