import type { Logger } from 'pino';
import { callbackUrlOf, type Config } from '../../config.js';
import type { JobStore } from '../queue/job-store.js';
import { createCallbackRelay } from './callback-relay.js';
import { createCallbackSender } from './sender.js';
import { createUrlRegistration } from './url-registration.js';
import { createUsageReporter } from './usage-reporter.js';
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

/** Everything this service says unasked: callbacks, usage records, its own address. */
export function createOutbound(
  config: Config,
  log: Logger,
  { store, workerId }: { store: Pick<JobStore, 'outbox'>; workerId: string },
) {
  const { supabaseUrl, supabaseServiceKey, callbackSecret: secret, metricsUrl } = config;
  const serviceKeyFor = (url: string) =>
    supabaseUrl !== undefined && new URL(url).origin === new URL(supabaseUrl).origin
      ? supabaseServiceKey
      : undefined;
  return {
    callback: createCallbackBuilder(callbackUrlOf(config)),
    relay: createCallbackRelay({
      outbox: store.outbox,
      sender: createCallbackSender({ secret, serviceKey: supabaseServiceKey }),
      workerId,
      log,
    }),
    /** The service key goes to Supabase only: the metrics endpoint may be anybody's. */
    usage:
      metricsUrl === undefined
        ? undefined
        : createUsageReporter({
            url: metricsUrl,
            sender: createCallbackSender({ secret, serviceKey: serviceKeyFor(metricsUrl) }),
            workerId,
            log,
          }),
    registration: createUrlRegistration({
      podId: config.podId,
      supabaseUrl,
      serviceKey: supabaseServiceKey,
      log,
      ...(config.publicUrl === undefined ? {} : { publicUrl: config.publicUrl }),
      ...(config.publicUrlFile === undefined ? {} : { urlFile: config.publicUrlFile }),
    }),
  };
}
export type Outbound = ReturnType<typeof createOutbound>;
