/** A job as `GET /jobs/{id}` shows it (openapi.yaml, schema Job). */
export interface JobView {
  id: string;
  type: string;
  status: 'queued' | 'processing' | 'completed' | 'failed' | 'cancelled';
  progress: ProgressView;
  attempts: number;
  assets: string[];
  error_message?: string;
  metadata: Record<string, unknown>;
  created_at: string;
  started_at?: string;
  finished_at?: string;
}

export interface ProgressView {
  stage: string;
  step: number;
  steps: number;
  /** 0–1 over the whole job. */
  fraction: number;
  eta_seconds: number | null;
}

export function isFinished(status: JobView['status']): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled';
}
