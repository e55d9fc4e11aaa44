/** What native runtimes and the loader read; everything else of the service's environment, its secrets above all, stays out. */
const passedOn = [
  /^PATH$/, /^HOME$/, /^USER$/, /^LANG$/, /^LC_/, /^TZ$/, /^TMPDIR$/, /^XDG_/, /^LD_LIBRARY_PATH$/, /^LD_PRELOAD$/,
  /^CUDA_/, /^NVIDIA_/, /^CUDNN_/, /^VK_/, /^HIP_/, /^ROCM_/, /^GGML_/, /^OMP_/, /^MALLOC_/, /^NODE_OPTIONS$/, /^NODE_EXTRA_CA_CERTS$/, /^HF_HOME$/,
];

/** The environment of an engine process, picked from the service's. */
export function engineEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(Object.entries(environment).filter(([name]) => passedOn.some((pattern) => pattern.test(name))));
}
