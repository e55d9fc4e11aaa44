import path from 'node:path';
import type { Config } from '../../config.js';
import { createFolderStorage } from './folder.js';
import type { AssetService, Storage } from './storage.js';
import { createSupabaseStorage } from './supabase.js';

/** The folder unless Supabase is configured; its files are then served by the service. */
export function createStorage(config: Config): { storage: Storage; assets?: AssetService } {
  const { supabaseUrl: url, supabaseServiceKey: serviceKey, assetUrls } = config;
  const kind = config.storage ?? (url === undefined ? 'folder' : 'supabase');
  if (kind === 'supabase' && url !== undefined && serviceKey !== undefined)
    return { storage: createSupabaseStorage({ url, serviceKey, assetUrls }) };
  const folder = createFolderStorage({
    root: path.join(config.dataDir, 'assets'),
    publicUrl: config.publicUrl,
  });
  return { storage: folder, assets: folder };
}
