import path from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../../config.js';
import { keyTrouble, readServiceKey } from '../../lib/supabase.js';
import { createFolderStorage } from './folder.js';
import type { AssetService, Storage } from './storage.js';
import { createSupabaseStorage } from './supabase.js';

/** The folder unless Supabase is configured; its files are then served by the service. */
export function createStorage(config: Config): { storage: Storage; assets?: AssetService } {
  const { supabaseUrl: url, supabaseServiceKey: serviceKey, assetUrls } = config;
  const kind = config.storage ?? (url === undefined ? 'folder' : 'supabase');
  if (kind === 'supabase' && url !== undefined && serviceKey !== undefined)
    return {
      storage: createSupabaseStorage({
        url,
        serviceKey,
        assetUrls,
        signedUrlSeconds: config.assetUrlSeconds,
        imageType: `image/${config.imageFormat}`,
      }),
    };
  const folder = createFolderStorage({
    root: path.join(config.dataDir, 'assets'),
    publicUrl: config.publicUrl,
  });
  return { storage: folder, assets: folder };
}

const inspectionMs = 30_000;

/** Says at the start what the key says of itself, and what of the storage's settings cannot work. */
export async function reportStorage(
  { supabaseServiceKey: key }: Config,
  storage: Pick<Storage, 'inspect'>,
  log: Logger,
): Promise<void> {
  if (key !== undefined) {
    const { kind, role, expiresAtMs } = readServiceKey(key);
    const expires = expiresAtMs === undefined ? 'never' : new Date(expiresAtMs).toISOString();
    const trouble = keyTrouble(key);
    const level = trouble === null ? 'info' : trouble.severity === 'error' ? 'error' : 'warn';
    log[level](
      { event: 'service_key', kind, ...(kind === 'jwt' ? { role, expires } : {}) },
      trouble?.message ?? 'the key of Supabase was read',
    );
  }
  const problems = await storage.inspect?.(AbortSignal.timeout(inspectionMs)).catch((err: unknown) => {
    log.warn({ err }, 'the settings of the storage could not be looked at');
    return [];
  });
  for (const problem of problems ?? []) log.error({ event: 'storage_settings' }, problem);
}
