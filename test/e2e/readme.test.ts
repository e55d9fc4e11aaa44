/**
 * The README's curl lines, run as printed (only the port differs) against the real service on its defaults.
 */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(120_000);
const run = promisify(execFile);

t.test('every curl line of the README works', { skip: requireCommand('curl') }, async (t) => {
  const readme = await readFile(path.join(projectRoot(), 'README.md'), 'utf8');
  const all = readme.replaceAll('\\\n', ' ').split('\n');
  const lines = all.filter((line) => line.startsWith('curl '));
  t.ok(lines.length >= 6, `${lines.length} curl lines`);

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
});
