import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import type { Client } from './client.js';
import type { JobView } from './job-view.js';

/**
 * Saves a finished job's assets as `{prompt in short}-{seed}.{ext}` in `folder` (created when missing); a
 * name that is taken gets a number, nothing is overwritten. Returns absolute paths in the order of the
 * assets. Where the service names places in a bucket instead of addresses (`ASSET_URLS=path`) nothing can be
 * fetched: the place is returned as it is.
 */
export async function saveAssets(
  client: Client,
  job: JobView,
  prompt: string,
  folder: string,
): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const { seed, seeds } = job.metadata as { seed?: unknown; seeds?: unknown };
  const files: string[] = [];
  for (const [index, asset] of job.assets.entries()) {
    if (!/^(\/|https?:\/\/)/.test(asset)) {
      files.push(asset);
      continue;
    }
    const extension = /\.[a-z0-9]{1,8}$/i.exec(new URL(asset, client.url).pathname)?.[0] ?? '.bin';
    // Only a number becomes part of a file's name: anything else could lead out of the folder.
    const own: unknown = (Array.isArray(seeds) ? seeds : [seed])[index];
    const name = `${slugOf(prompt)}-${Number.isSafeInteger(own) ? Number(own) : index}`;
    files.push(await saveUnderFreeName(client, asset, path.resolve(folder, name), extension));
  }
  return files;
}

async function saveUnderFreeName(
  client: Client,
  asset: string,
  stem: string,
  extension: string,
): Promise<string> {
  for (let number = 1; ; number += 1) {
    const file = `${stem}${number === 1 ? '' : `-${number}`}${extension}`;
    try {
      await client.download(asset, file);
      return file;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/** A file name of at most 60 letters, digits and dashes; letters of every script stay. */
export function slugOf(prompt: string): string {
  const slug = prompt
    .toLowerCase()
    .normalize('NFC')
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-+|-+$/g, '');
  return [...slug].slice(0, 60).join('').replace(/-+$/, '') || 'picture';
}
