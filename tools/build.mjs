/**
 * Builds dist: types from openapi.yaml, everything in TypeScript, the client's declarations, the console. With
 * `--if-needed` only when something is newer than the last build: whoever starts the service a second time need not
 * wait, and `npx ourvidz` in a fresh clone does not rewrite what a service runs from (npx prepares a package once).
 */
import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, readdirSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';

process.chdir(fileURLToPath(new URL('..', import.meta.url)));
const stamp = 'dist/.built';
const folders = ['src', 'client', 'console', 'test', 'bench', 'tools'];
const files = ['openapi.yaml', 'package.json', 'tsconfig.json', 'node_modules/.package-lock.json'];

/** A folder's own time tells of what was removed from it. */
function changedSince(time) {
  const all = folders.flatMap((folder) => [
    folder,
    ...readdirSync(folder, { recursive: true }).map((name) => path.join(folder, name)),
  ]);
  return [...all, ...files].some((name) => existsSync(name) && statSync(name).mtimeMs > time);
}

const began = new Date();
const fresh = existsSync(stamp) && !changedSince(statSync(stamp).mtimeMs);
if (fresh && process.argv.includes('--if-needed')) process.exit();

const tsc = 'node_modules/typescript/bin/tsc';
for (const step of [
  ['tools/generate-contract-types.mjs'],
  [tsc, '-p', 'tsconfig.json'],
  [tsc, '-p', 'client/tsconfig.json'],
  ['tools/build-console.mjs'],
]) {
  const { status } = spawnSync(process.execPath, step, { stdio: 'inherit' });
  if (status !== 0) process.exit(status ?? 1);
}
chmodSync('dist/src/cli/main.js', 0o755);
writeFileSync(stamp, '');
// What changes while it builds is newer.
utimesSync(stamp, began, began);
