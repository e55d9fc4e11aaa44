import type { Callback, CallbackEvent } from '../queue/job-store.js';
import type { BuildCallback } from '../jobs/runner-parts.js';

/** Body of a callback (spec section 4). `status` of a progress callback is `processing`. */
export interface CallbackBody {
  job_id: string;
  status: 'processing' | 'completed' | 'failed';
  assets: string[];
  error_message?: string;
  metadata: Record<string, unknown>;
}

const statuses: Record<CallbackEvent, CallbackBody['status']> = {
  processing: 'processing',
  progress: 'processing',
  completed: 'completed',
  failed: 'failed',
};

/** Builds callbacks; with no URL there is nobody to call and every answer is undefined. */
export function createCallbackBuilder({
  url,
  now = Date.now,
}: {
  url: string | undefined;
  now?: () => number;
}): BuildCallback {
  return (event, { jobId, assets, errorMessage, metadata }): Callback | undefined => {
    if (url === undefined) return undefined;
    const body: CallbackBody = {
      job_id: jobId,
      status: statuses[event],
      assets,
      ...(errorMessage === undefined ? {} : { error_message: errorMessage }),
      metadata,
    };
    return { id: `${jobId}:${event}`, jobId, event, url, body: JSON.stringify(body), createdAtMs: now() };
  };
}
