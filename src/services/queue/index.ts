import path from 'node:path';
import type { Logger } from 'pino';
import { redisUrlOf, type Config } from '../../config.js';
import { createEmbeddedStore } from './embedded/store.js';
import type { JobStore } from './job-store.js';
import { createRedisStore } from './redis/store.js';

export { FolderInUse } from './embedded/database.js';
export { QueueUnavailable } from './redis/connection.js';

/** The queue that a configuration means: Redis, or one embedded in DATA_DIR. */
export async function createJobStore(config: Config, log: Logger): Promise<JobStore> {
  const folder = path.join(config.dataDir, 'queue');
  return (
    createSharedStore(config, log) ??
    createEmbeddedStore({ folder, retentionMs: config.jobRetentionSeconds * 1000, log })
  );
}

/** The store that other processes may have open as well; undefined when the queue is embedded. */
export function createSharedStore(config: Config, log: Logger): JobStore | undefined {
  const url = redisUrlOf(config);
  if (url === undefined) return undefined;
  return createRedisStore({
    url,
    ca: config.redisTlsCa,
    retentionMs: config.jobRetentionSeconds * 1000,
    blockSeconds: config.redisBlockSeconds,
    log,
  });
}
