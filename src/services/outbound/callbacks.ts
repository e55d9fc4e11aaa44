import type { Callback, CallbackEvent } from '../queue/outbox.js';

/** Body of a callback (spec section 4). `status` of a progress callback is `processing`. */
export interface CallbackBody {
  job_id: string;
  status: 'processing' | 'completed' | 'failed';
  assets: string[];
  error_message?: string;
  metadata: Record<string, unknown>;
}

export interface CallbackContent {
  jobId: string;
  /** The id as the producer wrote it, for the body; default: `jobId`. */
  writtenId?: string;
  assets: string[];
  errorMessage?: string;
  metadata: Record<string, unknown>;
}
/** Builds a callback; undefined when no callback URL is configured. */
export type BuildCallback = (event: CallbackEvent, content: CallbackContent) => Callback | undefined;

const statuses: Record<CallbackEvent, CallbackBody['status']> = {
  processing: 'processing',
  progress: 'processing',
  completed: 'completed',
  failed: 'failed',
};

export function createCallbackBuilder(url: string | undefined, now = Date.now): BuildCallback {
  return (event, { jobId, writtenId = jobId, assets, errorMessage, metadata }) => {
    if (url === undefined) return undefined;
    const body: CallbackBody = {
      job_id: writtenId,
      status: statuses[event],
      assets,
      ...(errorMessage === undefined ? {} : { error_message: errorMessage }),
      metadata,
    };
    return { id: `${jobId}:${event}`, jobId, event, url, body: JSON.stringify(body), createdAtMs: now() };
  };
}
