/**
 * The commands of the README and the docs, run as printed (only the port and the way to ourvidz differ) against the real
 * service on its defaults. What cannot run here stands in test/helpers/documents.ts, with the reason.
 */
import { execFile } from 'node:child_process';
import { existsSync } from 'node:fs';
import { readFile, symlink } from 'node:fs/promises';
import path from 'node:path';
import { promisify } from 'node:util';
import sharp from 'sharp';
import t from 'tap';
import { ownProgram } from '../../src/lib/processes.js';
import { projectRoot } from '../../src/lib/project.js';
import { documents, linesOf, notRun, readDocument } from '../helpers/documents.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(600_000);
const run = promisify(execFile);
/** What only looks; everything else runs one after the other, as it is printed. */
const looks =
  /ourvidz(?:$| (?:jobs (?:list|show)|engine logs|models list|queue$|instance$|callbacks(?: list)?$|--help|status|doctor))/;
const undone = [
  ['queue pause', 'queue resume'],
  ['instance drain', 'instance resume'],
] as const;

t.test('the commands of the documents work', { skip: requireCommand('curl') }, async (t) => {
  const folder = t.testdir({ data: {} });
  for (const name of ['docs', 'deploy'])
    await symlink(path.join(projectRoot(), name), path.join(folder, name));
  const service = await startService({
    dataDir: path.join(folder, 'data'),
    env: { WAN_WORKER_API_KEY: undefined },
    readyTimeoutMs: 300_000,
  });
  t.teardown(() => service.cleanUp());
  const ourvidz = [process.execPath, ...ownProgram('src/cli/main')].map((part) => `'${part}'`).join(' ');
  const readme = readDocument('README.md').split('\n');
  const user = '00000000-0000-4000-8000-000000000001';
  const job = /"id": "([0-9a-f-]{36})"/.exec(readme.join('\n'))?.[1] ?? '';

  async function execute(command: string): Promise<string> {
    const line = command
      .replaceAll(':7860/', `:${service.port}/`)
      .replace(/^((?:\w+=\S+ )?)(?:npx )?ourvidz\b/, `$1${ourvidz}`)
      // The command line would take the service's key from it.
      .replace('> .env', '> other.env')
      .replace('--user ID', `--user ${user}`)
      .replace(/ ID$/, ` ${job}`);
    const { stdout } = await run('bash', ['-c', line], {
      cwd: folder,
      env: { PATH: process.env['PATH'], OURVIDZ_URL: service.baseUrl },
    }).catch((error: { code: number; stdout: string; stderr: string }) => {
      // Warnings are no errors: the machine of a test may have some.
      const fine = error.code === 8 && /status|doctor|ourvidz$/.test(command);
      if (!fine) t.fail(`${command}: exit code ${error.code}, ${error.stderr}`);
      return error;
    });
    t.ok(stdout.length > 0 || / -o | > /.test(command), command);
    if (command.includes('/events')) t.match(stdout, /"status":"completed"/, 'the events end with the job');
    if (command.includes(' generate '))
      for (const file of stdout.trim().split('\n')) t.ok(existsSync(path.resolve(folder, file)), file);
    return stdout;
  }

  const all = documents
    .flatMap((document) => linesOf(readDocument(document)).flatMap((line) => line.split(' && ')))
    .map((command) => command.replace(/^npx (?=ourvidz)/, ''))
    .filter((command) => !notRun.some(([pattern]) => pattern.test(command.replace(/^\w+=\S+ /, ''))));
  const commands = [...new Set(all)];
  t.ok(commands.length > 35, `${commands.length} commands`);
  for (const command of commands.filter((each) => !looks.test(each))) {
    const stdout = await execute(command);
    // What the README says a line prints, below it.
    const at = readme.findIndex((line) => command.startsWith('curl ') && line.startsWith(command));
    const [, said] = /^# → (.*)$/.exec(readme[at + 1] ?? '') ?? [];
    if (at >= 0 && said !== undefined) t.ok(stdout.includes(said), `${command} → ${stdout}`);
    for (const [done, undo] of undone)
      if (command.includes(done)) await execute(command.replace(done, undo).replace(/ --reason .*/, ''));
  }
  t.equal((await sharp(await readFile(path.join(folder, 'star.png'))).metadata()).format, 'png');
  const looking = commands.filter((each) => looks.test(each));
  await Promise.all(
    [0, 1].map(async (half) => {
      for (const command of looking.filter((_, index) => index % 2 === half)) await execute(command);
    }),
  );
});
