/**
 * Part of `prepare`: npm 10 unlinks this machine's `node` again together with the runtimes of other systems, which it
 * did not install.
 */
import { existsSync, rmSync, symlinkSync } from 'node:fs';

const bin = new URL('../node_modules/.bin/', import.meta.url);
const runtime = ['node', 'node-bin']
  .map((prefix) => `../${prefix}-${process.platform}-${process.arch}/bin/node`)
  .find((file) => existsSync(new URL(file, bin)));
// Windows knows no links without extra rights.
if (runtime !== undefined && process.platform !== 'win32') {
  rmSync(new URL('node', bin), { force: true });
  symlinkSync(runtime, new URL('node', bin));
}
