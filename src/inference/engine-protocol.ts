/**
 * The messages between the service and an engine process: one child process, one engine, one protocol.
 * Only plain data crosses (ids, numbers, paths); tensors and pixels stay in the engine, results are files in
 * a work folder.
 *
 * Channels of an engine process: IPC (`process.send`) carries the messages below; fd 4 carries one heartbeat
 * line per second from a worker thread, so that it keeps beating while the main thread is inside a native
 * call.
 */

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

/** A word or phrase with its weight (from `compel_weights`); weight 1.0 is neutral. */
export interface WeightedPhrase {
  text: string;
  weight: number;
}

/** Tokens that SDXL's text encoders read at once, start and end token included. */
export const clipWindow = 77;

export type ReferenceType = 'style' | 'composition' | 'character';
/** What a picture's file name ends in, by its format. */
export const pictureExtensions = { png: 'png', webp: 'webp', jpeg: 'jpg' } as const;
export type ImageFormat = keyof typeof pictureExtensions;
export const sdxlSchedulerNames = [
  'dpmpp_2m_karras',
  'dpmpp_2m',
  'euler',
  'euler_trailing',
  'euler_ancestral',
  'unipc',
  'unipc_karras',
] as const;
export type SdxlSchedulerName = (typeof sdxlSchedulerNames)[number];

export interface SdxlGenerateParams {
  jobId: string;
  /** Existing, empty folder; the engine writes `0.png`, `1.png`, … there. */
  outputDir: string;
  prompt: string;
  /** `null`: zeros (SDXL's own rule for no negative prompt); `''`: the empty text is encoded. */
  negativePrompt: string | null;
  /** Read weight syntax in `prompt` and `negativePrompt`; false takes both literally. */
  parseWeights: boolean;
  /**
   * Appended to the prompt as conditioning with these weights (already parsed, limited and ordered); the
   * engine drops from the end what overruns the window.
   */
  weights: WeightedPhrase[];
  steps: number;
  guidanceScale: number;
  scheduler: SdxlSchedulerName;
  /** Pixels, multiples of 8. */
  width: number;
  height: number;
  /** Image i uses seed + i. */
  seed: number;
  numImages: number;
  format: ImageFormat;
  reference?: { path: string; type: ReferenceType; strength: number };
  /** Emit a latent preview every n steps; 0 for none. */
  previewEverySteps: number;
  /**
   * Text put into the picture's metadata under `parameters`; its first `Seed: {seed}` becomes each picture's
   * own seed.
   */
  parametersText: string;
  /** Fill `SdxlGenerateResult.explain`. */
  explain: boolean;
}

export interface GeneratedFile {
  path: string;
  contentType: string;
  bytes: number;
  sha256: string;
  width: number;
  height: number;
  seed: number;
  /** Video only. */
  frames?: number;
  durationSeconds?: number;
}

export interface SdxlGenerateResult {
  files: GeneratedFile[];
  /** Seconds by stage: text, denoise, decode, encode. */
  timings: Record<string, number>;
  /** What became of `weights`: used ones in order, and dropped ones with the reason. */
  weightsUsed: WeightedPhrase[];
  weightsDropped: Array<WeightedPhrase & { reason: string }>;
  /** Tokens of the combined prompt with start and end token, before truncation to CLIP's window. */
  tokenCount: number;
  truncated: boolean;
  /** How a reference was applied: `ip_adapter`, `img2img`, or none. */
  referenceMethod?: 'ip_adapter' | 'img2img';
  explain?: Record<string, unknown>;
}

/**
 * Samplers of flow-matching models. `unipc`: Wan's original noise levels (and diffusers before 0.37);
 * `unipc_diffusers`: those of diffusers 0.37 and later; `euler`: diffusers' FlowMatchEulerDiscreteScheduler;
 * `dpmpp_2m`: Wan's own `dpm++`.
 */
export const flowSchedulerNames = ['unipc', 'unipc_diffusers', 'euler', 'dpmpp_2m'] as const;
export type FlowSchedulerName = (typeof flowSchedulerNames)[number];

/**
 * Known frames of a clip. `reference` is the picture a clip (or the one picture) starts from and resembles;
 * `start` and `end` are its first and last frame.
 */
export interface WanReferences {
  reference?: string;
  start?: string;
  end?: string;
}
export type WanReferenceMode = 'none' | 'single' | 'start' | 'end' | 'both';

