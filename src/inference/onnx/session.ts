import { InferenceSession, Tensor } from 'onnxruntime-node';
import type { Device } from '../engine-protocol.js';
import { floatsToHalves, halvesToFloats } from '../diffusion/half.js';

/** A tensor as the pipelines hold it: float32 or integers, whatever type the graph asks for at its border. */
export interface Values {
  data: Float32Array | readonly number[];
  dims: readonly number[];
}

export interface FloatTensor {
  data: Float32Array;
  dims: readonly number[];
}

export type OnnxSession = Awaited<ReturnType<typeof openSession>>;

/**
 * Opens a graph on one device. Names, types and ranks come from the graph's own metadata: exports of different age
 * disagree on int32/int64 ids and on scalar or vector timesteps.
 */
export async function openSession(file: string, options: { device: Device; threads: number }) {
  const session = await InferenceSession.create(file, {
    executionProviders: options.device === 'cpu' ? ['cpu'] : [options.device, 'cpu'],
    // 0 lets the runtime take one thread per physical core
    intraOpNumThreads: options.threads,
    interOpNumThreads: 1,
    logSeverityLevel: 3,
  });
  const inputs = new Map(session.inputMetadata.map((input) => [input.name, input]));

  function toTensor(name: string, { data, dims }: Values): Tensor {
    const meta = inputs.get(name);
    if (meta === undefined || !meta.isTensor) throw new Error(`${file} has no input ${name}; it has ${session.inputNames.join(', ')}`);
    // a scalar where one value is meant for the whole batch, a vector of it where the export made one
    const shape = dims.length === 0 && meta.shape.length === 1 ? [1] : dims;
    const floats = () => (data instanceof Float32Array ? data : Float32Array.from(data));
    switch (meta.type) {
      case 'float32': return new Tensor('float32', floats(), shape);
      case 'float16': return new Tensor('float16', floatsToHalves(floats()), shape);
      case 'int64': return new Tensor('int64', BigInt64Array.from(data as ArrayLike<number> as number[], (value) => BigInt(Math.trunc(value))), shape);
      case 'int32': return new Tensor('int32', Int32Array.from(data), shape);
      default: throw new Error(`${file}: input ${name} has type ${meta.type}, which is not supported`);
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
    async run<Name extends string>(feeds: Record<string, Values>, outputs: readonly Name[]): Promise<Record<Name, FloatTensor>> {
      const tensors = Object.fromEntries(Object.entries(feeds).map(([name, values]) => [name, toTensor(name, values)]));
      const results = await session.run(tensors, [...outputs]);
      return Object.fromEntries(outputs.map((name) => [name, fromTensor(results[name])])) as Record<Name, FloatTensor>;
    },
    release: () => session.release(),
  };
}

function fromTensor(tensor: Tensor | undefined): FloatTensor {
  if (tensor === undefined) throw new Error('the graph did not produce an output that was asked for');
  switch (tensor.type) {
    case 'float32': return { data: tensor.data as Float32Array, dims: tensor.dims };
    case 'float16': return { data: halvesToFloats(new Uint16Array((tensor.data as Uint16Array).buffer, (tensor.data as Uint16Array).byteOffset, tensor.size)), dims: tensor.dims };
    case 'int64': return { data: Float32Array.from(tensor.data as BigInt64Array, Number), dims: tensor.dims };
    default: throw new Error(`outputs of type ${tensor.type} are not supported`);
  }
}
