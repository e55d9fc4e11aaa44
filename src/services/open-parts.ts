import path from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../config.js';
import { ownFile } from '../lib/processes.js';
import { projectRoot } from '../lib/project.js';
import { createEmbeddedStore } from './queue/embedded/store.js';
import { createRedisStore } from './queue/redis/store.js';
import type { JobStore } from './queue/job-store.js';
import { createFolderStorage } from './storage/folder.js';
import { createSupabaseStorage } from './storage/supabase.js';
import type { AssetService, Storage } from './storage/storage.js';

/** Which parts a configuration means: the same answer for the service and for `ourvidz doctor --local`. */

export const modelsDirOf = (config: Config): string =>
  config.modelsDir ?? path.join(projectRoot(), 'models/pocket');
export const engineEntryFile = (): string => ownFile('src/inference/engine-main');

export async function openStore(
  config: Config,
  redisUrl: string | undefined,
  log: Logger,
): Promise<JobStore> {
  return (
    openSharedStore(config, redisUrl, log) ??
    createEmbeddedStore({
      folder: path.join(config.dataDir, 'queue'),
      retentionMs: config.jobRetentionSeconds * 1000,
    })
  );
}

/** The store that other processes may have open as well; undefined when the queue is embedded. */
export function openSharedStore(
  config: Config,
  redisUrl: string | undefined,
  log: Logger,
): JobStore | undefined {
  return redisUrl === undefined
    ? undefined
    : createRedisStore({
        url: redisUrl,
        retentionMs: config.jobRetentionSeconds * 1000,
        blockSeconds: config.redisBlockSeconds,
        log,
      });
}

/** The folder unless Supabase is configured; its files are then served by the service. */
export function openStorage(config: Config): { storage: Storage; assets?: AssetService } {
  const { supabaseUrl: url, supabaseServiceKey: serviceKey } = config;
  if (
    (config.storage ?? (url === undefined ? 'folder' : 'supabase')) === 'supabase' &&
    url !== undefined &&
    serviceKey !== undefined
  ) {
    return { storage: createSupabaseStorage({ url, serviceKey, assetUrls: config.assetUrls }) };
  }
  const folder = createFolderStorage({
    root: path.join(config.dataDir, 'assets'),
    publicUrl: config.publicUrl,
  });
  return { storage: folder, assets: folder };
}
