/**
 * The messages between the service and an engine process: one child process, one engine, one protocol.
 * Only plain data crosses (ids, numbers, paths); tensors and pixels stay in the engine, results are files in
 * a work folder.
 *
 * Channels of an engine process: IPC (`process.send`) carries the messages below; fd 4 carries one heartbeat
 * line per second from a worker thread, so that it keeps beating while the main thread is inside a native
 * call.
 */

import type {
  SdxlGenerateParams,
  SdxlGenerateResult,
  WanGenerateParams,
  WanGenerateResult,
  DescribePromptParams,
  DescribePromptResult,
  QwenGenerateParams,
  QwenGenerateResult,
} from './generation.js';

export type EngineKind = 'sdxl' | 'wan' | 'qwen';

/**
 * Device preference of `ORT_DEVICE`; `auto` tries cuda, then webgpu, then cpu and keeps the first that loads.
 */
export type DevicePreference = 'auto' | 'cuda' | 'webgpu' | 'cpu';
export type Device = 'cuda' | 'webgpu' | 'cpu';

export interface LoadParams {
  /** Folder of the model (Optimum layout for sdxl/wan) or, for qwen, a folder holding the GGUF file(s). */
  modelDir: string;
  device: DevicePreference;
  /** Threads for CPU kernels; 0 lets the engine choose by measurement or core count. */
  threads: number;
  /** What the GPU has for all models, bytes; null or absent: nobody knows. */
  deviceMemoryBytes?: number | null;
  /** Engine-specific settings (e.g. `longPrompts` for sdxl, `ffmpeg` for wan, `sequences` for qwen). */
  options?: Record<string, string | number | boolean>;
}

export interface LoadResult {
  device: Device;
  /** Why preferred devices were not taken, one sentence each with its cure. */
  deviceNotes: string[];
  loadSeconds: number;
  /** What the model folder offers, for `/capabilities` and job metadata. */
  model: {
    name: string;
    /** e.g. `ip_adapter`, `attention_mask`, `vae_encoder`, `vace`. */
    features: string[];
    defaultWidth?: number;
    defaultHeight?: number;
    /** Width and height must be multiples of this. */
    sizeMultiple?: number;
    /** wan: frames of a clip that states none. */
    defaultFrames?: number;
  };
}

export interface MemoryReport {
  rssBytes: number;
  heapBytes: number;
  /** Device memory in use by this process, when the platform tells. */
  deviceBytes?: number;
  /** Qwen: sequences that have a request. */
  busySequences?: number;
}

/** Everything the service may ask an engine, with what it answers. */
export interface EngineMethods {
  load: { params: LoadParams; result: LoadResult };
  warmUp: { params: Record<string, never>; result: { seconds: number } };
  'sdxl.generate': { params: SdxlGenerateParams; result: SdxlGenerateResult };
  'sdxl.describePrompt': { params: DescribePromptParams; result: DescribePromptResult };
  'wan.generate': { params: WanGenerateParams; result: WanGenerateResult };
  'qwen.generate': { params: QwenGenerateParams; result: QwenGenerateResult };
  memory: { params: Record<string, never>; result: MemoryReport };
}
export type EngineMethod = keyof EngineMethods;

/** Stages in the order a job goes through them; watchdogs are per stage. */
export type EngineStage = 'waiting' | 'load' | 'text' | 'reference' | 'denoise' | 'decode' | 'encode';

export type EngineEvent =
  | { kind: 'progress'; stage: EngineStage; step: number; steps: number }
  /** The device is free for the next request; what is left (encoding, writing) needs no model. */
  | { kind: 'computeDone' }
  /** Of one of the request's pictures, as it is after a step. */
  | { kind: 'preview'; image: number; images: number; step: number; path: string; contentType: string }
  | { kind: 'token'; text: string };

/**
 * `out_of_memory` and `engine_failed` are worth another attempt; `invalid_parameters` and `cancelled` never
 * are; `encoder_missing`: this machine has no ffmpeg, so videos cannot be made until it has; `device_lost`
 * means the process must be replaced.
 */
export type EngineErrorCode =
  | 'invalid_parameters'
  | 'cancelled'
  | 'out_of_memory'
  | 'model_missing'
  | 'model_invalid'
  | 'encoder_missing'
  | 'device_lost'
  | 'not_loaded'
  | 'engine_failed';

export interface EngineErrorBody {
  code: EngineErrorCode;
  message: string;
  /** Field of the request at fault, for `invalid_parameters`. */
  field?: string;
}

export type ToEngine =
  | {
      [M in EngineMethod]: { type: 'request'; id: string; method: M; params: EngineMethods[M]['params'] };
    }[EngineMethod]
  /** Stops the request between steps; it then ends with `cancelled`. Unknown or finished ids are ignored. */
  | { type: 'cancel'; id: string };

export type FromEngine =
  | { type: 'hello'; engine: EngineKind; pid: number }
  | { type: 'result'; id: string; result: unknown }
  | { type: 'error'; id: string; error: EngineErrorBody }
  | { type: 'event'; id: string; event: EngineEvent }
  | {
      type: 'log';
      level: 'debug' | 'info' | 'warn' | 'error';
      message: string;
      fields?: Record<string, unknown>;
    };
