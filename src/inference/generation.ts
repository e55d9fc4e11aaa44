/**
 * What a generation is asked for and what it gives, engine by engine: plain data that crosses the protocol of
 * `engine-protocol.ts`.
 */

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
  'euler_ancestral_trailing',
  'unipc',
  'unipc_karras',
  'lcm',
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
  /** The words that the window had no room for; likewise of the negative prompt. */
  cut?: string;
  negativeCut?: string;
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
type WanReferenceMethod = 'latent_overwrite' | 'latent_clean' | 'vace';

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
  /** The prompt with its weights where they act; null of a blend or conjunction. */
  combinedPrompt: string | null;
  cut: string;
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

/** Prompts that Qwen works on at once, and tokens of each: 2,048 of a chat's input and 512 of its answer. */
export const textDefaults = { sequences: 8, contextTokens: 2560 };
