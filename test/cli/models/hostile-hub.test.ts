/** A hub that is broken, endless or hostile costs a pull a sentence, never a terminal or the patience of a person. */
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { readdir } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import t from 'tap';
import { waitFor } from '../../helpers/wait-for.js';
import { json, startCli, startDouble } from '../support.js';

const commit = 'c0ffee0123456789c0ffee0123456789c0ffee01';
const isRevision = (url = '') => url.includes('/revision/');
/** Answers for the file list; a revision is what `--revision main` asks for first. */
type Answer = (response: ServerResponse, url: string) => unknown;

async function drip(response: ServerResponse): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/json' });
  for (response.write('['); !response.destroyed; response.write(' ')) await sleep(200);
}

async function flood(response: ServerResponse): Promise<void> {
  response.writeHead(200, { 'content-type': 'application/json' }).write('[');
  const closed = once(response, 'close');
  while (!response.destroyed)
    if (!response.write(' '.repeat(65_536))) await Promise.race([once(response, 'drain'), closed]);
}

const entry = { type: 'file', path: 'model_index.json', size: 1, oid: '0'.repeat(40) };
const redirect = (location: string) => (response: ServerResponse) =>
  response.writeHead(302, { location }).end();

t.test('answers that never end, lead nowhere or are none', async (t) => {
  let answer: Answer = () => {};
  const hub = await startDouble(t, (request, response) => {
    const url = request.url ?? '';
    return isRevision(url) ? json(response, 200, { sha: commit }) : answer(response, url);
  });
  const cases: Array<{ what: string; answer: Answer; code: number; text: RegExp }> = [
    { what: 'a byte at a time', answer: drip, code: 3, text: /did not finish its file list .* in 2 s/ },
    { what: 'no answer at all', answer: () => {}, code: 3, text: /did not finish its file list .* in 2 s/ },
    { what: 'more and more bytes', answer: flood, code: 7, text: /more than 16 MiB/ },
    {
      what: 'a page after every page',
      answer: (response, url) =>
        response
          .writeHead(200, { link: `<${hub.url}${url.replace(/\d*$/, '')}${Math.random()}>; rel="next"` })
          .end('[]'),
      code: 7,
      text: /more than 100 pages/,
    },
    {
      what: 'redirects in circles',
      answer: redirect('/again'),
      code: 7,
      text: /redirects more than 5 times/,
    },
    { what: 'a redirect to a file', answer: redirect('file:///etc/passwd'), code: 7, text: /no web address/ },
    { what: 'a redirect to nothing', answer: redirect('http://'), code: 7, text: /no web address/ },
    { what: 'an object', answer: (response) => json(response, 200, {}), code: 7, text: /not the hub's API/ },
    { what: 'null', answer: (response) => json(response, 200, [null]), code: 7, text: /not the hub's API/ },
    { what: 'HTML', answer: (response) => response.end('<html>'), code: 7, text: /not the hub's API/ },
    {
      what: 'a size that is none',
      answer: (response) => json(response, 200, [{ ...entry, size: -1 }]),
      code: 7,
      text: /not the hub's API/,
    },
    {
      what: 'a checksum that is a path',
      answer: (response) => json(response, 200, [{ ...entry, oid: '../../token' }]),
      code: 7,
      text: /not the hub's API/,
    },
    {
      what: 'a path that steers a terminal',
      answer: (response) => json(response, 200, [{ ...entry, path: 'unet/\u001b[2J\u009b\u202e.onnx' }]),
      code: 7,
      text: /leaves its folder: unet\/\\u001b\[2J\\u009b\\u202e\.onnx/,
    },
    {
      what: 'an error message that steers a terminal',
      answer: (response) => response.writeHead(404, { 'x-error-message': 'gone\u009b2J\u0085' }).end(),
      code: 5,
      text: /\(gone\\u009b2J ?\)/,
    },
  ];
  for (const { what, code, text, ...given } of cases) {
    answer = given.answer;
    const home = t.testdir({});
    const environment = { HF_ENDPOINT: hub.url, HF_HOME: home, HF_HUB_ETAG_TIMEOUT: '2' };
    const pull = ['models', 'pull', 'sdxl', '--revision', 'main', '--to', home];
    const result = await startCli(pull, home, environment).done;
    t.equal(result.code, code, `${what}: ${result.stderr}`);
    t.match(result.stderr, text, what);
    t.notMatch(result.stderr, /(?!\n)\p{Cc}/u, what);
    t.strictSame(await readdir(home), [], `${what}: nothing written`);
  }
});

t.test('Ctrl-C while the hub is asked ends with 130 at once', async (t) => {
  for (const silent of ['revision', 'tree']) {
    let asked = false;
    const hub = await startDouble(t, (request, response) => {
      if (request.url?.includes(`/${silent}/`) === true) return (asked = true);
      return json(response, 200, { sha: commit });
    });
    const home = t.testdir({});
    const pull = ['models', 'pull', 'sdxl', '--revision', 'main', '--to', home];
    const cli = startCli(pull, home, { HF_ENDPOINT: hub.url, HF_HOME: home });
    await waitFor(() => asked, { what: `the ${silent} to be asked for` });
    cli.child.kill('SIGINT');
    // Long before any deadline of the hub's answers, which is a minute here.
    const result = await Promise.race([cli.done, sleep(20_000, undefined, { ref: false })]);
    t.equal(result?.code, 130, silent);
    t.match(result?.stderr, /Interrupted/);
    if (result === undefined) cli.child.kill('SIGKILL');
  }
});
