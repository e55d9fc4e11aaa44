import { existsSync, readFileSync } from 'node:fs';
import { homedir } from 'node:os';
import path from 'node:path';
import { readEnvironment } from '../../lib/environment.js';
import { projectRoot } from '../../lib/project.js';
import type { HubFile } from './hub.js';

export interface ModelLocations {
  /** Where model folders lie. */
  modelsDir: string;
  /** True: neither `--to` nor `MODELS_DIR` says so, and the service must be told. */
  isDefault: boolean;
  endpoint: string;
  token: string | undefined;
  /** The hub cache of other tools on this machine. */
  cacheDir: string;
}

/**
 * Where models go and come from: the flag, then the environment, then `.env` of the working folder. Not the
 * pocket models' folder, even though the service reads it by default: there they would stand beside models of
 * the same engines. `HF_ENDPOINT`, `HF_TOKEN` and `HF_HOME` mean what they mean to the hub's own tools.
 */
export function findModelLocations(
  to: string | undefined,
  environment: NodeJS.ProcessEnv = process.env,
  workingFolder = process.cwd(),
): ModelLocations {
  const settings = readEnvironment(environment, workingFolder);
  const home =
    settings['HF_HOME'] ??
    path.join(settings['XDG_CACHE_HOME'] ?? path.join(homedir(), '.cache'), 'huggingface');
  const tokenFile = path.join(home, 'token');
  const chosen = to ?? settings['MODELS_DIR'];
  return {
    modelsDir: path.resolve(workingFolder, chosen ?? path.join(projectRoot(), 'models/full')),
    isDefault: chosen === undefined,
    endpoint: settings['HF_ENDPOINT'] ?? 'https://huggingface.co',
    token:
      settings['HF_TOKEN'] ??
      (existsSync(tokenFile) ? readFileSync(tokenFile, 'utf8').trim() || undefined : undefined),
    cacheDir: settings['HF_HUB_CACHE'] ?? path.join(home, 'hub'),
  };
}

/** Where the hub's own tools would have kept this file. */
export function cachedBlob(cacheDir: string, repository: string, file: HubFile): string {
  return path.join(cacheDir, `models--${repository.replaceAll('/', '--')}`, 'blobs', file.checksum.value);
}
