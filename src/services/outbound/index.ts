import type { Logger } from 'pino';
import { callbackUrlOf, type Config } from '../../config.js';
import { sameOrigin } from '../../lib/supabase.js';
import type { JobStore } from '../queue/job-store.js';
import { createCallbackRelay } from './callback-relay.js';
import { createCallbackSender, type Credentials } from './sender.js';
import { createUrlRegistration } from './url-registration.js';
import { createUsageReporter } from './usage-reporter.js';
import type { Callback, CallbackEvent } from '../queue/store-parts.js';

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

/**
 * What may be sent where: the service key to Supabase's own origin, a signature to the receiver that shares
 * its secret. Without a receiver of its own a worker sends entries of others where those say, unsigned.
 */
export function createCredentials(
  config: Pick<Config, 'supabaseUrl' | 'supabaseServiceKey' | 'callbackUrl' | 'callbackSecret'>,
): (url: string) => Credentials {
  const { supabaseUrl, supabaseServiceKey: serviceKey, callbackSecret: secret } = config;
  const receiver = callbackUrlOf(config);
  return (url) => ({
    ...(supabaseUrl !== undefined && sameOrigin(url, supabaseUrl) ? { serviceKey } : {}),
    ...(receiver !== undefined && sameOrigin(url, receiver) ? { secret } : {}),
  });
}

/** Everything this service says unasked: callbacks, usage records, its own address. */
export function createOutbound(
  config: Config,
  log: Logger,
  { store, workerId }: { store: Pick<JobStore, 'outbox'>; workerId: string },
) {
  const { supabaseUrl, supabaseServiceKey, metricsUrl } = config;
  const credentials = createCredentials(config);
  return {
    callback: createCallbackBuilder(callbackUrlOf(config)),
    relay: createCallbackRelay({
      outbox: store.outbox,
      sender: createCallbackSender({ credentials }),
      receiver: callbackUrlOf(config),
      workerId,
      log,
    }),
    usage:
      metricsUrl === undefined
        ? undefined
        : createUsageReporter({
            url: metricsUrl,
            sender: createCallbackSender({ credentials }),
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
