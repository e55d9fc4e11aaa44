import path from 'node:path';
import type { Logger } from 'pino';
import { redisUrlOf, type Config } from '../../config.js';
import { createEmbeddedStore } from './embedded/store.js';
import type { JobStore } from './job-store.js';
import { createRedisStore } from './redis/store.js';

/** The queue that a configuration means: Redis, or one embedded in DATA_DIR. */
export async function createJobStore(config: Config, log: Logger): Promise<JobStore> {
  const folder = path.join(config.dataDir, 'queue');
  return (
    createSharedStore(config, log) ??
    createEmbeddedStore({ folder, retentionMs: config.jobRetentionSeconds * 1000 })
  );
}

/** The store that other processes may have open as well; undefined when the queue is embedded. */
export function createSharedStore(config: Config, log: Logger): JobStore | undefined {
  const url = redisUrlOf(config);
  if (url === undefined) return undefined;
  const store = createRedisStore({
    url,
    retentionMs: config.jobRetentionSeconds * 1000,
    blockSeconds: config.redisBlockSeconds,
    log,
  });
  return { ...namingOutages(store), outbox: namingOutages(store.outbox) };
}

/** The server of a shared queue did not answer; trying again may help. */
export class QueueUnavailable extends Error {
  constructor(cause: Error) {
    super(`the queue does not answer: ${cause.message}`, { cause });
    this.name = 'QueueUnavailable';
  }
}

/** How the client of Redis says that nobody answers. */
const outages =
  /^(MaxRetriesPerRequestError|ECONN\w+|ETIMEDOUT|EPIPE|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|Connection is closed\.)$/;

/** The same calls; where the server does not answer they reject with `QueueUnavailable`. */
function namingOutages<Calls extends object>(calls: Calls): Calls {
  const rename = (error: unknown) => {
    const { name, code = '', message } = error as NodeJS.ErrnoException;
    throw [name, code, message].some((each) => outages.test(each))
      ? new QueueUnavailable(error as Error)
      : error;
  };
  const renamed = Object.entries(calls).map(([name, call]: [string, unknown]) => {
    if (typeof call !== 'function') return [name, call];
    const named = (...args: unknown[]): unknown => {
      const answer = (call as (...args: unknown[]) => unknown)(...args);
      return answer instanceof Promise ? answer.catch(rename) : answer;
    };
    return [name, named];
  });
  return Object.fromEntries(renamed) as Calls;
}
