export interface EnhancePromptRequest {
  prompt: string;
  /** Absent: `qwen_base`. `qwen_instruct` without a `sessionId` is `qwen_base` too. */
  model?: 'qwen_base' | 'qwen_instruct';
  sessionId?: string;
  /** Whose conversations `sessionId` names: a digest of the API key, or the user of a job. */
  owner?: string;
  conversationContext?: string;
  maxTokens?: number;
  temperature?: number;
  seed?: number;
  /** With `image` the answer is kept within SDXL's window of 77 tokens, unless `fitWindow` is false. */
  target?: 'image' | 'video';
  fitWindow?: boolean;
  template?: string;
  /** Waits in line however long that is. */
  patient?: boolean;
  /** Sees the text as it is written, before it is cleaned; absent: only the whole answer counts. */
  onToken?: (text: string) => void;
  /** What was shown so far is void: another attempt begins. */
  onDiscard?: (reason: string) => void;
}

export type EnhancePromptAnswer =
  | {
      success: true;
      enhancedPrompt: string;
      source: 'qwen_base' | 'qwen_instruct';
      /** Name of the model that is loaded. */
      model: string;
      template: string;
      seconds: number;
      /** Of the attempt that succeeded. */
      promptTokens: number;
      completionTokens: number;
      attempts: number;
      /** Another strategy than the one asked for answered. */
      fallback: boolean;
      fallbackReason?: string;
    }
  /** `reason` as the contract words it, after "Enhancement failed: ". */
  | { success: false; reason: string };

export interface EnhancementService {
  /**
   * Throws `errors.tooManyRequests` with `retryAfterSeconds` when the line is full, `errors.promptRejected`,
   * `errors.invalidParameters`.
   */
  enhance(request: EnhancePromptRequest, signal: AbortSignal): Promise<EnhancePromptAnswer>;
  /** A session that is not known is forgotten already. */
  forgetSession(owner: string, sessionId: string): Promise<void>;
  /** For `/capabilities`. */
  templates(): Array<{ name: string; strategy: string; target: string; version: string }>;
  /** Loads the model ahead of a request that is known to come. */
  preload(): void;
}
