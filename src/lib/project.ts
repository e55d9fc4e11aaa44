import { existsSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

/** Folder that holds package.json: the same from `src` and from `dist`, so data files are found from both. */
export function projectRoot(): string {
  let folder = path.dirname(fileURLToPath(import.meta.url));
  while (!existsSync(path.join(folder, 'package.json'))) {
    const parent = path.dirname(folder);
    if (parent === folder) throw new Error('package.json of the worker was not found above its own code');
    folder = parent;
  }
  return folder;
}

/** Version of this project. */
export const ownVersion = (): string => versionIn(projectRoot()) as string;

/** How every request of this service and its commands names who sends it. */
export const userAgent = (): string => (agent ??= `ourvidz-worker/${ownVersion()}`);
let agent: string | undefined;

/** Version of an installed package; null when there is none. */
export function packageVersion(name: string): string | null {
  const folders = createRequire(import.meta.url).resolve.paths(name) ?? [];
  return (
    folders.map((folder) => versionIn(path.join(folder, name))).find((version) => version !== null) ?? null
  );
}

/** Of the package in this folder; null where there is none. */
export function versionIn(folder: string): string | null {
  const file = path.join(folder, 'package.json');
  if (!existsSync(file)) return null;
  return (JSON.parse(readFileSync(file, 'utf8')) as { version: string }).version;
}
