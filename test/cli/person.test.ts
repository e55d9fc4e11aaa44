/* eslint-disable no-control-regex -- what a terminal obeys is what is looked for */
/** What a person sees: a terminal of 80 columns, a pipe, no colour; waiting, errors, pictures, completion. */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import sharp from 'sharp';
import t, { type Test } from 'tap';
import { formatTable, sixelOf } from '../../src/cli/output.js';
import { picturesOf } from '../../src/cli/progress-view.js';
import { ownProgram } from '../../src/lib/processes.js';
import { openKeyRing } from '../../src/plugins/api-keys.js';
import { requireCommand } from '../helpers/requirements.js';
import { accept, jobOf, json, quoted, runCli, startCli, startDouble, startFinished } from './support.js';

/** In a pseudo-terminal of 80 columns (util-linux's script): stdout and stderr as one, as on a screen. */
async function onScreen(
  t: Test,
  args: string[],
  env: NodeJS.ProcessEnv = {},
  onOutput: (screen: string) => void = () => {},
) {
  const cwd = mkdtempSync(path.join(tmpdir(), 'ourvidz-screen-'));
  t.teardown(() => rmSync(cwd, { recursive: true }));
  const command = `stty cols 80 rows 24; exec ${quoted([process.execPath, ...ownProgram('src/cli/main'), ...args])}`;
  const child = spawn('script', ['-qec', command, '/dev/null'], {
    cwd,
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      TERM: 'xterm-256color',
      SHELL: '/bin/sh',
      ...env,
    },
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  let screen = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => onOutput((screen += chunk)));
  const [code] = (await once(child, 'close')) as [number | null];
  return { code, screen, cwd };
}
t.setTimeout(300_000);
const noScreen = requireCommand('script');
const plain = (text: string) => text.replace(/\u001b\[[\d;?]*[A-Za-z]/g, '');

const workers = Object.fromEntries(
  ['sdxl', 'wan', 'qwen'].map((name, index) => [
    name,
    {
      status: 'active',
      state: index === 1 ? 'failed' : 'ready',
      uptime: 123_456,
      jobs_processed: 12_345,
      last_job_time: '2026-11-27T12:00:00Z',
      memory_usage: '12.5GB',
      error_count: 3,
      reason:
        index === 1
          ? 'its model folder has no model: run ourvidz models pull wan2.1-t2v-1.3b and start it again'
          : '',
    },
  ]),
);
const status = {
  status: 'running',
  workers,
  troubles: [],
  system: { gpu_memory_total: '48GB', active_jobs: 1 },
};

t.test('a table goes on in further lines instead of past the edge, and loses nothing', async (t) => {
  const id = '3f8c1d2a-52c5-4e0d-9a51-0c8a4d1f6b7e';
  const words = 'a sentence that is far too long to stand beside an id in a terminal of this width';
  const table = formatTable(['ID', 'WHY'], [[id, words]], 60);
  for (const line of table.split('\n')) t.ok(line.length <= 60, line);
  const cells = table
    .split('\n')
    .slice(1)
    .map((line) => line.slice(0, 29).trim());
  t.equal(cells.join(''), id.slice(0, cells.join('').length));
  for (const word of words.split(' ')) t.ok(table.includes(word), word);
  t.equal(
    formatTable(['ID', 'WHY'], [[id, words]], Infinity).split('\n').length,
    2,
    'a pipe takes all of it',
  );
});

t.test(
  'tables in a terminal of 80 columns, in colour; NO_COLOR and pipes are plain',
  { skip: noScreen, timeout: 120_000 },
  async (t) => {
    const double = await startDouble(t, (_request, response) => json(response, 200, status));
    const args = ['status', '--url', double.url, '--key', 'k'];
    const shown = await onScreen(t, args);
    for (const line of plain(shown.screen).split(/\r?\n/))
      t.ok([...line].length <= 80, `${line.length}: ${line}`);
    t.match(shown.screen, /\u001b\[31mfailed\u001b/, 'red');
    t.match(shown.screen, /\u001b\[32mready\u001b/, 'green');
    const colourless = await onScreen(t, args, { NO_COLOR: '1' });
    t.notMatch(colourless.screen, /\u001b\[\d+m/, 'NO_COLOR');
    const piped = await runCli(args, t.testdir({}));
    t.notMatch(piped.stdout, /\u001b/, 'a pipe');
    t.match(piped.stdout, /failed .*start it again$/m, 'one line a row');
  },
);

t.test('alone it says how things are; what it does not know it refuses', async (t) => {
  const double = await startDouble(t, (_request, response) => json(response, 200, status));
  const alone = await runCli(['--url', double.url, '--key', 'k'], t.testdir({}));
  t.match(alone.stdout, /^sdxl +ready/m);
  t.match(alone.stderr, /ourvidz --help says what else there is/);
  const unknown = await runCli(['lst', '--url', double.url, '--key', 'k'], t.testdir({}));
  t.match(unknown, { code: 2, stderr: /unknown command 'lst'/ });
  t.equal(unknown.stderr.match(/unknown command/g)?.length, 1, 'once');
});

t.test(
  'a prompt needs no quotes; options without a use are refused before anything is sent',
  { timeout: 120_000 },
  async (t) => {
    const double = await startFinished(t, jobOf('x', 'completed', { assets: [] }));
    const to = ['--url', double.url, '--key', 'k'];
    const drawn = await runCli(['generate', 'a', 'red', 'circle', '--seed', '7', ...to], t.testdir({}));
    t.equal(drawn.code, 0, drawn.stderr);
    t.match(JSON.parse(double.requests[0]?.body ?? ''), { prompt: 'a red circle', config: { seed: 7 } });
    const wan = ['generate', 'x', '--type', 'video_fast', '--steps', '30', '--guidance', '5.5', ...to];
    t.equal((await runCli(wan, t.testdir({}))).code, 0);
    const sent = double.requests.filter(({ line }) => line === 'POST /jobs').length;
    t.match(JSON.parse(double.requests.findLast(({ line }) => line === 'POST /jobs')?.body ?? ''), {
      config: { sample_steps: 30, sample_guide_scale: 5.5 },
    });
    const refused: Array<[type: string, flag: string, value: string, words: RegExp]> = [
      [
        'sdxl_image_fast',
        '--steps',
        '30',
        /no use for --steps: it draws in 15 steps. --steps is for image_fast, /,
      ],
      ['sdxl_image_fast', '--frames', '17', /--frames is for video_fast, video_high, /],
      ['image_fast', '--frames', '17', /image_fast has no use for --frames/],
      ['video_fast', '--negative', 'x', /--negative is for sdxl_image_fast, sdxl_image_high\./],
      ['video_fast', '--images', '3', /no use for --images/],
      ['sdxl_image_high', '--first-frame', 'asset:x', /no use for --first-frame/],
    ];
    for (const [type, flag, value, words] of refused) {
      const run = await runCli(['generate', 'x', '--type', type, flag, value, ...to], t.testdir({}));
      t.match(run, { code: 2, stderr: words, stdout: '' }, `${type} ${flag}`);
    }
    t.equal(double.requests.filter(({ line }) => line === 'POST /jobs').length, sent, 'nothing was sent');
  },
);

t.test('waiting says its place in line; an error is said once, with the request it was', async (t) => {
  let asked = 0;
  const double = await startDouble(t, (request, response, body) => {
    if (request.method === 'POST') return accept(response, body);
    if (request.url?.endsWith('/events')) {
      response.writeHead(200, { 'content-type': 'text/event-stream' }).flushHeaders();
      return void setTimeout(() => response.end(), 3000).unref();
    }
    asked += 1;
    const progress = { stage: 'queued', step: 0, steps: 0, fraction: 0, eta_seconds: 90 };
    const waiting = asked === 2 ? { message: 'its queue is paused' } : null;
    if (asked <= 2)
      return json(response, 200, jobOf('x', 'queued', { queue_position: 4, waiting, progress }));
    return json(response, 200, jobOf('x', 'completed'));
  });
  const run = await runCli(['generate', 'x', '--url', double.url, '--key', 'k'], t.testdir({}));
  t.equal(run.code, 0, run.stderr);
  t.match(run.stderr, /waiting: 4 ahead, about 90 s left\n[^]*waiting: its queue is paused, about 90 s left/);

  const message = 'config.width must be at most 2048';
  const refusing = await startDouble(t, (_request, response) => {
    response.setHeader('x-request-id', 'req-17');
    json(response, 400, {
      message: `Invalid parameters: ${message}`,
      details: [{ field: 'config.width', rule: 'maximum', message }],
    });
  });
  const wrong = await runCli(['generate', 'x', '--url', refusing.url, '--key', 'k'], t.testdir({}));
  t.equal(wrong.stderr, `Invalid parameters: ${message}\nRequest req-17\n`);
});

t.test(
  'pictures in the terminal that can, else a path alone',
  { skip: noScreen, timeout: 120_000 },
  async (t) => {
    const picture = await sharp({ create: { width: 64, height: 32, channels: 3, background: '#f00' } })
      .png()
      .toBuffer();
    const finished = jobOf('x', 'completed', { assets: ['/assets/a/0.png'], metadata: { seed: 7 } });
    const double = await startFinished(t, finished, (response) => response.end(picture));
    const args = ['generate', 'x', '--url', double.url, '--key', 'k'];
    const [inKitty, inITerm, dumb, hidden] = await Promise.all([
      onScreen(t, args, { TERM: 'xterm-kitty' }),
      onScreen(t, args, { TERM_PROGRAM: 'iTerm.app' }),
      onScreen(t, args, { TERM: 'dumb' }),
      onScreen(t, [...args, '--no-show'], { TERM: 'xterm-kitty' }),
    ]);
    const sent = [...inKitty.screen.matchAll(/\u001b_G[^;]*;([^\u001b]*)\u001b\\/g)]
      .map(([, data]) => data)
      .join('');
    t.match(await sharp(Buffer.from(sent, 'base64')).metadata(), { format: 'png', width: 256, height: 128 });
    t.match(inITerm.screen, /\u001b\]1337;File=inline=1:[\w+/=]+\u0007/);
    t.notMatch(dumb.screen, /\u001b[_\]P]/);
    t.match(plain(dumb.screen), /x-7\.png/);
    t.notMatch(hidden.screen, /\u001b_G/);
    const piped = await runCli(args, t.testdir({}));
    t.match(piped.stdout, /^\S+x-7\.png\n$/, 'a script reads paths');
    t.equal(
      await picturesOf({ isTTY: true } as never, { TERM: 'tmux-256color', KITTY_WINDOW_ID: '1' }),
      null,
    );

    const pixels = new Uint8Array(3 * 2 * 7).fill(255);
    pixels.set([255, 0, 0], 0);
    t.equal(
      sixelOf(pixels, 2, 7),
      '\u001bPq"1;1;2;7#180;2;100;0;0#215;2;100;100;100#180@?$#215}~-#215@@\u001b\\',
      'six rows a band, colour by colour',
    );
  },
);

t.test(
  'previews come in place of each other and go before the picture; a pipe has none',
  { skip: noScreen, timeout: 240_000 },
  async (t) => {
    const square = (background: string) =>
      sharp({ create: { width: 8, height: 8, channels: 3, background } })
        .png()
        .toBuffer();
    const [picture, ...previews] = await Promise.all(['#f00', '#0f0', '#00f'].map(square));
    const finished = jobOf('x', 'completed', { assets: ['/assets/a/0.png'], metadata: { seed: 7 } });
    const shown = /\u001b_Ga=T,f=100,i=7860/g;
    let seen = 0;
    const double = await startDouble(t, (request, response, body) => {
      if (request.method === 'POST') return void accept(response, body);
      if (request.url?.startsWith('/assets/')) return void response.end(picture);
      if (request.url?.endsWith('/events') !== true) return void json(response, 200, finished);
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      let sent = 0;
      // A terminal is to have shown two; what has none is sent six.
      const timer = setInterval(() => {
        if (seen >= 2 || (seen === 0 && piped && sent >= 6)) {
          clearInterval(timer);
          response.end();
          return;
        }
        const progress = { stage: 'denoise', step: sent, steps: 99, fraction: 0.1, eta_seconds: null };
        const base64 = previews[sent % 2]?.toString('base64');
        const preview = { image: 0, images: 1, step: sent, content_type: 'image/png', base64 };
        response.write(`event: progress\ndata: ${JSON.stringify(progress)}\n\n`);
        response.write(`event: preview\ndata: ${JSON.stringify(preview)}\n\n`);
        sent += 1;
      }, 100);
      response.on('close', () => clearInterval(timer));
    });
    let piped = false;
    const args = ['generate', 'x', '--url', double.url, '--key', 'k'];
    const { screen } = await onScreen(t, args, { TERM: 'xterm-kitty' }, (text) => {
      seen = [...text.matchAll(shown)].length;
    });
    const [first = 0, second = 0] = [...screen.matchAll(shown)].map(({ index }) => index);
    const room = '(?:\\r\\n){14}';
    t.match(screen.slice(0, first), new RegExp(`${room}\\u001b\\[14A\\u001b7$`), 'room for the first one');
    t.match(
      screen.slice(first, second),
      /\u001b8\u001b\[14B[^]*\u001b\[14A\u001b7$/,
      'the second one above the bar',
    );
    t.notMatch(screen.slice(first, second), new RegExp(room), 'where the first one was');
    const [before = '', after = ''] = screen.split('\u001b_Ga=d,d=I,i=7860,q=2\u001b\\');
    t.match(after, /^\r\u001b\[14A\u001b\[J/, 'all of it goes');
    t.notMatch(before, /x-7\.png/);
    t.match(after, /\u001b_Ga=T,f=100,q=2[^]*x-7\.png/, 'then the picture and its path');

    [piped, seen] = [true, 0];
    const plainly = await runCli(args, t.testdir({}));
    t.notMatch(plainly.stderr + plainly.stdout, /\u001b/, 'nothing in a pipe');
    t.match(plainly.stdout, /x-7\.png\n$/);
  },
);

t.test(
  'help fits 80 columns, in a terminal and in a pipe',
  { skip: noScreen, timeout: 120_000 },
  async (t) => {
    const { screen } = await onScreen(t, ['generate', '--help']);
    const { stdout } = await runCli(['--help'], t.testdir({}));
    for (const line of [...plain(screen).split(/\r?\n/), ...stdout.split('\n')])
      t.ok(line.length <= 80, `${line.length}: ${line}`);
    t.match(stdout, /^ +6 {2}queue or disk is full/m, 'with the exit codes');
  },
);

t.test('engines: what one wrote and how it ended, and a new start', async (t) => {
  const end = {
    at: '2026-11-27T12:00:00Z',
    reason: 'crashed',
    exit_code: null,
    signal: 'SIGABRT',
    stage: 'denoise 3/15',
  };
  const double = await startDouble(t, (request, response) =>
    request.method === 'POST'
      ? json(response, 200, {
          status: 'restarting',
          worker_id: 'wan',
          restart_time: end.at,
          estimated_startup_time: '15s',
        })
      : json(response, 200, { worker_id: 'sdxl', lines: ['one', 'two'], last_exit: end }),
  );
  const to = ['--url', double.url, '--key', 'k'];
  const logs = await runCli(['engine', 'logs', 'sdxl', '--lines', '1', ...to], t.testdir({}));
  t.equal(logs.stdout, 'Last ended 2026-11-27T12:00:00Z: crashed (in denoise 3/15, SIGABRT)\ntwo\n');
  const asJson = await runCli(['engine', 'logs', 'sdxl', '--json', ...to], t.testdir({}));
  t.same(JSON.parse(asJson.stdout), { worker_id: 'sdxl', lines: ['one', 'two'], last_exit: end });
  const restarted = await runCli(['engine', 'restart', 'wan', '--force', ...to], t.testdir({}));
  t.equal(restarted.stdout, 'wan is restarting: ready in about 15s\n');
  t.match(double.requests.at(-1)?.line, 'POST /worker/restart/wan?force=true');
  t.equal((await runCli(['engine', 'logs', 'x', ...to], t.testdir({}))).code, 2);
});

t.test('keys: made, listed and removed in the file that the service reads', async (t) => {
  const cwd = t.testdir({});
  const file = path.join(cwd, 'keys.json');
  const keys = (...args: string[]) => startCli(['keys', ...args], cwd, { API_KEYS_FILE: file }).done;
  t.match(await runCli(['keys'], cwd), { code: 2, stderr: /API_KEYS_FILE/ });
  const { stdout } = await keys('add', 'web', '--scopes', 'jobs', 'enhance');
  t.equal((await keys('add', 'ops', '--scopes', 'all')).code, 0);
  t.notMatch(readFileSync(file, 'utf8'), stdout.trim(), 'the file has its digest only');
  t.equal(statSync(file).mode & 0o777, 0o600);
  const ring = await openKeyRing({
    apiKey: undefined,
    file,
    log: { info: () => {}, error: () => {} } as never,
  });
  t.match(await ring.find(stdout.trim()), { name: 'web' });
  t.match((await keys('list')).stdout, /^web +jobs, enhance\nops +all$/m);
  t.equal((await keys('remove', 'web')).code, 0);
  t.equal((await keys('remove', 'web')).code, 5);
  t.notMatch(readFileSync(file, 'utf8'), 'web');
  for (const [text, reason] of [
    ['{"keys": [{"name": "web", "key": "a-secret-that-stands-here"}', 'it is not valid JSON'],
    ['{}', '"keys" must be a list'],
  ] as const) {
    writeFileSync(file, text);
    const { code, stderr } = await keys('list');
    t.not(code, 0);
    t.match(stderr, reason);
    t.notMatch(stderr, 'secret');
  }
});

t.test(
  'completion loads in bash, zsh and fish, and offers commands, options and their values',
  { timeout: 120_000 },
  async (t) => {
    const cwd = t.testdir({});
    const scripts = Object.fromEntries(
      await Promise.all(
        ['bash', 'zsh', 'fish'].map(async (shell) => {
          const file = path.join(cwd, shell);
          writeFileSync(file, (await runCli(['completion', shell], cwd)).stdout);
          return [shell, file] as const;
        }),
      ),
    ) as Record<'bash' | 'zsh' | 'fish', string>;
    const lines = [['jo'], ['jobs', ''], ['generate', '--type', 'im'], ['engine', 'restart', 'w'], ['--js']];
    const expected = [/^jobs$/m, /^cancel$/m, /^image_high$/m, /^wan$/m, /^--json$/m];
    const run = (shell: string, args: string[]) => spawnSync(shell, args, { cwd, encoding: 'utf8' });
    const offers: Record<'bash' | 'zsh' | 'fish', (words: string[]) => { stdout: string; stderr: string }> = {
      bash: (words) =>
        run('bash', [
          '--norc',
          '-c',
          `source ${scripts.bash}; COMP_WORDS=(ourvidz ${quoted(words)}); COMP_CWORD=${words.length}; _ourvidz; printf '%s\\n' "\${COMPREPLY[@]}"`,
        ]),
      zsh: (words) =>
        run('zsh', [
          '-f',
          '-c',
          `autoload -Uz compinit; compinit -u -D; source ${scripts.zsh}; [ "$_comps[ourvidz]" = _ourvidz ] || exit 3;
         compadd() { shift; print -rl -- "$@" }; _files() { : }; words=(ourvidz ${quoted(words)}); CURRENT=${words.length + 1}; _ourvidz`,
        ]),
      fish: (words) => {
        const { stdout, stderr } = run('fish', [
          '-N',
          '-c',
          `source ${scripts.fish}; complete -C "ourvidz ${words.join(' ')}"`,
        ]);
        return { stdout: stdout.replace(/\t.*$/gm, ''), stderr };
      },
    };
    for (const [shell, missing] of [
      ['bash', requireCommand('bash')],
      ['zsh', requireCommand('zsh')],
      ['fish', requireCommand('fish')],
    ] as const)
      await t.test(shell, { skip: missing }, async (t) => {
        for (const [index, words] of lines.entries()) {
          const { stdout, stderr } = offers[shell](words);
          t.match(stdout, expected[index], words.join(' '));
          t.equal(stderr, '');
        }
      });
  },
);

t.test(
  'jobs, watched: drawn again, and over an edge of 80 columns never',
  { skip: noScreen, timeout: 120_000 },
  async (t) => {
    let asked = 0;
    const job = jobOf('3f8c1d2a-52c5-4e0d-9a51-0c8a4d1f6b7e', 'queued', {
      type: 'image7b_high_enhanced',
      prompt: 'a lighthouse on a cliff at dusk, waves far below',
      waiting: { message: 'behind 3 others' },
    });
    const double = await startDouble(t, (_request, response) => {
      asked += 1;
      if (asked > 2) return json(response, 401, { message: 'no more' });
      return json(response, 200, { jobs: [{ ...job, attempts: asked }] });
    });
    const { screen, code } = await onScreen(t, [
      'jobs',
      'list',
      '--watch',
      '--url',
      double.url,
      '--key',
      'k',
    ]);
    t.equal(code, 4, 'an error ends it');
    t.equal(screen.split('\u001b[H\u001b[2J').length, 3, 'drawn twice');
    t.match(plain(screen), /^3f8c1d2a /m);
    for (const line of plain(screen).split(/\r?\n/)) t.ok([...line].length <= 80, line);
  },
);
