/**
 * What native runtimes and the loader read; everything else of the service's environment, its secrets above
 * all, stays out.
 */
const passedOn = [
  /^PATH$/,
  /^HOME$/,
  /^USER$/,
  /^LANG$/,
  /^LC_/,
  /^TZ$/,
  /^TMPDIR$/,
  /^XDG_/,
  /^LD_LIBRARY_PATH$/,
  /^LD_PRELOAD$/,
  /^CUDA_/,
  /^NVIDIA_/,
  /^CUDNN_/,
  /^VK_/,
  /^HIP_/,
  /^ROCM_/,
  /^GGML_/,
  /^OMP_/,
  /^MALLOC_/,
  /^NODE_OPTIONS$/,
  /^NODE_EXTRA_CA_CERTS$/,
  /^HF_HOME$/,
];

/** The environment of an engine process, picked from the service's. */
export function engineEnvironment(environment: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  return Object.fromEntries(
    Object.entries(environment).filter(([name]) => passedOn.some((pattern) => pattern.test(name))),
  );
}

/** The last `limit` lines an engine wrote, over restarts, newest last. */
export function createLogRing(limit = 200) {
  const lines: string[] = [];
  return {
    push(line: string): void {
      lines.push(line.length > 4000 ? `${line.slice(0, 4000)}…` : line);
      if (lines.length > limit) lines.splice(0, lines.length - limit);
    },
    lines: (): string[] => [...lines],
  };
}
export type LogRing = ReturnType<typeof createLogRing>;
