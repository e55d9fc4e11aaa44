import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import path from 'node:path';
import { ArchitectureError, type Graph } from './graph.js';
import type { Form } from './lowering.js';
import { architectures } from './architectures.js';
import {
  adapterAt,
  currentWanConfig,
  imageLayers,
  markedSchedule,
  readImageEncoder,
  readOriginal,
  readPart,
  withAdapter,
} from '../checkpoint/parts.js';
import { type PackedTensor, type PackProgress, packWeights } from '../checkpoint/packed-weights.js';
import { CheckpointError, type TensorEntry, type TensorTable } from '../checkpoint/tensor-table.js';
import { EngineFailure, type EngineLog } from '../engine.js';
import type { Device } from '../engine-protocol.js';
import {
  type DrawingEngine,
  findAdapter,
  modelFile,
  originalLayout,
  packedFolder,
  packedPlace,
  weightsFile,
} from '../checkpoint/model-layout.js';
import type { BuiltGraph } from '../onnx/session.js';

/** An exported graph's file, or a graph that was built here over a checkpoint's weights. */
export type GraphSource = string | BuiltGraph;

interface BuildOptions extends PackProgress {
  /** Another form than the device's own. */
  form?: Form;
}

/**
 * The graphs of a model folder by their names in docs/export.md, without `.onnx`: those that were exported, and for
 * the others those that are built from `config.json` and the weights beside it.
 */
export type ModelGraphs = ReturnType<typeof findModelGraphs>;

export function findModelGraphs(engine: DrawingEngine, given: string) {
  // graphs name their weights' files by absolute path
  const folder = path.resolve(given);
  const adapter = engine === 'sdxl' ? findAdapter(folder) : undefined;
  const tables = new Map<string, Promise<TensorTable | null>>();
  const tableOf = (part: string) => {
    const table = tables.get(part) ?? readTable(part);
    tables.set(part, table);
    return table;
  };
  const file = (name: string) => modelFile(engine, folder, name);

  async function readTable(part: string): Promise<TensorTable | null> {
    if (part === 'image_encoder') return adapter === undefined ? null : readImageEncoder(adapter);
    const original = originalLayout(engine, folder);
    const weights = weightsFile(path.join(folder, part));
    const table =
      original !== undefined
        ? await readOriginal(engine, original, part)
        : weights === undefined
          ? undefined
          : await readPart(weights);
    if (table === undefined) return null;
    return part === 'unet' && adapter !== undefined ? withAdapter(table, await adapterAt(adapter)) : table;
  }

  async function config<T>(name: string): Promise<T> {
    const value: unknown = JSON.parse(await readFile(file(name), 'utf8'));
    const original = originalLayout(engine, folder);
    if (name === 'scheduler/scheduler_config.json' && engine === 'sdxl' && original !== undefined)
      // the file's own marks stand above what the service has for all, not above what lies beside it
      return {
        ...(value as T),
        ...(existsSync(path.join(folder, name)) ? {} : await markedSchedule(original)),
      };
    return (name === 'transformer/config.json' ? currentWanConfig(value as object) : value) as T;
  }

  /** In the model's folder, or in the user's cache where nobody may write into that. */
  async function packBeside(file: string, tensors: PackedTensor[], how: BuildOptions): Promise<TensorTable> {
    if (tensors.length === 0) return new Map();
    const name = createHash('sha256').update(folder).digest('hex').slice(0, 16);
    const own = path.join(packedPlace(folder), file);
    const cached = path.join(homedir(), '.cache/ourvidz', packedFolder, name, file);
    const unwritable = (error: unknown) =>
      ['EACCES', 'EPERM', 'EROFS'].includes((error as NodeJS.ErrnoException).code ?? '');
    return packWeights(own, tensors, how)
      .catch((error: unknown) => {
        if (!unwritable(error)) throw error;
        return packWeights(cached, tensors, how);
      })
      .catch((error: unknown) => {
        if (!unwritable(error)) throw error;
        throw new CheckpointError(
          own,
          `holds weights in the form this device wants, and cannot be written here nor as ${cached}`,
        );
      });
  }

  async function build(name: string, device: Device, how: BuildOptions): Promise<BuiltGraph | null> {
    const builder = architectures[engine][name];
    if (builder === undefined) return null;
    const form = how.form ?? builder.forms[device];
    if (form === undefined) return null;
    const tensors = await tableOf(builder.part);
    if (tensors === null) return null;
    const settings = await config<never>(`${builder.part}/config.json`);
    const graph: Graph = builder.build(tensors, settings, form);
    const unused = builder.reads
      .flatMap((prefix) => graph.unused(prefix))
      .filter((each) => builder.leaves === undefined || !each.startsWith(builder.leaves));
    if (unused.length > 0)
      throw new ArchitectureError(
        `${name}: the checkpoint has ${unused.length} tensors that its configuration does not ask for: ` +
          unused.slice(0, 5).join(', '),
      );
    const packed = await packBeside(`${name.replace('/', '-')}-${device}.safetensors`, graph.packed, how);
    return { title: name, model: graph.encode(packed) };
  }

  return {
    file,
    /** A JSON file of the folder; Wan's own configuration is given under diffusers' names. */
    config,
    hasAdapter: adapter !== undefined,
    /** Layers that look at a reference, in the order of `ip_scale`; none where the UNet was exported. */
    async imageLayers(): Promise<string[]> {
      return imageLayers((await tables.get('unet')) ?? new Map());
    },
    /**
     * Null: the folder has neither such a graph nor weights for it.
     * @throws EngineFailure `model_invalid` naming the tensor or the setting, where a graph cannot be built
     */
    async graph(name: string, device: Device, how: BuildOptions = {}): Promise<GraphSource | null> {
      const exported = path.join(folder, `${name}.onnx`);
      if (existsSync(exported)) return exported;
      try {
        return await build(name, device, how);
      } catch (error) {
        if (error instanceof ArchitectureError || error instanceof CheckpointError)
          throw new EngineFailure('model_invalid', error.message, undefined, { cause: error });
        throw error;
      }
    },
    /**
     * Builds every graph that is to be built.
     * @returns the tensors behind them, each with its name
     * @throws EngineFailure as `graph` does
     */
    async check(): Promise<(TensorEntry & { name: string })[]> {
      for (const name of Object.keys(architectures[engine])) await this.graph(name, 'cpu');
      const read = await Promise.all(
        [...tables].map(async ([part, table]) => ({ part, table: await table })),
      );
      return read.flatMap(({ part, table }) =>
        [...(table ?? [])].map(([name, entry]) => ({ ...entry, name: `${name} (${part})` })),
      );
    },
    async required(name: string, device: Device, how: BuildOptions = {}): Promise<GraphSource> {
      const graph = await this.graph(name, device, how);
      if (graph === null) throw new EngineFailure('model_missing', `${folder} has no ${name}`);
      return graph;
    },
  };
}

/** Says once what is written before a graph opens for the first time: it takes seconds to minutes. */
export function packingNote(name: string, device: Device, log: EngineLog | undefined): PackProgress {
  let said = false;
  return {
    onBytes(_, total) {
      if (!said)
        log?.(
          'info',
          `writing ${name}'s weights once as ${device} wants them: ${(total / 1e9).toFixed(1)} GB`,
        );
      said = true;
    },
  };
}
