/**
 * Part of `prepare`: programs that npm does not link into node_modules/.bin by itself, or not on every version.
 *
 * - `ourvidz`, so that npx finds the project's own command at once instead of installing the project into its cache.
 * - `node`: npm 10 takes this machine's link away again with the runtimes of other systems, which it did not install.
 */
import { existsSync, rmSync, symlinkSync } from 'node:fs';

const bin = new URL('../node_modules/.bin/', import.meta.url);
// Windows knows no links without extra rights, and finds its own way.
if (process.platform !== 'win32' && existsSync(bin)) {
  const runtime = ['node', 'node-bin']
    .map((prefix) => `${prefix}-${process.platform}-${process.arch}/bin/node`)
    .find((file) => existsSync(new URL(`../${file}`, bin)));
  if (runtime !== undefined) link('node', `../${runtime}`);
  link('ourvidz', '../../dist/src/cli/main.js');
}

function link(name, target) {
  const place = new URL(name, bin);
  rmSync(place, { force: true });
  symlinkSync(target, place);
}