/** A first or last frame beats a single reference. */
export function wanReferenceMode({ reference, start, end }: WanReferences): WanReferenceMode {
  if (start !== undefined && end !== undefined) return 'both';
  if (start !== undefined) return 'start';
  if (end !== undefined) return 'end';
  return reference === undefined ? 'none' : 'single';
}

/**
 * How known frames enter: `latent_overwrite` and `latent_clean` pin latents of a plain text-to-video model,
 * `vace` uses the checkpoint's own inputs.
 */
export type WanReferenceMethod = 'latent_overwrite' | 'latent_clean' | 'vace';

export interface WanGenerateParams {
  jobId: string;
  /** Existing, empty folder; the engine writes `0.mp4` and its poster, or `0.png`, there. */
  outputDir: string;
  prompt: string;
  /** `null` and `''` both encode the empty text, as Wan does. */
  negativePrompt: string | null;
  steps: number;
  guidanceScale: number;
  /** Moves the noise levels toward noise (`sample_shift`). */
  shift: number;
  scheduler: FlowSchedulerName;
  /** Pixels, multiples of the VAE's stride times the transformer's patch (16 for Wan 2.1). */
  width: number;
  height: number;
  /** 4n + 1; 1 for a picture. */
  frames: number;
  seed: number;
  output: 'image' | 'video';
  /** Of the picture, or of a video's poster. */
  format: ImageFormat;
  /** H.264 constant rate factor, 0 (lossless) to 51. */
  crf: number;
  framesPerSecond: number;
  /** Local paths; at most `reference`, or `start` and `end`. */
  references: WanReferences;
  /** 0.0–1.0: how firmly and how long known frames are held; null: 1. */
  referenceStrength: number | null;
  /** Emit a latent preview every n steps; 0 for none. */
  previewEverySteps: number;
  /** Text put into the picture's or the video's metadata. */
  parametersText: string;
  /** Fill `WanGenerateResult.explain`. */
  explain: boolean;
}

export interface WanGenerateResult {
  /** The video or picture first; a video's poster second. */
  files: GeneratedFile[];
  /** Seconds by stage: text, reference, denoise, decode, encode. */
  timings: Record<string, number>;
  frames: number;
  /** Tokens of the prompt with its end token, before truncation to the model's length. */
  tokenCount: number;
  truncated: boolean;
  referenceMode: WanReferenceMode;
  referenceMethod?: WanReferenceMethod;
  explain?: Record<string, unknown>;
}

export interface DescribePromptParams {
  prompt: string;
  weights: WeightedPhrase[];
  parseWeights: boolean;
}

/** What `POST /test-compel` reports: shapes and counts, never tensor values. */
export interface DescribePromptResult {
  tokenCount: number;
  weightsUsed: WeightedPhrase[];
  weightsDropped: Array<WeightedPhrase & { reason: string }>;
  tensorShapes: Record<string, number[]>;
  tokens: Array<{ token: string; id: number; weight: number }>;
}

export interface QwenGenerateParams {
  /** `completion` continues `prompt`; `chat` answers `messages` through the model's chat template. */
  mode: 'completion' | 'chat';
  prompt?: string;
  /**
   * Leading characters of `prompt` that are the template's, the same for every user: their evaluation is kept
   * between requests.
   */
  sharedLength?: number;
  /** A first `system` message is the same for every user and kept likewise. */
  messages?: Array<{ role: 'system' | 'user' | 'assistant'; content: string }>;
  /** The answer ends before the first of these. */
  stop?: string[];
  maxTokens: number;
  maxInputTokens: number;
  temperature: number;
  topP: number;
  topK: number;
  repeatPenalty: number;
  seed?: number;
  /** Send every piece of text as a `token` event. */
  stream: boolean;
}

export interface QwenGenerateResult {
  text: string;
  /** Name of the model that wrote it. */
  model: string;
  promptTokens: number;
  completionTokens: number;
  stopReason: 'eos' | 'length';
  seconds: number;
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
  unload: { params: Record<string, never>; result: Record<string, never> };
}
export type EngineMethod = keyof EngineMethods;

/** Stages in the order a job goes through them; watchdogs are per stage. */
export type EngineStage = 'waiting' | 'load' | 'text' | 'reference' | 'denoise' | 'decode' | 'encode';

export type EngineEvent =
  | { kind: 'progress'; stage: EngineStage; step: number; steps: number }
  /** The device is free for the next request; what is left (encoding, writing) needs no model. */
  | { kind: 'computeDone' }
  | { kind: 'preview'; step: number; path: string; contentType: string }
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
