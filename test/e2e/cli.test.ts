/** The command line and the demo against the real service. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import sharp from 'sharp';
import t from 'tap';
import { hasDesktop } from '../../src/cli/job-view.js';
import { ownProgram } from '../../src/lib/processes.js';
import { quoted } from '../cli/support.js';
import { requireCommand } from '../helpers/requirements.js';
import { startService } from '../helpers/service-process.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(240_000);

function start(script: string, args: string[], cwd: string, env: Record<string, string> = {}) {
  const child = spawn(process.execPath, [...ownProgram(`src/cli/${script}`), ...args], {
    cwd,
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      MODELS_DIR: process.env['OURVIDZ_TEST_MODELS'],
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const output = { stdout: '', stderr: '' };
  child.stdout.on('data', (chunk) => {
    output.stdout += String(chunk);
  });
  child.stderr.on('data', (chunk) => {
    output.stderr += String(chunk);
  });
  return {
    child,
    output,
    done: once(child, 'close').then(([code]) => ({ code: code as number, ...output })),
  };
}

t.test('ourvidz against a service with a generated key', async (t) => {
  const folder = t.testdir({});
  const dataDir = path.join(folder, 'data');
  await mkdir(dataDir);
  const service = await startService({ dataDir, env: { WAN_WORKER_API_KEY: undefined } });
  t.teardown(() => service.cleanUp());
  const run = (...args: string[]) => start('main', [...args, '--url', service.baseUrl], folder).done;

  t.equal((await stat(path.join(dataDir, 'api-key'))).mode & 0o777, 0o600, 'only its owner reads the key');

  const drawn = await run(
    'generate',
    'a red circle above a blue square',
    '--images',
    '3',
    '--seed',
    '7',
    '--output',
    'out',
  );
  t.equal(drawn.code, 0, drawn.stderr);
  const files = drawn.stdout.trim().split('\n');
  t.same(
    files.map((file) => path.relative(folder, file)),
    [7, 8, 9].map((seed) => `out/a-red-circle-above-a-blue-square-${seed}.png`),
  );
  for (const file of files) t.equal((await sharp(await readFile(file)).metadata()).format, 'png');
  t.match(drawn.stderr, /denoise \d+\/\d+/, 'progress on stderr');
  t.notMatch(drawn.stderr, /demo model/);

  const unknown = await run('generate', 'a cat', '--output', 'out');
  t.equal(unknown.code, 0, unknown.stderr);
  t.match(unknown.stderr, /"cat": this demo model does not know it/);
  t.match(unknown.stderr, /This demo model only draws .*; for real ones see "ourvidz models pull sdxl"/);

  const capabilities = JSON.parse((await run('capabilities', '--json')).stdout) as {
    job_types: Record<string, { available: boolean }>;
  };
  if (capabilities.job_types['video_fast']?.available === true) {
    const filmed = await run(
      'generate',
      '--type',
      'video_fast',
      'a red circle moves left',
      '--seed',
      '7',
      '--frames',
      '17',
      '--output',
      'out',
    );
    t.equal(filmed.code, 0, filmed.stderr);
    t.equal(path.relative(folder, filmed.stdout.trim()), 'out/a-red-circle-moves-left-7.mp4');
    t.equal(
      (await readFile(path.join(folder, 'out/a-red-circle-moves-left-7.mp4')))
        .subarray(4, 8)
        .toString('latin1'),
      'ftyp',
    );
  }

  const asJson = await run(
    'generate',
    'a green star',
    '--seed',
    '3',
    '--weights',
    '(star:1.3)',
    '--output',
    'out',
    '--json',
  );
  const job = JSON.parse(asJson.stdout) as { id: string };
  t.match(job, {
    status: 'completed',
    files: [/a-green-star-3\.png$/],
    metadata: { compel_success: true, enhancement_strategy: 'compel' },
  });
  t.match((await run('jobs', 'list')).stdout, job.id);
  t.match((await run('jobs', 'show', job.id)).stdout, /status +completed/);
  t.equal((await run('jobs', 'cancel', job.id)).code, 0, 'cancelling a finished job changes nothing');
  t.match((await run('status')).stdout, /sdxl +ready/);
  t.match(JSON.parse((await run('capabilities', '--json')).stdout), {
    job_types: { sdxl_image_fast: { available: true } },
  });
  t.match((await run('dead-letters')).stdout, /No dead letters/);
  t.match((await run('callbacks')).stdout, /0 waiting to be sent, 0 given up/);
  t.equal((await run('callbacks', 'retry')).stdout, '0 put back in line\n');

  const refused = await run('generate', 'x', '--images', '2');
  t.equal(refused.code, 2);
  t.match(refused.stderr, /config\.num_images/);
  t.equal((await run('jobs', 'show', '00000000-0000-4000-8000-00000000dead')).code, 5);
  t.equal((await run('dead-letters', 'drop', 'no-such')).code, 5);
  t.equal((await run('status', '--key', 'wrong')).code, 4);

  const interrupted = start(
    'main',
    ['generate', 'a red circle', '--type', 'sdxl_image_high', '--images', '6', '--url', service.baseUrl],
    folder,
  );
  await waitFor(() => interrupted.output.stderr.includes('denoise'), { what: 'the job to run' });
  interrupted.child.kill('SIGINT');
  t.equal((await interrupted.done).code, 130);
  t.match(JSON.parse((await run('jobs', 'list', '--status', 'cancelled', '--json')).stdout), {
    jobs: { length: 1 },
  });
});

t.test('the demo draws the prompt it is given, says where everything is, and ends', async (t) => {
  const folder = t.testdir({ '.env': 'WAN_WORKER_API_KEY=the-key-of-this-env-file\n' });
  const demo = await start('demo', ['a blue heart', '--exit'], folder, { PORT: '7860' }).done;
  t.equal(demo.code, 0, demo.stdout + demo.stderr);
  const file = /^The picture: (.+)$/m.exec(demo.stdout)?.[1] ?? '';
  t.ok(file.startsWith(path.join(folder, 'data')), file);
  t.equal((await sharp(await readFile(file)).metadata()).format, 'png');
});

t.test(
  'at a desktop the demo opens the console in the browser, here a double that notes the address',
  { skip: process.platform === 'linux' ? requireCommand('script') : 'xdg-open is of Linux' },
  async (t) => {
    const folder = t.testdir({});
    const [double, noted] = [path.join(folder, 'xdg-open'), path.join(folder, 'opened')];
    await writeFile(double, `#!/bin/sh\nprintf '%s\\n' "$1" >> '${noted}'\n`);
    await chmod(double, 0o755);
    for (const options of [['--no-open'], []]) {
      // In a pseudo-terminal, as somebody sits before it.
      const command = `exec ${quoted([process.execPath, ...ownProgram('src/cli/demo'), ...options])}`;
      const demo = spawn('script', ['-qec', command, '/dev/null'], {
        cwd: folder,
        env: {
          PATH: `${folder}:${process.env['PATH']}`,
          HOME: process.env['HOME'],
          SHELL: '/bin/sh',
          DISPLAY: ':0',
          MODELS_DIR: process.env['OURVIDZ_TEST_MODELS'],
        },
        stdio: ['pipe', 'pipe', 'inherit'],
      });
      const ended = once(demo, 'close');
      t.teardown(() => demo.kill());
      let screen = '';
      demo.stdout.on('data', (chunk) => (screen += String(chunk)));
      await waitFor(() => screen.includes('Serving until Ctrl-C'), {
        what: () => `the demo to serve: ${screen}`,
        timeoutMs: 180_000,
      });
      const [, link] = /The console: (\S+#login=\S+)/.exec(screen) ?? [];
      t.ok(link, 'the link is printed');
      if (options.length === 0)
        await waitFor(async () => existsSync(noted) && (await readFile(noted, 'utf8')) === `${link}\n`, {
          what: 'the browser to be asked for the link, and for nothing else',
        });
      // Its end takes the service along: Ctrl-C, and a window that is closed.
      if (options.length > 0) demo.stdin.write('\u0003');
      else demo.kill();
      await ended;
      const isThere = () => fetch(`${new URL(link ?? '').origin}/health`).catch(() => null);
      await waitFor(async () => (await isThere()) === null, { what: 'the service to end with the demo' });
    }
  },
);

t.test('where nobody sits no browser is opened', (t) => {
  t.equal(hasDesktop(true, { DISPLAY: ':0' }, 'linux'), true);
  t.equal(hasDesktop(true, { WAYLAND_DISPLAY: 'wayland-0' }, 'linux'), true);
  t.equal(hasDesktop(true, {}, 'darwin'), true);
  t.equal(hasDesktop(true, {}, 'linux'), false, 'over SSH');
  t.equal(hasDesktop(false, { DISPLAY: ':0' }, 'linux'), false, 'in a pipe');
  t.equal(hasDesktop(true, { DISPLAY: ':0', CI: 'true' }, 'linux'), false, 'in CI');
  t.end();
});

t.test(
  'the demo keeps serving until it is interrupted, and ignores settings that would connect it',
  async (t) => {
    const folder = t.testdir({
      '.env': 'REDIS_URL=redis://127.0.0.1:1\nSUPABASE_URL=https://supabase.invalid\n',
    });
    const demo = start('demo', [], folder, { CALLBACK_URL: 'http://127.0.0.1:1/callback' });
    await waitFor(() => demo.output.stdout.includes('Serving until Ctrl-C'), {
      what: () => `the demo to serve: ${demo.output.stdout}${demo.output.stderr}`,
      timeoutMs: 90_000,
    });
    const [, url = '', code = ''] =
      /^The console: (http:\/\/[^/]+)\/#login=(\S+)$/m.exec(demo.output.stdout) ?? [];
    t.equal((await fetch(`${url}/health`)).status, 200);
    const signIn = () =>
      fetch(`${url}/session`, { method: 'POST', headers: { authorization: `Bearer ${code}` } });
    t.equal((await signIn()).status, 201, 'the link signs in');
    t.equal((await signIn()).status, 401, 'once');
    t.ok(existsSync(path.join(folder, 'data/api-key')));
    demo.child.kill('SIGINT');
    t.equal((await demo.done).code, 0);
    await t.rejects(fetch(`${url}/health`), 'the service ended with the demo');
  },
);
