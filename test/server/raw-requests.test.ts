import { once } from 'node:events';
import { execFileSync } from 'node:child_process';
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { type AddressInfo, connect } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { build, testApiKey } from '../helpers/build.js';
import { createContractValidator } from '../../src/contract/validator.js';
import { readDocument } from '../../src/contract/document.js';

/** The app on a port of its own, and what it answers to bytes. */
async function listen(t: Test) {
  const built = await build(t);
  await built.app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = built.app.server.address() as AddressInfo;
  const send = async (text: string) => {
    const socket = connect(port, '127.0.0.1');
    let answer = '';
    socket.on('data', (chunk) => {
      answer += chunk.toString();
    });
    socket.on('error', () => {});
    socket.write(text);
    await once(socket, 'close');
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    const [line = '', ...headers] = head.split('\r\n');
    return { status: Number(line.split(' ')[1]), headers: headers.join('\n').toLowerCase(), body };
  };
  return { ...built, send };
}

const validator = createContractValidator(readDocument());
const checkError = validator.forBody(validator.schemaOf('Error'));

t.test('what never becomes a request is refused in the shape of every other error', async (t) => {
  const { send } = await listen(t);
  const close = 'host: x\r\nconnection: close\r\n';
  const cases: Array<[what: string, text: string, status: number, code: string]> = [
    ['no HTTP at all', 'hello\r\n\r\n', 400, 'BAD_REQUEST'],
    ['a method that is none', 'BREW /jobs HTTP/1.1\r\nhost: x\r\n\r\n', 400, 'BAD_REQUEST'],
    [
      'headers without end',
      `GET /health HTTP/1.1\r\n${close}x: ${'y'.repeat(20_000)}\r\n\r\n`,
      431,
      'HEADERS_TOO_LARGE',
    ],
    [
      'an address without end',
      `GET /${'y'.repeat(20_000)} HTTP/1.1\r\n${close}\r\n`,
      431,
      'HEADERS_TOO_LARGE',
    ],
    ['a bad header', `GET /health HTTP/1.1\r\n${close}a b: c\r\n\r\n`, 400, 'BAD_REQUEST'],
    [
      'two lengths',
      `POST /jobs HTTP/1.1\r\n${close}content-length: 1\r\ncontent-length: 2\r\n\r\n`,
      400,
      'BAD_REQUEST',
    ],
    ['no host', 'GET /health HTTP/1.1\r\nconnection: close\r\n\r\n', 400, 'BAD_REQUEST'],
    ['an expectation', `POST /jobs HTTP/1.1\r\n${close}expect: a-wonder\r\n\r\n`, 417, 'EXPECTATION_FAILED'],
    ['a tunnel', `CONNECT example.com:443 HTTP/1.1\r\n${close}\r\n`, 400, 'BAD_REQUEST'],
  ];
  for (const [what, text, status, code] of cases) {
    const answer = await send(text);
    t.equal(answer.status, status, what);
    const body = JSON.parse(answer.body) as { request_id: string };
    t.same(checkError(body), [], `${what}: the shape of Error`);
    t.match(body, { statusCode: status, code }, what);
    t.match(answer.headers, `x-request-id: ${body.request_id}`, what);
    t.match(answer.headers, 'x-content-type-options: nosniff', what);
  }
  const enhance = await send(`POST //enhance?a HTTP/1.1\r\n${close}expect: a-wonder\r\n\r\n`);
  t.match(JSON.parse(enhance.body), {
    ...{ statusCode: 417, success: false, enhanced_prompt: null },
    error: /^The only expectation/,
  });
  const plain = await send('GET /health HTTP/1.0\r\n\r\n');
  t.equal(plain.status, 200, 'HTTP/1.0 needs no host');
});

t.test('no answer may be sniffed', async (t) => {
  const { inject } = await build(t);
  const headers = { authorization: `Bearer ${testApiKey}` };
  for (const url of [
    '/health',
    '/ready',
    '/metrics',
    '/docs',
    '/docs/json',
    '/jobs',
    '/nowhere',
    '/jobs/%zz',
  ])
    t.equal((await inject({ url, headers })).headers['x-content-type-options'], 'nosniff', url);
  t.equal((await inject({ url: '/jobs' })).headers['x-content-type-options'], 'nosniff', 'refused');
});

t.test('pipes and links in the folder of assets are no assets, and freeze nothing', async (t) => {
  const { call, config, inject } = await build(t);
  const assets = path.join(config.dataDir, 'assets');
  const bucket = path.join(assets, 'sdxl_image_fast');
  mkdirSync(bucket, { recursive: true });
  writeFileSync(path.join(config.dataDir, 'secret.png'), 'secret');
  execFileSync('mkfifo', [path.join(bucket, 'pipe.png')]);
  symlinkSync(config.dataDir, path.join(assets, 'video_fast'));
  symlinkSync(path.join(bucket, 'pipe.png'), path.join(bucket, 'link.png'));
  // More than the threads that wait for files.
  const names = Array.from({ length: 12 }, () => ['pipe.png', 'link.png']).flat();
  const answers = await Promise.all(
    names.map(async (name) => call('GET', `/assets/sdxl_image_fast/${name}`)),
  );
  t.ok(answers.every(({ statusCode }) => statusCode === 404));
  t.equal((await call('GET', '/assets/video_fast/secret.png')).statusCode, 404, 'a link as bucket');
  writeFileSync(path.join(bucket, 'a.png'), 'a picture');
  t.equal((await call('GET', '/assets/sdxl_image_fast/a.png')).body, 'a picture');
  t.equal((await inject({ url: '/health' })).statusCode, 200);
});
