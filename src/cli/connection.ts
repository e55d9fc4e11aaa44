import { readFileSync } from 'node:fs';
import path from 'node:path';
import { readEnvironment } from '../lib/environment.js';

export interface Connection {
  /** Origin of the service, without a trailing slash. */
  url: string;
  apiKey: string | undefined;
}

export interface ConnectionOptions {
  url?: string | undefined;
  key?: string | undefined;
}

/**
 * Where the service is and with which key: flags first, then the environment, then `.env` of the working
 * folder. A service on this machine without a configured key writes a generated one to `DATA_DIR/api-key`;
 * that file is read only when the address is a loopback one, so that a local key never travels.
 */
export function resolveConnection(
  options: ConnectionOptions,
  environment: NodeJS.ProcessEnv = process.env,
  workingFolder = process.cwd(),
): Connection {
  const settings = readEnvironment(environment, workingFolder);
  const url = (
    options.url ??
    settings['OURVIDZ_URL'] ??
    `http://127.0.0.1:${settings['PORT'] ?? '7860'}`
  ).replace(/\/+$/, '');
  const apiKey =
    options.key ??
    settings['WAN_WORKER_API_KEY'] ??
    (isLoopback(url)
      ? readGeneratedKey(path.resolve(workingFolder, settings['DATA_DIR'] ?? 'data'))
      : undefined);
  return { url, apiKey };
}

/**
 * The key a service without `WAN_WORKER_API_KEY` generated for itself, if there is one in its data folder.
 */
export function readGeneratedKey(dataDir: string): string | undefined {
  try {
    return readFileSync(path.join(dataDir, 'api-key'), 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}

function isLoopback(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { hostname } = new URL(url);
  return hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
}
