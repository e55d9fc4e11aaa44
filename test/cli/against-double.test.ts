/**
 * The command line as a process of its own against an HTTP double of the service's contract, for what the
 * real service shows only when it is broken: error statuses, event streams that break off, Ctrl-C at a chosen
 * moment.
 */
import { readdir, readFile } from 'node:fs/promises';
import type { ServerResponse } from 'node:http';
import path from 'node:path';
import t from 'tap';
import { waitFor } from '../helpers/wait-for.js';
import { accept, jobOf, json, runCli, startCli, startDouble, startFinished } from './support.js';

t.test('every kind of refusal has its exit code, and the message says what to do', async (t) => {
  const cases: Array<{ status: number; body: object; code: number; text: RegExp }> = [
    {
      status: 400,
      body: {
        statusCode: 400,
        code: 'INVALID_PARAMETERS',
        error: 'Bad Request',
        message: 'Invalid parameters: config.num_images',
        request_id: 'r',
        details: [{ field: 'config.num_images', rule: 'enum', message: 'must be 1, 3 or 6' }],
      },
      code: 2,
      text: /config\.num_images: must be 1, 3 or 6/,
    },
    { status: 401, body: { message: 'Send the API key' }, code: 4, text: /--key or WAN_WORKER_API_KEY/ },
    { status: 404, body: { message: 'Job x does not exist' }, code: 5, text: /does not exist/ },
    { status: 429, body: { message: 'sdxl_queue is full' }, code: 6, text: /full/ },
    { status: 500, body: { message: 'Internal Server Error' }, code: 7, text: /Internal/ },
    {
      status: 503,
      body: { success: false, error: 'Enhancement failed: Model not available', enhanced_prompt: 'p' },
      code: 6,
      text: /Model not available/,
    },
  ];
  let current = cases[0];
  const double = await startDouble(
    t,
    (_request, response) => void json(response, current?.status ?? 0, current?.body),
  );
  for (current of cases) {
    const run = await runCli(['jobs', 'show', 'x', '--url', double.url, '--key', 'k'], t.testdir({}));
    t.equal(run.code, current.code, `${current.status} ends with ${current.code}`);
    t.match(run.stderr, current.text);
    t.equal(run.stdout, '');
  }
  t.equal(double.requests[0]?.headers.authorization, 'Bearer k');
});

t.test('wrong arguments end with 2, an address without a service with 3, help with 0', async (t) => {
  const cwd = t.testdir({});
  t.equal((await runCli(['generate'], cwd)).code, 2);
  t.equal((await runCli(['generate', 'x', '--seed', '1.5'], cwd)).code, 2);
  t.equal((await runCli(['generate', 'x', '--type', 'oil'], cwd)).code, 2);
  const away = await runCli(['status', '--url', 'http://127.0.0.1:1'], cwd);
  t.equal(away.code, 3);
  t.match(away.stderr, /npm run demo/);
  const help = await runCli(['generate', '--help'], cwd);
  t.equal(help.code, 0);
  t.match(help.stdout, /Examples:/);
  const codes = [...(await runCli(['--help'], cwd)).stdout.matchAll(/^ +(\d+) {2}\S/gm)];
  t.same(
    codes.map(([, code]) => Number(code)),
    [0, 1, 2, 3, 4, 5, 6, 7, 8, 130],
    'every exit code is listed',
  );
});

