/** The process itself: what it says when it cannot start, and how it ends. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat } from 'node:fs/promises';
import { createServer, type AddressInfo } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { ownProgram } from '../../src/lib/processes.js';
import { projectRoot } from '../../src/lib/project.js';
import { until } from '../engines/support.js';
import { onlyTinySdxl } from '../helpers/tiny-models.js';

t.setTimeout(90_000);

function launch(t: Test, env: Record<string, string>) {
  const dir = t.testdir({});
  const child = spawn(process.execPath, ownProgram('src/server'), {
    cwd: dir,
    env: {
      PATH: process.env['PATH'],
      DATA_DIR: path.join(dir, 'data'),
      MODELS_DIR: path.join(dir, 'models'),
      PORT: '0',
      SHUTDOWN_GRACE_SECONDS: '5',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  t.teardown(() => {
    if (child.exitCode === null && child.signalCode === null) child.kill('SIGKILL');
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr])
    stream.on('data', (chunk: Buffer) => {
      output += chunk.toString();
    });
  const ended = once(child, 'close') as Promise<[number | null, NodeJS.Signals | null]>;
  const address = async () => {
    await until(
      'the address',
      () => /listening at (http:\/\/[^"\s]+)/.test(output) || child.exitCode !== null,
      40_000,
    );
    return /listening at (http:\/\/[^"\s]+)/.exec(output)?.[1] ?? '';
  };
  return { child, dir, ended, address, output: () => output };
}

t.test('a wrong environment: every problem on stderr, exit code 1', async (t) => {
  const { ended, output } = launch(t, { PORT: 'http', LOG_LEVEL: 'loud', REDIS_URL: 'redis://localhost' });
  t.same(await ended, [1, null]);
  t.match(output(), /3 problems/);
  t.match(output(), /PORT is "http"; it must be a whole number from 0 to 65535/);
  t.match(output(), /WAN_WORKER_API_KEY is not set/);
  t.notMatch(output(), /\s+at .*\.js:\d+/, 'no stack');
});

t.test('a port that is taken: a sentence, exit code 1', async (t) => {
  const holder = createServer().listen(0, '127.0.0.1');
  t.teardown(() => holder.close());
  await once(holder, 'listening');
  const { port } = holder.address() as AddressInfo;
  const { ended, output } = launch(t, { PORT: String(port) });
  t.same(await ended, [1, null]);
  t.match(output(), new RegExp(`Port ${port} of 127.0.0.1 is taken`));
});

t.test('without a key one is made, printed and kept; SIGTERM ends with code 0', async (t) => {
  const first = launch(t, {});
  const url = await first.address();
  const file = path.join(first.dir, 'data/api-key');
  const key = (await readFile(file, 'utf8')).trim();
  t.match(key, /^[\w-]{43}$/, '32 random bytes');
  t.equal((await stat(file)).mode & 0o777, 0o600, 'for this user alone');
  t.ok(first.output().includes(key), 'printed');
  t.equal((await fetch(`${url}/capabilities`, { headers: { authorization: `Bearer ${key}` } })).status, 200);
  t.equal((await fetch(`${url}/health`)).status, 200);
  first.child.kill('SIGTERM');
  t.same(await first.ended, [0, null]);
});

t.test('an event stream that is open does not hold up the end', async (t) => {
  const { child, ended, address } = launch(t, {
    WAN_WORKER_API_KEY: 'the-key-of-this-test',
    MODELS_DIR: path.join(projectRoot(), 'test/parity/models'),
  });
  const url = await address();
  const headers = { authorization: 'Bearer the-key-of-this-test', 'content-type': 'application/json' };
  // 1,024 pixels on the little model: long enough to be in the middle of it
  const body = JSON.stringify({
    type: 'sdxl_image_high',
    prompt: 'a red circle',
    user_id: '00000000-0000-4000-8000-000000000001',
    config: { width: 1024, height: 1024, num_images: 6 },
  });
  const { id } = (await (await fetch(`${url}/jobs`, { method: 'POST', headers, body })).json()) as {
    id: string;
  };
  const stream = await fetch(`${url}/jobs/${id}/events`, { headers });
  t.equal(stream.status, 200);
  const text = stream.text().catch(() => 'cut');
  child.kill('SIGTERM');
  t.same(await ended, [0, null]);
  await text;
  t.pass('the stream has ended too');
});

t.test('a second signal ends it at once', async (t) => {
  // One engine, which has started when its job runs: tap's own loader hangs in processes whose parent dies
  // while they start.
  const { child, ended, address } = launch(t, {
    WAN_WORKER_API_KEY: 'the-key-of-this-test',
    MODELS_DIR: await onlyTinySdxl(t),
    SHUTDOWN_GRACE_SECONDS: '60',
  });
  const url = await address();
  const headers = { authorization: 'Bearer the-key-of-this-test', 'content-type': 'application/json' };
  const body = JSON.stringify({
    type: 'sdxl_image_high',
    prompt: 'a red circle',
    user_id: '00000000-0000-4000-8000-000000000001',
    config: { width: 2048, height: 2048, num_images: 6 },
  });
  const { id } = (await (await fetch(`${url}/jobs`, { method: 'POST', headers, body })).json()) as {
    id: string;
  };
  await until(
    'the drawing',
    async () =>
      ((await (await fetch(`${url}/jobs/${id}`, { headers })).json()) as { status: string }).status ===
      'processing',
    40_000,
  );
  child.kill('SIGTERM');
  await until(
    'the first signal to be heard',
    async () =>
      fetch(`${url}/health`).then(
        () => false,
        () => true,
      ),
    10_000,
  );
  t.equal(child.exitCode, null, 'still finishing its job');
  child.kill('SIGTERM');
  const [code] = await ended;
  t.not(code, 0, 'and says that it was not in order');
});
