import { execFile, spawn } from 'node:child_process';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import t, { type Test } from 'tap';
import ts from 'typescript';
import { findFreePort } from '../../src/lib/processes.js';
import { projectRoot } from '../../src/lib/project.js';
import { createPayloadValidator } from '../../src/services/jobs/payload.js';
import { createCallbackSender } from '../../src/services/outbound/sender.js';
import { build, testApiKey } from '../helpers/build.js';
import { compileClient } from '../helpers/compiled-client.js';
import { endWithThisProcess } from '../helpers/processes.js';
import { openRedis, redisOrSkip } from '../helpers/redis.js';
import { requireCommand } from '../helpers/requirements.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(240_000);
const run = promisify(execFile);
const examples = path.join(projectRoot(), 'examples');

t.test('producers put a valid job on the queue', { skip: requireCommand('redis-server') }, async (t) => {
  if (!redisOrSkip(t)) return;
  const { server, redis } = await openRedis(t);
  const { validatePayload } = createPayloadValidator();
  const pushes =
    (command: string, ...args: string[]) =>
    async (t: Test) => {
      const env = { PATH: process.env['PATH'], REDIS_URL: server.url };
      const { stdout } = await run(command, args, { cwd: examples, env });
      const payload: unknown = JSON.parse((await redis.rpop('sdxl_queue')) ?? '');
      t.match(validatePayload(payload, 'sdxl_queue'), { ok: true, job: { id: stdout.trim() } });
    };
  const python = { skip: requireCommand('python3') };
  await t.test('in Python', python, pushes('python3', 'producer.py', 'a "green" star'));
  await t.test('in a shell', { skip: requireCommand('sh') }, pushes('sh', 'redis-cli.sh'));
});

t.test('the route of a Next.js site gives a token of its user', async (t) => {
  // Outside of the project, which would find itself under its own name.
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-site-'));
  t.teardown(() => rm(folder, { recursive: true }));
  const installed = path.join(folder, 'node_modules/ourvidz-worker');
  await compileClient(path.join(installed, 'dist/client'));
  await writeFile(
    path.join(installed, 'package.json'),
    await readFile(path.join(projectRoot(), 'package.json')),
  );
  const { outputText } = ts.transpileModule(await readFile(path.join(examples, 'next-route.ts'), 'utf8'), {
    compilerOptions: { module: ts.ModuleKind.ESNext, target: ts.ScriptTarget.ES2022 },
  });
  await writeFile(path.join(folder, 'route.mjs'), outputText);
  const { app } = await build(t);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  Object.assign(process.env, { OURVIDZ_URL: url, WAN_WORKER_API_KEY: testApiKey });
  const { POST } = (await import(pathToFileURL(path.join(folder, 'route.mjs')).href)) as {
    POST: (request: Request) => Promise<Response>;
  };
  t.equal((await POST(new Request('http://site/', { method: 'POST' }))).status, 401);
  const headers = { 'x-user-id': '0a0a0a0a-0000-4000-8000-000000000001' };
  const answer = await POST(new Request('http://site/', { method: 'POST', headers }));
  const { token } = (await answer.json()) as { token: string };
  const listed = await fetch(`${url}/jobs`, { headers: { authorization: `Bearer ${token}` } });
  t.match([listed.status, await listed.json()], [200, { jobs: [] }]);
});

t.test('the edge function stores what is signed, under Deno', async (t) => {
  const folder = t.testdir({});
  await compileClient(path.join(folder, 'client'));
  const imports = { 'ourvidz-worker/client': pathToFileURL(path.join(folder, 'client/index.js')).href };
  await writeFile(path.join(folder, 'deno.json'), JSON.stringify({ imports }));
  const rows: Array<Record<string, unknown>> = [];
  const database = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += String(chunk)));
    request.on('end', () => {
      rows.push(JSON.parse(body) as Record<string, unknown>);
      response.writeHead(201).end();
    });
  });
  await new Promise<void>((resolve) => database.listen(0, '127.0.0.1', resolve));
  t.teardown(() => database.close());
  const secret = `whsec_${Buffer.alloc(32, 7).toString('base64')}`;
  const port = await findFreePort();
  const child = spawn(
    process.execPath,
    [
      path.join(projectRoot(), 'node_modules/deno/bin.cjs'),
      ...[
        'run',
        '--no-lock',
        '--no-check',
        '--allow-net',
        '--allow-env',
        '--config',
        path.join(folder, 'deno.json'),
      ],
      path.join(examples, 'supabase/job-callback/index.ts'),
    ],
    {
      env: {
        PATH: process.env['PATH'],
        HOME: folder,
        DENO_SERVE_ADDRESS: `tcp:127.0.0.1:${port}`,
        CALLBACK_SECRET: secret,
        SUPABASE_URL: `http://127.0.0.1:${(database.address() as AddressInfo).port}`,
        SUPABASE_SERVICE_ROLE_KEY: 'service-role',
      },
      stdio: ['ignore', 'ignore', 'pipe'],
      detached: true,
    },
  );
  endWithThisProcess(child);
  t.teardown(() => child.pid !== undefined && process.kill(-child.pid, 'SIGKILL'));
  let said = '';
  child.stderr.on('data', (chunk) => (said += String(chunk)));
  const url = `http://127.0.0.1:${port}/`;
  const post = (init: RequestInit) => fetch(url, { method: 'POST', ...init }).catch(() => undefined);
  await waitFor(async () => (await post({ body: '{}' }))?.status === 401, {
    what: () => said,
    timeoutMs: 120_000,
  });
  const body = JSON.stringify({ job_id: 'j', status: 'completed', assets: ['a'], metadata: { seed: 7 } });
  const entry = { id: 'j:completed', url, body };
  t.match(await createCallbackSender({ credentials: () => ({ secret }) }).send(entry), {
    outcome: 'accepted',
  });
  const other = `whsec_${Buffer.alloc(32, 8).toString('base64')}`;
  t.notMatch(await createCallbackSender({ credentials: () => ({ secret: other }) }).send(entry), {
    outcome: 'accepted',
  });
  t.match(rows, [{ webhook_id: 'j:completed', job_id: 'j', status: 'completed', metadata: { seed: 7 } }]);
});
