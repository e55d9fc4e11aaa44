import type { Logger } from 'pino';
import { callbackUrlOf, type Config } from '../../config.js';
import type { JobStore } from '../queue/job-store.js';
import { createCallbackRelay } from './callback-relay.js';
import { createCallbackBuilder } from './callbacks.js';
import { createCallbackSender } from './sender.js';
import { createUrlRegistration } from './url-registration.js';
import { createUsageReporter } from './usage-reporter.js';

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
