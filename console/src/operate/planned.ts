import { api, type Job } from '../api.js';

export interface QueueState {
  queue: string;
  paused: { since: string; by: string; reason?: string } | null;
  waiting: number;
  delayed: number;
  running: number;
  oldest_age_seconds: number | null;
  job_seconds: number | null;
  empty_in_seconds: number | null;
  trouble?: string;
}
export interface Trouble {
  code: string;
  severity: 'critical' | 'error' | 'warning';
  what: string;
  cause: string;
  cure: string;
  since: string;
  next_try_at?: string;
  target?: string;
}
export interface DeadReason {
  reason: string;
  queue: string;
  count: number;
  oldest_at: string;
  newest_at: string;
}
export interface Attempt {
  attempt: number;
  outcome: string;
  worker_id?: string;
  started_at: string;
  ended_at: string;
  error?: string;
}
export type FullJob = Job & {
  queue?: string;
  user_id?: string;
  prompt?: string;
  request?: Record<string, unknown>;
  since?: string;
  waiting?: { code: string; message: string; retry_at?: string } | null;
  worker_id?: string;
  last_error?: string;
  history?: Attempt[];
};
export interface Sample {
  at: string;
  waiting: number;
  running: number;
  finished: number;
  failed: number;
  service_bytes: number;
  gpu_bytes: number | null;
  gpu_utilization: number | null;
}

interface Planned {
  listQueues(parameters?: object, options?: { signal: AbortSignal }): Promise<{ queues: QueueState[] }>;
  pauseQueue(parameters: { queue: string; body: { reason?: string } }): Promise<QueueState>;
  resumeQueue(parameters: { queue: string }): Promise<QueueState>;
  drainInstance(parameters: { worker_id: string; body: object }): Promise<unknown>;
  resumeInstance(parameters: { worker_id: string }): Promise<unknown>;
  cancelJobs(parameters: { body: object }): Promise<{ cancelled: number; stopping: number; more: boolean }>;
  listDeadLetterReasons(p?: object, options?: { signal: AbortSignal }): Promise<{ reasons: DeadReason[] }>;
  requeueDeadLetters(p: { body: object }): Promise<{ done: number; kept: number; more: boolean }>;
  dropDeadLetters(p: { body: object }): Promise<{ done: number; kept: number; more: boolean }>;
  getWorkerHistory(
    p?: object,
    options?: { signal: AbortSignal },
  ): Promise<{ every_seconds: number; samples: Sample[] }>;
}
export const planned = api as unknown as Planned;
