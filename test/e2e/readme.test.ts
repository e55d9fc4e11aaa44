/**
 * The curl lines of the README and the docs, and the README's lines of ourvidz, run as printed (only the port
 * differs) against the real service on its defaults.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readdir, readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import t from 'tap';
import { ownProgram } from '../../src/lib/processes.js';
import { projectRoot } from '../../src/lib/project.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(360_000);
const run = promisify(execFile);

t.test('every curl line of the README works', { skip: requireCommand('curl') }, async (t) => {
  const texts = await Promise.all(
    ['README.md', ...(await readdir(path.join(projectRoot(), 'docs'))).map((name) => `docs/${name}`)]
      .filter((name) => name.endsWith('.md'))
      .map((name) => readFile(path.join(projectRoot(), name), 'utf8')),
  );
  const all = texts.join('\n').replaceAll('\\\n', ' ').split('\n');
  const lines = all.filter((line) => line.startsWith('curl '));
  t.ok(lines.length >= 9, `${lines.length} curl lines`);

  const folder = t.testdir({ data: {} });
  const service = await startService({
    dataDir: path.join(folder, 'data'),
    env: { WAN_WORKER_API_KEY: undefined },
  });
  t.teardown(() => service.cleanUp());
  for (const line of lines) {
    const { stdout } = await run('bash', ['-c', line.replaceAll(':7860/', `:${service.port}/`)], {
      cwd: folder,
      env: { PATH: process.env['PATH'] },
    });
    t.ok(stdout.length > 0 || line.includes(' -o '), line);
    // What the README says a line prints, below it.
    const [, said] = /^# → (.*)$/.exec(all[all.indexOf(line) + 1] ?? '') ?? [];
    if (said !== undefined) t.ok(stdout.includes(said), `${line} → ${stdout}`);
    if (line.includes('/events')) t.match(stdout, /"status":"completed"/, 'the events end with the job');
  }
  t.equal((await sharp(await readFile(path.join(folder, 'star.png'))).metadata()).format, 'png');

  const ownLines = (texts[0] ?? '').split('\n').filter((line) => line.startsWith('npx ourvidz '));
  t.ok(ownLines.length >= 5, `${ownLines.length} lines of ourvidz`);
  for (const line of ownLines) {
    const ourvidz = [process.execPath, ...ownProgram('src/cli/main')].map((part) => `'${part}'`).join(' ');
    const { stdout } = await run('bash', ['-c', line.replace('npx ourvidz', ourvidz)], {
      cwd: folder,
      env: { PATH: process.env['PATH'], OURVIDZ_URL: service.baseUrl },
    });
    t.ok(stdout.length > 0, line);
    if (line.includes(' generate '))
      for (const file of stdout.trim().split('\n')) t.ok(existsSync(path.resolve(folder, file)), file);
  }
});
