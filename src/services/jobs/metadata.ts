import type { ErrorType, JobFailure } from './failure.js';
import type { EnhancementOutcome } from './plan.js';
import type { BuildCallback } from '../outbound/index.js';
import type { FinishedJobFacts } from '../outbound/usage-reporter.js';
import type { GpuReading } from '../card/gpu-monitor.js';
import type { FinishedJob } from '../queue/job-store.js';
import type { PayloadRead } from '../queue/read-payload.js';
import { gigabytes, rounded } from '../../lib/units.js';

export interface CompletionFacts {
  originalPrompt: string;
  prompt: string;
  /** Null for job types whose prompt is not rewritten. */
  enhancement: EnhancementOutcome | null;
  generationSeconds: number;
  expectedSeconds: number;
  gpu: GpuReading | null;
  /** Device memory of the engine process, where the platform tells it per process. */
  engineBytes: number | null;
  attempts: number;
  workerVersion: string;
  timings: Record<string, number>;
  /** The engine's and the plan's own facts. */
  generation: Record<string, unknown>;
}

const neutral = {
  compel_enabled: false,
  compel_weights: null,
  compel_success: false,
  enhancement_strategy: 'none',
  final_prompt_type: 'string',
  reference_mode: 'none',
  reference_strength: null,
};

/**
 * `metadata` of a `completed` callback: every field of the contract, then ours. Numbers that this machine
 * cannot know are null.
 */
export function completionMetadata(facts: CompletionFacts): Record<string, unknown> {
  const usedBytes = facts.engineBytes;
  const totalBytes = facts.gpu?.totalBytes ?? null;
  // Receivers recompute the ratio from the two fields: it is taken from the seconds as reported.
  const generationSeconds = rounded(facts.generationSeconds);
  return {
    ...neutral,
    generation_time: generationSeconds,
    enhancement_type: facts.enhancement?.type ?? null,
    enhancement_success: facts.enhancement?.success ?? false,
    enhancement_time: rounded(facts.enhancement?.seconds ?? 0),
    enhancement_source: facts.enhancement?.source ?? null,
    enhancement_reason: facts.enhancement?.reason ?? null,
    original_prompt: facts.originalPrompt,
    enhanced_prompt: facts.prompt,
    expected_time: facts.expectedSeconds,
    performance_ratio: facts.expectedSeconds > 0 ? generationSeconds / facts.expectedSeconds : null,
    vram_used_gb: gigabytes(usedBytes),
    vram_total_gb: gigabytes(totalBytes),
    vram_utilization:
      usedBytes !== null && totalBytes !== null && totalBytes > 0 ? rounded(usedBytes / totalBytes, 4) : null,
    worker_version: facts.workerVersion,
    ...facts.generation,
    attempts: facts.attempts,
    stage_times: Object.fromEntries(
      Object.entries(facts.timings).map(([stage, seconds]) => [stage, rounded(seconds)]),
    ),
  };
}

/** `metadata` of a `failed` callback. */
export function failureMetadata({
  type,
  attempts,
  workerVersion,
  at = new Date(),
}: {
  type: ErrorType;
  attempts: number;
  workerVersion: string;
  at?: Date;
}): Record<string, unknown> {
  return { error_type: type, error_timestamp: at.toISOString(), worker_version: workerVersion, attempts };
}

/** Of the payload's own `metadata`: a text that is longer is cut, and the whole is left out when it is larger. */
const longestRequestText = 1000;
const mostRequestBytes = 8 * 1024;

/**
 * The payload's own `metadata` under `request`, for the producer to know its job by. What a database cannot
 * keep (NUL, half of a surrogate pair) is replaced.
 */
export function requestOf({ value }: Pick<PayloadRead, 'value'>): Record<string, unknown> {
  const metadata = (value as { metadata?: unknown } | null | undefined)?.metadata;
  if (typeof metadata !== 'object' || metadata === null || Array.isArray(metadata)) return {};
  const told = (text: string) =>
    text.length > longestRequestText ? `${text.slice(0, longestRequestText)}…` : text;
  let json: string;
  try {
    json = JSON.stringify(metadata, (_name, inner: unknown) =>
      typeof inner === 'string' ? told(inner).replace(/[\0\p{Surrogate}]/gu, '\uFFFD') : inner,
    );
  } catch {
    return { request: null, request_omitted: 'metadata is nested too deeply' };
  }
  return Buffer.byteLength(json) > mostRequestBytes
    ? { request: null, request_omitted: `metadata is larger than ${mostRequestBytes} bytes` }
    : { request: JSON.parse(json) as unknown };
}

/** What is recorded, and told by the `failed` callback, of a job that ends without a result. */
export function endWithoutResult(
  status: 'failed' | 'cancelled',
  {
    failure,
    attempts,
    version,
    callback,
    request = {},
    ...job
  }: {
    jobId: string;
    writtenId?: string;
    failure: Pick<JobFailure, 'type' | 'message'>;
    attempts: number;
    version: string;
    callback: BuildCallback;
    /** Of `requestOf`. */
    request?: Record<string, unknown>;
  },
): FinishedJob {
  const metadata = {
    ...failureMetadata({ type: failure.type, attempts, workerVersion: version }),
    ...request,
  };
  const entry = callback('failed', { ...job, assets: [], errorMessage: failure.message, metadata });
  return {
    status,
    assets: [],
    errorMessage: failure.message,
    metadata,
    ...(entry === undefined ? {} : { callback: entry }),
  };
}

/** Facts of such a job: nothing was made. */
export function factsWithoutResult(
  job: FinishedJobFacts['job'],
  outcome: 'failed' | 'cancelled',
  reason: JobFailure['type'],
): FinishedJobFacts {
  return {
    job,
    outcome,
    reason,
    generationSeconds: 0,
    assets: 0,
    totalBytes: 0,
    deviceBytes: null,
    stageSeconds: {},
  };
}
