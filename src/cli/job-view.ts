import type { components } from '../contract/generated.js';

/** A job as `GET /jobs/{id}` shows it. */
export type JobView = components['schemas']['Job'];
export type ProgressView = components['schemas']['JobProgress'];

export function isFinished(status: JobView['status']): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled';
}
