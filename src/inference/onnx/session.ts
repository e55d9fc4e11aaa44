import { createRequire } from 'node:module';
import path from 'node:path';
import type * as Ort from 'onnxruntime-node';
import { floatsToHalves, halvesToFloats } from '../diffusion/floats.js';
import type { Device } from '../engine-protocol.js';

/** Set by the service after `ourvidz setup cuda`: the folder of a binding with its CUDA provider. */
const folder = process.env['OURVIDZ_ONNX_RUNTIME'];
const requireRuntime = createRequire(
  folder === undefined ? import.meta.url : path.join(folder, 'package.json'),
);

export const { InferenceSession, Tensor } = requireRuntime('onnxruntime-node') as typeof Ort;
export type InferenceSession = Ort.InferenceSession;
export type Tensor = Ort.Tensor;

/** Where the binding lies, and its provider beside it. */
export const bindingFolder = path.join(
  path.dirname(requireRuntime.resolve('onnxruntime-node')),
  '..',
  'bin/napi-v6',
  process.platform,
  process.arch,
);

/** A tensor as the pipelines hold it: float32 or integers, whatever type the graph asks for at its border. */
export interface Values {
  data: Float32Array | readonly number[];
  dims: readonly number[];
}

export interface FloatTensor {
  data: Float32Array;
  dims: readonly number[];
}

/**
 * An output that stays as the runtime made it, on the device where it can: to be fed to a later run, and then
 * disposed of.
 */
export type KeptTensor = Tensor;

withUint16ForHalves();

/** What this process has spent inside the runtime's own calls; the rest of a job's time is ours. */
export const graphCalls = { count: 0, seconds: 0 };

/** A graph that was built here, in memory; its weights lie in the checkpoint's files, by absolute path. */
export interface BuiltGraph {
  title: string;
  model: Uint8Array;
}

export type OnnxSession = Awaited<ReturnType<typeof openSession>>;

interface SessionOptions {
  device: Device;
  threads: number;
  /**
   * Outputs that later runs take back; they stay in device memory where the provider allows (webgpu; the
   * binding has no such path for cuda).
   */
  keepOnDevice?: (output: string) => boolean;
  /**
   * CPU: memory of a run goes back to the system when it ends, instead of staying with the session for the
   * next one.
   */
  returnMemory?: boolean;
}

/**
 * Opens a graph on one device. Names, types and ranks come from the graph's own metadata: exports of
 * different age disagree on int32/int64 ids and on scalar or vector timesteps.
 */
export async function openSession(source: string | BuiltGraph, options: SessionOptions) {
  const session = await createSession(source, options);
  const file = typeof source === 'string' ? source : source.title;
  const inputs = new Map(session.inputMetadata.map((input) => [input.name, input]));

  function toTensor(name: string, values: Values | KeptTensor): Tensor {
    if (isKept(values)) return values;
    const { data, dims } = values;
    const meta = inputs.get(name);
    if (meta === undefined || !meta.isTensor)
      throw new Error(`${file} has no input ${name}; it has ${session.inputNames.join(', ')}`);
    // a scalar where one value is meant for the whole batch, a vector of it where the export made one
    const shape = dims.length === 0 && meta.shape.length === 1 ? [1] : dims;
    const floats = () => (data instanceof Float32Array ? data : Float32Array.from(data));
    switch (meta.type) {
      case 'float32':
        return new Tensor('float32', floats(), shape);
      case 'float16':
        return new Tensor('float16', floatsToHalves(floats()), shape);
      case 'int64':
        return new Tensor(
          'int64',
          BigInt64Array.from(data as ArrayLike<number> as number[], (value) => BigInt(Math.trunc(value))),
          shape,
        );
      case 'int32':
        return new Tensor('int32', Int32Array.from(data), shape);
      default:
        throw new Error(`${file}: input ${name} has type ${meta.type}, which is not supported`);
    }
  }

  const toTensors = (feeds: Record<string, Values | KeptTensor>) =>
    Object.fromEntries(Object.entries(feeds).map(([name, values]) => [name, toTensor(name, values)]));

  async function call(feeds: Record<string, Tensor>, fetches: string[] | Record<string, Tensor | null>) {
    const startedAt = performance.now();
    try {
      return await session.run(feeds, fetches);
    } finally {
      graphCalls.count += 1;
      graphCalls.seconds += (performance.now() - startedAt) / 1000;
    }
  }

  return {
    inputNames: session.inputNames,
    outputNames: session.outputNames,
    hasInput: (name: string) => inputs.has(name),
    /** Declared extents of an input; symbolic ones are strings. */
    inputShape(name: string): ReadonlyArray<number | string> {
      const meta = inputs.get(name);
      return meta?.isTensor === true ? meta.shape : [];
    },
    /** Runs the graph and returns the wanted outputs as float32. */
    async run<Name extends string>(
      feeds: Record<string, Values>,
      outputs: readonly Name[],
    ): Promise<Record<Name, FloatTensor>> {
      const results = await call(toTensors(feeds), [...outputs]);
      return Object.fromEntries(outputs.map((name) => [name, fromTensor(results[name])])) as Record<
        Name,
        FloatTensor
      >;
    },
    /**
     * Runs the graph for one output as float32 and all of `kept` as they are. `into` holds tensors of equal
     * shape that nobody reads any more: on the CPU the kept outputs are written there instead of into new
     * memory.
     */
    async runKeeping(
      feeds: Record<string, Values | KeptTensor>,
      output: string,
      kept: readonly string[],
      into?: readonly KeptTensor[],
    ): Promise<{ value: FloatTensor; kept: KeptTensor[] }> {
      const fetches: Record<string, Tensor | null> = { [output]: null };
      const reuse = into?.every((tensor) => tensor.location === 'cpu') === true;
      for (const [i, name] of kept.entries()) fetches[name] = reuse ? (into?.[i] ?? null) : null;
      const results = await call(toTensors(feeds), fetches);
      // the runtime fills the given tensors, but returns others of its own
      return {
        value: fromTensor(results[output]),
        kept: kept.map((name) => fetches[name] ?? requireTensor(results[name])),
      };
    },
    release: () => session.release(),
  };
}

