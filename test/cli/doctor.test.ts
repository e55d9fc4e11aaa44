import { execFile } from 'node:child_process';
import { cp, rm } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { ownProgram } from '../../src/lib/processes.js';
import { projectRoot } from '../../src/lib/project.js';

function doctor(
  cwd: string,
  environment: NodeJS.ProcessEnv,
): Promise<{ code: number; stdout: string; stderr: string }> {
  return new Promise((resolve) => {
    const child = execFile(
      process.execPath,
      [...ownProgram('src/cli/main'), 'doctor', '--local'],
      { cwd, env: { PATH: process.env['PATH'], HOME: process.env['HOME'], ...environment } },
      (_error, stdout, stderr) => resolve({ code: child.exitCode ?? -1, stdout, stderr }),
    );
  });
}

const tiny = path.join(projectRoot(), 'test/parity/models/sdxl-tiny');

t.test('the exit code says how bad it is', async (t) => {
  const cwd = t.testdir({ complete: {}, broken: {} });
  for (const name of ['complete', 'broken'])
    await cp(tiny, path.join(cwd, name, 'sdxl'), { recursive: true, dereference: true });
  await rm(path.join(cwd, 'broken/sdxl/model_index.json'));
  const warned = await doctor(cwd, { MODELS_DIR: path.join(cwd, 'complete') });
  t.equal(warned.code, 8, 'no WAN model: works with less');
  t.match(warned.stdout, /WARN +wan .*no wan model folder/);
  const failed = await doctor(cwd, { MODELS_DIR: path.join(cwd, 'broken') });
  t.equal(failed.code, 1);
  t.match(failed.stdout, /ERROR +sdxl .*model_index\.json is missing .*docs\/models\.md/);
  const misconfigured = await doctor(cwd, { PORT: 'x', REDIS_URL: 'redis://127.0.0.1' });
  t.equal(misconfigured.code, 1, 'a wrong environment is a finding, not a crash');
  t.match(misconfigured.stdout, /ERROR +PORT[^]*ERROR +WAN_WORKER_API_KEY/);
});
