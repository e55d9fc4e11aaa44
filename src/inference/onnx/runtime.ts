import { createRequire } from 'node:module';
import path from 'node:path';
import type * as Ort from 'onnxruntime-node';

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