const isKept = (values: Values | KeptTensor): values is KeptTensor => values instanceof Tensor;

/**
 * Freed buffers are kept by their exact size and used again. The default keeps none above some 100 MB: the
 * CPU, which is ahead of the GPU, then allocates new ones for every operator (WAN at 81 frames wanted more
 * than 140 GB in its first pass). What stays is the peak of every size drawn so far; a process that runs out
 * of memory by it is replaced.
 */
const webgpu: Ort.InferenceSession.WebGpuExecutionProviderOption = {
  name: 'webgpu',
  storageBufferCacheMode: 'simple',
};

async function createSession(
  source: string | BuiltGraph,
  { device, threads, keepOnDevice, returnMemory = false }: SessionOptions,
): Promise<InferenceSession> {
  const settings: Ort.InferenceSession.SessionOptions = {
    executionProviders: device === 'cpu' ? ['cpu'] : [device === 'webgpu' ? webgpu : device, 'cpu'],
    // 0 lets the runtime take one thread per physical core
    intraOpNumThreads: threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
    enableCpuMemArena: !returnMemory,
    // on a card a plan of all buffers is one more block of memory for every size drawn
    enableMemPattern: device !== 'cuda',
    extra: {
      session: {
        // built graphs name their weights' files from the root; the runtime opens none outside the folder it
        // is told
        ...(typeof source === 'string'
          ? {}
          : { model_external_initializers_file_folder_path: path.parse(process.cwd()).root }),
        // the arena doubles as it grows: weights outside it cost what they are
        ...(device === 'cuda' ? { use_device_allocator_for_initializers: '1' } : {}),
      },
    },
  };
  const create = async (more: Ort.InferenceSession.SessionOptions = {}) =>
    typeof source === 'string'
      ? InferenceSession.create(source, { ...settings, ...more })
      : InferenceSession.create(source.model, { ...settings, ...more });
  const session = await create();
  const kept =
    device === 'webgpu' && keepOnDevice !== undefined ? session.outputNames.filter(keepOnDevice) : [];
  if (kept.length === 0) return session;
  // where outputs go is decided when a session is made, and their names are known only then
  await session.release();
  return create({
    preferredOutputLocation: Object.fromEntries(kept.map((name) => [name, 'gpu-buffer' as const])),
  });
}

/**
 * The binding reads no values from a Float16Array, which Node 24 has and the library would take: it decides
 * with its first tensor, which is made here while that type is out of sight.
 */
function withUint16ForHalves(): void {
  const globals = globalThis as { Float16Array?: unknown };
  const known = globals.Float16Array;
  delete globals.Float16Array;
  new Tensor('float16', new Uint16Array(1), [1]);
  if (known !== undefined) globals.Float16Array = known;
}

function requireTensor(tensor: Tensor | undefined): Tensor {
  if (tensor === undefined) throw new Error('the graph did not produce an output that was asked for');
  return tensor;
}

function fromTensor(given: Tensor | undefined): FloatTensor {
  const tensor = requireTensor(given);
  switch (tensor.type) {
    case 'float32':
      return { data: tensor.data as Float32Array, dims: tensor.dims };
    case 'float16':
      return {
        data: halvesToFloats(
          new Uint16Array(
            (tensor.data as Uint16Array).buffer,
            (tensor.data as Uint16Array).byteOffset,
            tensor.size,
          ),
        ),
        dims: tensor.dims,
      };
    case 'int64':
      return { data: Float32Array.from(tensor.data as BigInt64Array, Number), dims: tensor.dims };
    default:
      throw new Error(`outputs of type ${tensor.type} are not supported`);
  }
}