t.test(
  'a job is followed over a broken event stream, its files are saved, and the key stays with the service',
  async (t) => {
    const cwd = t.testdir({});
    const elsewhere = await startDouble(t, (_request, response) => void response.end('second picture'));
    let streams = 0;
    const double = await startDouble(t, (request, response, body) => {
      if (request.method === 'POST') return accept(response, body);
      const id = /^\/jobs\/([^/]+)/.exec(request.url ?? '')?.[1] ?? '';
      if (request.url?.endsWith('/events')) {
        streams += 1;
        response.writeHead(200, { 'content-type': 'text/event-stream' });
        if (streams === 1) {
          response.write(
            'id: 4\nevent: progress\ndata: {"stage":"denoise","step":3,"steps":15,"fraction":0.2,"eta_seconds":2}\n\n',
          );
          return setTimeout(() => response.destroy(), 50);
        }
        return response.end('id: 5\nevent: state\ndata: {"status":"completed","attempts":2,"assets":[]}\n\n');
      }
      if (request.url?.startsWith('/assets/')) return response.end('first picture');
      return json(
        response,
        200,
        streams < 2
          ? jobOf(id, 'processing')
          : jobOf(id, 'completed', {
              assets: ['/assets/a/0.png', `${elsewhere.url}/1.png`],
              metadata: { seed: 7, seeds: [7, 8] },
            }),
      );
    });
    const run = await runCli(
      ['generate', 'A Red circle', '--seed', '7', '--output', 'out', '--url', double.url, '--key', 'k'],
      cwd,
    );
    t.equal(run.code, 0, run.stderr);
    t.same(
      run.stdout
        .trim()
        .split('\n')
        .map((file) => path.basename(file)),
      ['a-red-circle-7.png', 'a-red-circle-8.png'],
    );
    t.equal(await readFile(path.join(cwd, 'out/a-red-circle-7.png'), 'utf8'), 'first picture');
    t.equal(await readFile(path.join(cwd, 'out/a-red-circle-8.png'), 'utf8'), 'second picture');
    t.match(run.stderr, /20 % {2}denoise 3\/15, about 2\.0 s left/);
    t.match(run.stderr, /Attempt 2/);
    t.equal(
      double.requests.filter((request) => request.line.endsWith('/events'))[1]?.headers['last-event-id'],
      '4',
      'the second stream goes on where the first broke off',
    );
    t.equal(elsewhere.requests[0]?.headers.authorization, undefined, 'another host never sees the key');

    const again = await runCli(
      [
        'generate',
        'A Red circle',
        '--seed',
        '7',
        '--output',
        'out',
        '--url',
        double.url,
        '--key',
        'k',
        '--json',
      ],
      cwd,
    );
    t.match(JSON.parse(again.stdout), {
      status: 'completed',
      files: [/a-red-circle-7-2\.png$/, /a-red-circle-8-2\.png$/],
    });
    t.equal((await readdir(path.join(cwd, 'out'))).length, 4, 'nothing is overwritten');
  },
);

t.test('a file that breaks off is an error, and half of it is not left', async (t) => {
  const cwd = t.testdir({});
  const double = await startFinished(
    t,
    jobOf('x', 'completed', { assets: ['/assets/a/0.png'], metadata: { seed: 7 } }),
    (response) =>
      response
        .writeHead(200, { 'content-length': 100 })
        .write('half a pic', () => setTimeout(() => response.destroy(), 100)),
  );
  const run = await runCli(['generate', 'x', '--output', 'out', '--url', double.url, '--key', 'k'], cwd);
  t.equal(run.code, 3, run.stderr);
  t.match(run.stderr, /broke off/);
  t.same(await readdir(path.join(cwd, 'out')), []);
});

t.test(
  'files that have a place in a bucket and no address are named, and the job is still done',
  async (t) => {
    const cwd = t.testdir({});
    const place = 'sdxl_image_fast/user/job/0.png';
    const double = await startFinished(
      t,
      jobOf('x', 'completed', { assets: [place], metadata: { seed: 7 } }),
    );
    const run = await runCli(['generate', 'x', '--output', 'out', '--url', double.url, '--key', 'k'], cwd);
    t.equal(run.code, 0, run.stderr);
    t.equal(run.stdout.trim(), place);
    t.match(run.stderr, /ASSET_URLS/);
  },
);

t.test('Ctrl-C asks the service to cancel the job and ends with 130', async (t) => {
  let cancelled = false;
  let stream: ServerResponse | undefined;
  const double = await startDouble(t, (request, response, body) => {
    if (request.method === 'POST') return accept(response, body);
    if (request.method === 'DELETE') {
      cancelled = true;
      json(response, 202, jobOf('x', 'processing'));
      return stream?.end();
    }
    if (request.url?.endsWith('/events')) {
      stream = response.writeHead(200, { 'content-type': 'text/event-stream' });
      return stream.write(': open\n\n');
    }
    return json(response, 200, jobOf('x', cancelled ? 'cancelled' : 'processing'));
  });
  const cli = startCli(['generate', 'x', '--url', double.url, '--key', 'k'], t.testdir({}));
  await waitFor(() => stream, { what: 'the event stream' });
  cli.child.kill('SIGINT');
  const run = await cli.done;
  t.equal(run.code, 130, run.stderr);
  t.ok(cancelled);
  t.match(run.stderr, /was cancelled/);
  const deleted = double.requests
    .find((request) => request.line.startsWith('DELETE'))
    ?.line.split('/')
    .at(-1);
  t.equal(
    deleted,
    (JSON.parse(double.requests[0]?.body ?? '{}') as { id: string }).id,
    'exactly the job it submitted',
  );
});

t.test('a failed job ends with 1 and says why', async (t) => {
  const double = await startFinished(
    t,
    jobOf('x', 'failed', { error_message: 'Insufficient VRAM for generation' }),
  );
  const run = await runCli(['generate', 'x', '--url', double.url, '--key', 'k'], t.testdir({}));
  t.equal(run.code, 1);
  t.match(run.stderr, /Insufficient VRAM/);
});
