/** Whatever a service, a producer or a hub writes, a terminal shows it and does not obey it. */
import { readdir } from 'node:fs/promises';
import path from 'node:path';
import t, { type Test } from 'tap';
import { createProgressDisplay, createTransferView } from '../../src/cli/progress-view.js';
import { printable } from '../../src/lib/printable.js';
import { accept, jobOf, json, runCli, startDouble, startFinished } from './support.js';

/** ESC, C1's CSI, a bell, a backspace, a carriage return, DEL, a right-to-left override and a line of its own. */
const evil = 'a\u001b[2Jb\u009b31mc\u0007d\be\rf\u007fg\u202eh\u2066i\u2028j\nAll is well';
const obeyed = /(?!\n)[\p{Cc}\p{Bidi_Control}\u2028\u2029]/u;
const harmless = (t: Test, text: string, what: string) => {
  t.notMatch(text, obeyed, `${what} carries nothing that a terminal obeys`);
  t.notMatch(text, /^All is well/m, `${what}: no text of others looks like a line of ours`);
};

t.setTimeout(240_000);

t.test('every command', async (t) => {
  const job = jobOf(evil, evil, {
    type: evil,
    prompt: evil,
    waiting: { message: evil },
    history: [{ attempt: 1, outcome: evil, started_at: evil, ended_at: evil, worker_id: evil, error: evil }],
    error_message: evil,
    assets: [evil],
    attempts: 2,
    created_at: evil,
    progress: { stage: evil, step: 1, steps: 2, fraction: 0.5, eta_seconds: 1 },
    metadata: {
      prompt: evil,
      request: { [evil]: evil },
      explain: { tokens: [{ token: evil }], [evil]: evil },
    },
  });
  const queue = {
    queue: evil,
    waiting: 1,
    delayed: 0,
    running: 0,
    oldest_age_seconds: 1,
    empty_in_seconds: null,
    takers: 0,
    trouble: evil,
    paused: { since: evil, by: evil, reason: evil },
  };
  const answers: Record<string, unknown> = {
    '/jobs/x': job,
    '/jobs': { jobs: [job], next_cursor: evil },
    '/dead-letters': {
      dead_letters: [
        { id: evil, queue: evil, job_id: evil, attempts: 1, at: evil, reason: evil, payload: evil },
      ],
    },
    '/dead-letters/reasons': {
      reasons: [{ reason: evil, queue: evil, count: 1, oldest_at: evil, newest_at: evil }],
    },
    '/queues': { queues: [queue] },
    '/queues/sdxl_queue/pause': queue,
    '/queues/sdxl_queue/resume': { ...queue, paused: null },
    '/instances/self/drain': { worker_id: evil },
    '/callbacks': {
      pending: 0,
      dead: [{ id: evil, event: evil, attempts: 1, created_at: evil, last_error: evil, url: evil }],
    },
    '/worker/status': {
      status: evil,
      workers: {
        [evil]: {
          status: evil,
          state: evil,
          uptime: 1,
          last_job_time: null,
          memory_usage: evil,
          reason: evil,
        },
      },
      system: { [evil]: evil },
      troubles: [
        { severity: evil, code: evil, what: evil, cause: evil, cure: evil, since: evil, next_try_at: evil },
      ],
      instances: [{ worker_id: evil, host: evil, started_at: evil, seen_at: evil, draining: queue.paused }],
    },
    '/capabilities': { [evil]: evil, list: [evil], nested: { [evil]: { x: evil } } },
    '/enhance': { enhanced_prompt: evil },
    '/worker/validate': {
      details: { findings: [{ severity: 'warning', subject: evil, message: evil, cure: evil, check: evil }] },
    },
  };
  const double = await startDouble(t, (request, response) => {
    const { pathname } = new URL(request.url ?? '', 'http://x');
    json(response, 200, answers[pathname]);
  });
  for (const args of [
    ['jobs', 'list'],
    ['jobs', 'show', 'x'],
    ['jobs', 'cancel', 'x'],
    ['dead-letters'],
    ['dead-letters', 'reasons'],
    ['queue'],
    ['queue', 'pause', 'sdxl'],
    ['queue', 'resume', 'sdxl_queue'],
    ['instance'],
    ['instance', 'drain', 'self'],
    ['callbacks'],
    ['status'],
    ['capabilities'],
    ['doctor'],
  ]) {
    const run = await runCli([...args, '--url', double.url, '--key', 'k'], t.testdir({}));
    t.match(run.stdout, /a\\u001b\[2Jb\\u009b31mc\\u0007d/, `${args.join(' ')} shows the text`);
    harmless(t, run.stdout + run.stderr, args.join(' '));
  }
  const enhanced = await runCli(['enhance', 'x', '--url', double.url, '--key', 'k'], t.testdir({}));
  t.notMatch(enhanced.stdout, obeyed, 'a new prompt may have several lines');

  const asJson = await runCli(
    ['jobs', 'show', 'x', '--json', '--url', double.url, '--key', 'k'],
    t.testdir({}),
  );
  t.notMatch(asJson.stdout, obeyed, 'JSON, too');
  t.same(JSON.parse(asJson.stdout), job, 'and a script reads from it what the service said');
});

t.test('errors, whatever says them', async (t) => {
  const cwd = t.testdir({});
  let answer: { status: number; body: string } = { status: 400, body: '' };
  const double = await startDouble(t, (_request, response) => {
    response.writeHead(answer.status).end(answer.body);
  });
  for (answer of [
    { status: 400, body: JSON.stringify({ message: evil, details: [{ field: evil, message: evil }] }) },
    { status: 502, body: evil },
    { status: 503, body: JSON.stringify({ error: evil }) },
    { status: 200, body: evil },
  ]) {
    const run = await runCli(['jobs', 'show', `x${evil}`, '--url', double.url, '--key', 'k'], cwd);
    t.not(run.code, 0);
    harmless(t, run.stderr, `an answer with ${answer.status}`);
  }
  const argument = await runCli(['jobs', `\u001b[2J`], cwd);
  t.equal(argument.code, 2);
  t.notMatch(argument.stderr, obeyed);
});

t.test('progress, where a person watches and where nobody does', async (t) => {
  const double = await startDouble(t, (request, response, body) => {
    if (request.method === 'POST') return accept(response, body);
    if (request.url?.endsWith('/events')) {
      const progress = JSON.stringify({ stage: evil, step: 1, steps: 2, fraction: 0.5, eta_seconds: 1 });
      response.writeHead(200, { 'content-type': 'text/event-stream' });
      return response.end(`event: progress\ndata: ${progress}\n\n`);
    }
    return json(response, 200, jobOf('x', 'failed', { error_message: evil }));
  });
  const run = await runCli(['generate', 'x', '--url', double.url, '--key', 'k'], t.testdir({}));
  t.equal(run.code, 1);
  t.match(run.stderr, /50 % {2}a\\u001b/);
  harmless(t, run.stderr, 'generate');

  for (const isTTY of [true, false]) {
    let shown = '';
    const stream = { isTTY, columns: 200, write: (text: string) => (shown += text) } as never;
    const display = createProgressDisplay(stream);
    display.update({ stage: evil, step: 1, steps: 2, fraction: 0.5, eta_seconds: 1 });
    display.note(evil);
    display.stop();
    const transfer = createTransferView(10, stream);
    transfer.note(evil);
    transfer.stop();
    for (const part of ['\u001b[2J', '\u009b', '\u0007', '\u202e', '\nAll is well'])
      t.notOk(shown.includes(part), `${JSON.stringify(part)} in ${isTTY ? 'a bar' : 'lines'}`);
    t.match(shown, /a\\u001b\[2Jb/);
  }
});

t.test('files stay in the folder, whatever the service calls them', async (t) => {
  const cwd = t.testdir({});
  const double = await startFinished(
    t,
    jobOf('x', 'completed', {
      assets: ['/assets/a/0.png', '/assets/a/1.p%1bng'],
      metadata: { seeds: ['/../../outside', 8] },
    }),
    (response) => response.end('picture'),
  );
  const run = await runCli(['generate', 'x', '--output', 'out', '--url', double.url, '--key', 'k'], cwd);
  t.equal(run.code, 0, run.stderr);
  t.same((await readdir(path.join(cwd, 'out'))).sort(), ['x-0.png', 'x-8.bin']);
  t.same(await readdir(cwd), ['out']);
});

t.test('what is shown for a character, and what is left alone', async (t) => {
  t.equal(printable('\u001b\u009b\u202e\r'), '\\u001b\\u009b\\u202e\\u000d');
  t.equal(printable('tab\tand line\nbreak, 红色 🏳️‍🌈 é'), 'tab\tand line\nbreak, 红色 🏳️‍🌈 é');
});
