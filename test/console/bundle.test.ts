/** What a browser loads for the console stays small, and is all there. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { gzipSync } from 'node:zlib';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';

const folder = path.join(projectRoot(), 'dist', 'console');
const limitBytes = 150_000;

t.test('everything of the console together is at most 150 kB, gzipped', async (t) => {
  const files = readdirSync(folder).map((name) => ({
    name,
    bytes: gzipSync(readFileSync(path.join(folder, name))).length,
  }));
  const sum = files.reduce((total, { bytes }) => total + bytes, 0);
  t.ok(sum > 20_000, 'it was built');
  t.ok(sum <= limitBytes, `${sum} bytes: ${files.map(({ name, bytes }) => `${name} ${bytes}`).join(', ')}`);
  for (const ending of ['html', 'js', 'css', 'woff2', 'svg'])
    t.equal(files.filter(({ name }) => name.endsWith(`.${ending}`)).length, 1, `one ${ending}`);
});
