import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, lstat, mkdir, readFile, readdir, symlink, writeFile } from 'node:fs/promises';
import path from 'node:path';
import t from 'tap';
import { ownProgram } from '../../src/lib/processes.js';
import { startService } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(240_000);

/** Files and folders that somebody else than their owner may open. */
async function openToOthers(folder: string): Promise<string[]> {
  const found = [folder];
  for (const name of await readdir(folder, { recursive: true })) found.push(path.join(folder, name));
  // A file that is just being replaced has another name by now.
  const modes = await Promise.all(
    found.map(async (file) => ({ file, info: await lstat(file).catch(() => null) })),
  );
  return modes
    .filter(({ info }) => info !== null && !info.isSymbolicLink() && (info.mode & 0o077) !== 0)
    .map(({ file, info }) => `${path.relative(folder, file)} ${((info?.mode ?? 0) & 0o777).toString(8)}`);
}

t.test('DATA_DIR is for its owner alone: what was there, and what the service makes', async (t) => {
  const before = process.umask(0o022);
  t.teardown(() => process.umask(before));
  const folder = t.testdir({ outside: 'not ours' });
  const dataDir = path.join(folder, 'data');
  await mkdir(path.join(dataDir, 'assets/old'), { recursive: true });
  await writeFile(path.join(dataDir, 'api-key'), '');
  await writeFile(path.join(dataDir, 'assets/old/0.png'), 'a picture of before');
  await symlink(path.join(folder, 'outside'), path.join(dataDir, 'link'));
  for (const name of ['', 'assets', 'assets/old']) await chmod(path.join(dataDir, name), 0o777);
  for (const name of ['data/api-key', 'data/assets/old/0.png', 'outside'])
    await chmod(path.join(folder, name), 0o666);

  const service = await startService({ dataDir, env: { WAN_WORKER_API_KEY: undefined } });
  t.teardown(() => service.cleanUp());
  const key = (await readFile(path.join(dataDir, 'api-key'), 'utf8')).trim();
  t.ok(key.length > 20, 'the empty file has a key now');
  const headers = { authorization: `Bearer ${key}`, 'content-type': 'application/json' };
  const payload = {
    user_id: '00000000-0000-4000-8000-000000000001',
    type: 'sdxl_image_fast',
    prompt: 'a red circle',
    config: { num_images: 1, seed: 7 },
  };
  const submitted = await fetch(`${service.baseUrl}/jobs`, {
    method: 'POST',
    headers,
    body: JSON.stringify(payload),
  });
  const { id } = (await submitted.json()) as { id: string };
  const open = new Set<string>();
  await waitFor(
    async () => {
      // Also while the job runs: its work folder and sockets.
      for (const file of await openToOthers(dataDir).catch(() => [])) open.add(file);
      const job = await fetch(`${service.baseUrl}/jobs/${id}`, { headers });
      return ((await job.json()) as { status: string }).status === 'completed';
    },
    { what: 'the job', timeoutMs: 120_000 },
  );
  const pictures = (await readdir(path.join(dataDir, 'assets'), { recursive: true })).filter((name) =>
    name.endsWith('0.png'),
  );
  t.equal(pictures.length, 2, 'the old picture and the new one');
  t.same([...open, ...(await openToOthers(dataDir))], []);
  t.equal((await lstat(path.join(folder, 'outside'))).mode & 0o777, 0o666, 'nothing behind a link');
});

t.test("the commands' own DATA_DIR, too", async (t) => {
  const before = process.umask(0o022);
  t.teardown(() => process.umask(before));
  const folder = t.testdir({});
  const doctor = spawn(process.execPath, [...ownProgram('src/cli/main'), 'doctor', '--local'], {
    cwd: folder,
    env: { PATH: process.env['PATH'], HOME: process.env['HOME'] },
    stdio: 'ignore',
  });
  await once(doctor, 'close');
  t.same(await openToOthers(path.join(folder, 'data')), []);
});
