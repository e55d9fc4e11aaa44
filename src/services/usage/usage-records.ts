import type { FinishedJobFacts } from '../jobs/runner-parts.js';

/** Spec section 4. Times in seconds, memory in GB (10⁹ bytes) as in the callbacks' `vram_used_gb`, null where nothing can be measured. */
export interface WorkerMetricsRecord {
  worker_id: string;
  job_type: string;
  generation_time: number;
  vram_used: number | null;
  success: boolean;
  timestamp: string;
}

export interface CompletionStatisticsRecord {
  job_id: string;
  user_id: string;
  job_type: string;
  assets_generated: number;
  /** Megabytes of 10⁶ bytes. */
  total_size_mb: number;
  completion_timestamp: string;
}

/** The two records of one finished job, with the id each is sent under however often. */
export function buildUsageRecords(facts: FinishedJobFacts, { workerId, atMs }: { workerId: string; atMs: number }): Array<{ id: string; record: WorkerMetricsRecord | CompletionStatisticsRecord }> {
  const { job } = facts;
  const timestamp = new Date(atMs).toISOString();
  return [
    {
      id: `${job.id}:worker_metrics`,
      record: {
        worker_id: workerId, job_type: job.type, generation_time: facts.generationSeconds,
        vram_used: facts.deviceBytes === null ? null : rounded(facts.deviceBytes / 1e9), success: facts.outcome === 'completed', timestamp,
      },
    },
    {
      id: `${job.id}:completion_statistics`,
      record: { job_id: job.id, user_id: job.userId, job_type: job.type, assets_generated: facts.assets, total_size_mb: rounded(facts.totalBytes / 1e6), completion_timestamp: timestamp },
    },
  ];
}

function rounded(number: number): number {
  return Math.round(number * 1000) / 1000;
}
