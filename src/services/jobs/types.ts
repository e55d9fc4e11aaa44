import type { CancelResult, JobFilter, JobPage, JobProgress, JobRecord, JobStatus } from '../queue/types.js';
import type { TraceCarrier } from './job-trace.js';

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
