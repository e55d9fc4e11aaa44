import { setTimeout as sleep } from 'node:timers/promises';
import { CliError, exitCodes } from './cli-error.js';
import type { Client } from './client.js';
import { isFinished, type JobView, type ProgressView } from './job-view.js';
import type { JobProgressDisplay } from './progress-view.js';

/** Seconds without any answer after which following a job gives up; the job itself goes on. */
const giveUpAfterSeconds = 60;

/**
 * Follows a job to its end by its event stream, resuming where it broke off (a restart of the service in between is
 * no reason to lose sight of the job), and returns the finished job.
 */
export async function followJob(client: Client, jobId: string, display: JobProgressDisplay, signal: AbortSignal): Promise<JobView> {
  let lastEventId: string | undefined;
  let attempts = 1;
  let failingSinceMs: number | null = null;
  const target = `/jobs/${encodeURIComponent(jobId)}`;
  for (;;) {
    try {
      for await (const message of client.events(jobId, lastEventId, signal)) {
        failingSinceMs = null;
        lastEventId = message.id ?? lastEventId;
        if (message.event === 'progress') display.update(message.data as ProgressView);
        if (message.event === 'state') {
          const state = message.data as Pick<JobView, 'status' | 'attempts'>;
          if (state.attempts > attempts) display.note(`Attempt ${state.attempts}: the one before was interrupted`);
          attempts = Math.max(attempts, state.attempts);
        }
      }
      const job = await client.request<JobView>('GET', target, { signal });
      failingSinceMs = null;
      if (isFinished(job.status)) return job;
    } catch (error) {
      if (signal.aborted) throw error;
      const isFinal = error instanceof CliError && error.exitCode !== exitCodes.unreachable && error.exitCode !== exitCodes.busy;
      failingSinceMs ??= Date.now();
      if (isFinal || Date.now() - failingSinceMs > giveUpAfterSeconds * 1000) throw error;
    }
    await sleep(500, undefined, { signal });
  }
}
