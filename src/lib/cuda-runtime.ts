import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';

/**
 * What `ourvidz setup cuda` leaves behind: a binding of ONNX Runtime with its CUDA provider, and the
 * libraries that needs.
 */
export interface CudaRuntime {
  /** Its name in models/cuda.json. */
  set: string;
  /** Version of ONNX Runtime. */
  runtime: string;
  /** CUDA version the provider was built for. */
  cuda: string;
  /** The oldest driver (its first number) that can run it. */
  minimumDriver: number;
  /** `node_modules/onnxruntime-node` lies here. */
  folder: string;
}

/** In the folder of CUDA_DIR: names the set in use. */
export const cudaRecord = 'runtime.json';
export const librariesOf = ({ folder }: Pick<CudaRuntime, 'folder'>) => path.join(folder, 'lib');

/** The set in use under `cudaDir`; null before `ourvidz setup cuda`, or when its folder is gone. */
export function findCudaRuntime(cudaDir: string): CudaRuntime | null {
  const file = path.join(cudaDir, cudaRecord);
  if (!existsSync(file)) return null;
  const record = JSON.parse(readFileSync(file, 'utf8')) as Omit<CudaRuntime, 'folder'>;
  const folder = path.join(cudaDir, record.set);
  return existsSync(librariesOf({ folder })) ? { ...record, folder } : null;
}

/** Variables by which an engine process loads that binding, and the loader finds the libraries. */
export function cudaEnvironment(
  runtime: CudaRuntime | null,
  environment: NodeJS.ProcessEnv,
): NodeJS.ProcessEnv {
  if (runtime === null) return {};
  const paths = [librariesOf(runtime), environment['LD_LIBRARY_PATH']].filter(Boolean);
  return { LD_LIBRARY_PATH: paths.join(':'), OURVIDZ_ONNX_RUNTIME: runtime.folder };
}

/** By the beginning of a library's name; `*` is where packages for CUDA 12 have a suffix. */
const packagesOfLibraries = [
  ['libcudnn', 'nvidia-cudnn-cu13 or -cu12'],
  ['libcublas', 'nvidia-cublas*'],
  ['libcudart', 'nvidia-cuda-runtime*'],
  ['libcurand', 'nvidia-curand or nvidia-curand-cu12'],
  ['libcufft', 'nvidia-cufft or nvidia-cufft-cu12'],
  ['libnvrtc', 'nvidia-cuda-nvrtc*'],
  ['libnvJitLink', 'nvidia-nvjitlink*'],
  ['libz.', 'zlib1g'],
] as const;

/** A library, and the package of PyPI or of the system that has it. */
export function withPackage(library: string): string {
  const cuda = /\.so\.(?:12|11|10)$/.test(library) && !library.startsWith('libcurand') ? '-cu12' : '';
  const [, name] = packagesOfLibraries.find(([stem]) => library.startsWith(stem)) ?? [];
  if (name === undefined) return library;
  return `${library} (of ${name.replace('*', cuda)})`;
}
