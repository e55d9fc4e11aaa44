import { existsSync } from 'node:fs';
import path from 'node:path';
import { type DrawingEngine, requiredFiles } from './checkpoint/model-layout.js';
import {
  type EngineErrorBody,
  type EngineErrorCode,
  type EngineEvent,
  type EngineMethod,
  type EngineMethods,
  type LoadParams,
  type LoadResult,
  type MemoryReport,
} from './engine-protocol.js';

/** What a request may do besides returning: report, and learn that nobody wants its answer any more. */
export interface RequestContext {
  id: string;
  /** Aborted by `cancel`. Engines look at it between steps and between files. */
  signal: AbortSignal;
  emit(event: EngineEvent): void;
  /**
   * Waits for the device, then runs `work` alone on it. What follows `work` (encoding, writing files)
   * overlaps with the next request's computing. Ends with `cancelled` if the request is cancelled while it
   * waits.
   */
  compute<T>(work: () => Promise<T>): Promise<T>;
}

/** One model behind the protocol: sdxl, wan or qwen. Owns its sessions; `unload` frees them all. */
export interface Engine {
  load(params: LoadParams, log: EngineLog): Promise<LoadResult>;
  /** One small real generation, so that the first job pays no start-up cost and "ready" is proven. */
  warmUp(context: RequestContext): Promise<void>;
  /** Methods this engine answers, e.g. `sdxl.generate`. */
  readonly methods: {
    [M in EngineMethod]?: (
      params: EngineMethods[M]['params'],
      context: RequestContext,
    ) => Promise<EngineMethods[M]['result']>;
  };
  /** Beyond the process's own numbers. */
  memory?(): Promise<Partial<MemoryReport>>;
  unload(): Promise<void>;
}

export type EngineLog = (
  level: 'debug' | 'info' | 'warn' | 'error',
  message: string,
  fields?: Record<string, unknown>,
) => void;

/** An error that crosses the protocol with its code. */
export class EngineFailure extends Error {
  constructor(
    readonly code: EngineErrorCode,
    message: string,
    readonly field?: string,
    options?: ErrorOptions,
  ) {
    super(message, options);
    this.name = 'EngineFailure';
  }
}

export function cancelled(): EngineFailure {
  return new EngineFailure('cancelled', 'The request was cancelled');
}

export function throwIfCancelled(signal: AbortSignal): void {
  if (signal.aborted) throw cancelled();
}

/** Lets messages in, since native runs block the main thread: only here a cancel can be heard. */
export async function checkpoint(signal: AbortSignal): Promise<void> {
  await new Promise((resolve) => {
    setImmediate(resolve);
  });
  throwIfCancelled(signal);
}

// WebGPU reports a failed allocation on the side; what is thrown is that a later command names the buffer it
// did not get
const outOfMemory = new RegExp(
  'out of memory|failed to allocate|bad_alloc|BFCArena|allocation failed|not enough memory|' +
    'OUT_OF_DEVICE_MEMORY|_STATUS_ALLOC_FAILED|\\[Invalid Buffer',
  'i',
);
const deviceLost = new RegExp(
  'device (was |is )?lost|device removed|VK_ERROR_DEVICE_LOST|' +
    'CU(DA|DNN|BLAS|RAND|FFT) (error|failure)|CU(DNN|BLAS|RAND|FFT)_STATUS',
  'i',
);

/** Native runtimes throw plain text; this names what the service must do about it. */
export function describeFailure(error: unknown): EngineErrorBody {
  if (error instanceof EngineFailure) {
    return {
      code: error.code,
      message: error.message,
      ...(error.field === undefined ? {} : { field: error.field }),
    };
  }
  const message = error instanceof Error ? error.message : String(error);
  if (outOfMemory.test(message)) return { code: 'out_of_memory', message };
  if (deviceLost.test(message)) return { code: 'device_lost', message };
  return { code: 'engine_failed', message };
}

const kinds = {
  sdxl: { name: 'an SDXL', layout: 'docs/models.md' },
  wan: { name: 'a Wan', layout: 'docs/export.md' },
} as const;

/** @throws EngineFailure `model_missing` naming the files that are not there */
export function requireModelFiles(engine: DrawingEngine, folder: string): void {
  const missing = requiredFiles(engine, folder)
    .filter((file) => !existsSync(file))
    .map((file) => path.relative(folder, file));
  const { name, layout } = kinds[engine];
  if (missing.length > 0)
    throw new EngineFailure(
      'model_missing',
      `${folder} is not ${name} model folder: it lacks ${missing.join(', ')} (${layout} describes the layout)`,
    );
}
