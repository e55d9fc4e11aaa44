import type { Readable } from 'node:stream';
import type { EngineKind, DescribePromptParams, DescribePromptResult, LoadResult, MemoryReport } from '../inference/engine-protocol.js';
import type { TraceCarrier } from './jobs/job-trace.js';
import type { CancelResult, JobFilter, JobPage, JobProgress, JobRecord, JobStatus, JobStore } from './queue/types.js';
import type { GpuMonitor } from './gpu/gpu-monitor.js';
import type { DeviceMemory } from './memory-budget/device-memory.js';
import type { StatusMonitor } from './status-monitor/index.js';
import type { Storage } from './storage/types.js';
import type { Validation } from './validation/validation.js';
import type { VideoEncoder } from './video-encoder.js';

/**
 * What the routes see of the service. `createServices(config, log)` builds the real ones; tests build the app with
 * real services on embedded defaults and swap single parts by option.
 */
export interface Services {
  jobs: JobService;
  engines: EngineService;
  store: JobStore;
  storage: Storage;
  /** Files of the folder storage by URL path; absent when storage is elsewhere. */
  assets?: AssetService;
  gpu: Pick<GpuMonitor, 'read'>;
  memory: Pick<DeviceMemory, 'view' | 'capacity' | 'deviceBytes'>;
  validation: Validation;
  /** Without one videos are refused; pictures need none. */
  videoEncoder: Pick<VideoEncoder, 'available'>;
  monitor: StatusMonitor;
  /** Jobs this process works on, from fetching references to upload. */
  activeJobs(): number;
  /** Absent without a Qwen model. */
  enhancement?: EnhancementService;
  /** Starts consuming (after `listen`), so that a broken port never takes jobs. */
  start(): Promise<void>;
  /** Stops taking jobs, finishes or hands back within the grace, flushes the outbox, ends the engines. */
  stop(): Promise<void>;
}

export interface JobService {
  /** Validates and queues. Throws `errors.invalidParameters` with details, `errors.conflict`, `errors.queueFull`. */
  submit(payload: unknown, options: { idempotencyKey?: string; trace?: TraceCarrier }): Promise<{ record: JobRecord; queuePosition: number; created: boolean }>;
  get(id: string): Promise<{ record: JobRecord; queuePosition: number | null } | null>;
  list(filter: JobFilter, limit: number, cursor?: string): Promise<JobPage>;
  cancel(id: string): Promise<CancelResult>;
  /**
   * Events of a job in order: those after `afterId` that are still kept, then live ones until the job is terminal.
   * Ids grow; a reader that reconnects with the last id misses nothing that is still kept.
   */
  events(id: string, afterId: number, signal: AbortSignal): AsyncIterable<JobEvent>;
}

export type JobEvent =
  | { id: number; event: 'state'; data: { status: JobStatus; attempts: number; assets: string[]; error_message?: string } }
  | { id: number; event: 'progress'; data: JobProgress }
  | { id: number; event: 'preview'; data: { step: number; content_type: string; base64: string } };

export type EngineState = 'stopped' | 'starting' | 'warming' | 'ready' | 'busy' | 'draining' | 'restarting' | 'backing_off' | 'failed';

export interface EngineStatus {
  kind: EngineKind;
  state: EngineState;
  pid: number | null;
  uptimeSeconds: number;
  jobsProcessed: number;
  lastJobAtMs: number | null;
  errorCount: number;
  restarts: number;
  loaded: LoadResult | null;
  memory: MemoryReport | null;
  /** Why it is not ready, for people. */
  reason: string | null;
  /** `stopped` until a request needs it: that is no trouble. */
  resting: boolean;
  /** Its last computing, warm-up included; null before the first. */
  lastOperation: EngineOperation | null;
  /** Jobs that ended in an error of the engine or its device since one succeeded. */
  failuresInRow: number;
  /** Since its last heartbeat; null without a process. */
  silentMs: number | null;
  /** On its way back from an end nobody asked for. */
  recovering: boolean;
  lastExit: EngineEnd | null;
}

export interface EngineOperation { ok: boolean; atMs: number; message: string | null }

/** How a process ended that nobody had ordered to. */
export interface EngineEnd { atMs: number; reason: string; exitCode: number | null; signal: string | null; stage: string | null }

export interface EngineService {
  status(kind: EngineKind): EngineStatus;
  statuses(): EngineStatus[];
  /** False for an engine this service does not have; its status says why. */
  has(kind: EngineKind): boolean;
  /** Ends the process (after its job, unless forced) and starts a new one. Resolves when the restart has begun. */
  restart(kind: EngineKind, options: { force: boolean }): Promise<void>;
  describePrompt(params: DescribePromptParams, signal: AbortSignal): Promise<DescribePromptResult>;
  /** Last log lines of the engine process, newest last. */
  logs(kind: EngineKind): string[];
}

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
    /** `qwen_base`, `qwen_instruct`. */
    source: string;
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
  /** Throws `errors.tooManyRequests` with `retryAfterSeconds` when the line is full, `errors.promptRejected`, `errors.invalidParameters`. */
  enhance(request: EnhancePromptRequest, signal: AbortSignal): Promise<EnhancePromptAnswer>;
  /** A session that is not known is forgotten already. */
  forgetSession(owner: string, sessionId: string): Promise<void>;
  /** For `/capabilities`. */
  templates(): Array<{ name: string; strategy: string; target: string; version: string }>;
  /** Loads the model ahead of a request that is known to come. */
  preload(): void;
}

export interface AssetService {
  /** Null when there is no such asset. Never leaves the storage folder, whatever the path says. */
  open(bucket: string, path: string): Promise<{ stream: Readable; contentType: string; bytes: number; modifiedAt: Date } | null>;
}
