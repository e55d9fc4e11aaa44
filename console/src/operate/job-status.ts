import type { Job } from '../api.js';
import { duration } from '../format.js';

/** Of a job, or of a list of them. */
export type Status = Job['status'] | 'all';

export const statusNames: Record<Status, string> = {
  all: 'All',
  queued: 'Waiting',
  processing: 'Running',
  completed: 'Done',
  failed: 'Failed',
  cancelled: 'Cancelled',
};

export const statusTones: Partial<Record<Status, string>> = {
  processing: 'good',
  failed: 'bad',
  queued: 'warn',
};

/** In one line: why it waits, how far it is, or what went wrong. */
export function whyOf(job: Job, progress = job.progress): string {
  if (job.status === 'queued') return job.waiting?.message ?? '';
  if (job.status === 'processing') {
    const { stage, step, steps, eta_seconds: eta } = progress;
    const left = eta === null ? '' : `, about ${duration(eta)} left`;
    return `${stage}${steps > 0 ? ` ${step} of ${steps}` : ''}${left}`;
  }
  return job.error_message ?? '';
}
