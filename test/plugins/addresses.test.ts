import { once } from 'node:events';
import { connect, type AddressInfo } from 'node:net';
import t from 'tap';
import { listOperations, readDocument } from '../../src/contract/document.js';
import { testEngineEntry } from '../engines/support.js';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { build, testApiKey } from '../helpers/build.js';

t.setTimeout(300_000); // /worker/validate looks at the whole installation, each time it is asked

const someId = '00000000-0000-4000-8000-000000000001';
// An answer of /events never ends.
const operations = listOperations(readDocument())
  .map(({ method, path, open, operationId }) => ({
    method: method.toUpperCase() as 'GET' | 'HEAD' | 'POST' | 'DELETE',
    open,
    operationId,
    path: path
      .replace('{bucket}/{path}', 'image_fast/a/b.png')
      .replace('{id}', someId)
      .replace('{worker_id}', 'sdxl')
      .replace('{session_id}', 's'),
  }))
  .filter(({ path }) => path !== '/events');

const page = 'https://app.example.com';

/** The same address as callers write it who join it to one that ends in a slash. */
const written = (path: string) => [`/${path}`, `${path}/`, `${path.replaceAll('/', '//')}//`];

t.test('slashes that repeat or end a path mean nothing, on every route', async (t) => {
  const { call, inject } = await build(t, { env: { RATE_LIMIT: 'off' } });
  for (const { method, path, open } of operations) {
    const body = method === 'POST' ? {} : undefined;
    const plain = await call(method, path, body);
    for (const url of written(path)) {
      t.equal((await call(method, url, body)).statusCode, plain.statusCode, `${method} ${url}`);
      t.equal(
        (await inject({ method, url })).statusCode,
        open ? plain.statusCode : 401,
        `${url} without key`,
      );
    }
  }
  t.equal((await call('GET', '//nowhere/')).statusCode, 404);
  t.match(await call('GET', '//enhance/'), { statusCode: 405, headers: { allow: 'POST' } });
  t.match(await call('POST', '/health/'), { statusCode: 405, headers: { allow: 'GET, HEAD' } });
  t.match(
    await call('GET', '/jobs/cancel'),
    { statusCode: 405, headers: { allow: 'POST' } },
    'no id of a job',
  );
});

t.test('HEAD wherever GET: the same answer without its body', async (t) => {
  const { call, inject } = await build(t, { env: { RATE_LIMIT: 'off' } });
  for (const { method, path, open } of operations) {
    if (method !== 'GET') continue;
    const [head, get] = [await call('HEAD', path), await call('GET', path)];
    t.match(head, { statusCode: get.statusCode, payload: '' }, `HEAD ${path}`);
    t.equal(head.headers['content-type'], get.headers['content-type'], `type of ${path}`);
    if (!open) t.equal((await inject({ method: 'HEAD', url: path })).statusCode, 401, `${path} without key`);
  }
});

t.test('HEAD of a stream that has no end yet ends at once', async (t) => {
  const { app, call } = await build(t, {
    env: { MODELS_DIR: t.testdir({ sdxl: {} }), CORS_ORIGINS: page },
    options: { engineEntry: testEngineEntry },
  });
  const { id } = (await call('POST', '/jobs', goodPayloads.sdxl)).json<{ id: string }>();
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const headers = { authorization: `Bearer ${testApiKey}`, origin: page };
  const url = `http://127.0.0.1:${port}/jobs/${id}/events`;
  const head = await fetch(url, { method: 'HEAD', headers });
  t.equal(head.status, 200);
  t.match(head.headers.get('content-type'), /^text\/event-stream/);
  const ending = new AbortController();
  const stream = await fetch(url, { headers, signal: ending.signal });
  t.equal(stream.headers.get('access-control-allow-origin'), page, 'a page may read the stream');
  ending.abort();
});

t.test('GET / says what this is and where to go', async (t) => {
  const { inject } = await build(t);
  const answer = await inject({ method: 'GET', url: '/' });
  const { service, links } = answer.json<{ service: string; links: Record<string, string> }>();
  t.equal(service, 'ourvidz-worker');
  for (const url of Object.values(links))
    t.not((await inject({ method: 'GET', url })).statusCode, 404, `${url} is there`);
});

const preflight = (url: string, origin = page) => ({
  method: 'OPTIONS' as const,
  url,
  headers: {
    origin,
    'access-control-request-method': 'POST',
    'access-control-request-headers': 'authorization',
  },
});

t.test('without CORS_ORIGINS no page of another origin may call', async (t) => {
  const { app, inject } = await build(t);
  t.match(await app.inject(preflight('/enhance')), { statusCode: 405, headers: { allow: 'POST' } });
  const { headers } = await inject({ method: 'GET', url: '/health', headers: { origin: page } });
  t.notOk(Object.keys(headers).some((name) => name.startsWith('access-control-')));
});

t.test('pages of the origins in CORS_ORIGINS may call every route and read its errors', async (t) => {
  const { app, call, inject } = await build(t, { env: { CORS_ORIGINS: `${page}/, http://localhost:3000` } });
  for (const path of ['/enhance', '//enhance/', `/jobs/${someId}`]) {
    const answer = await app.inject(preflight(path));
    t.match(answer, {
      statusCode: 204,
      headers: {
        'access-control-allow-origin': page,
        'access-control-allow-methods': /POST, DELETE/,
        'access-control-allow-headers': /authorization.*idempotency-key.*last-event-id/,
        'x-request-id': String,
        vary: /Origin/,
      },
    });
  }
  for (const answer of [
    await inject({ method: 'POST', url: '/enhance', headers: { origin: page } }),
    await call('POST', '/enhance', { prompt: 5 }, { origin: page }),
    await call('GET', '/nowhere', undefined, { origin: page }),
    await call('GET', '/health', undefined, { origin: page }),
  ])
    t.match(answer.headers, {
      'access-control-allow-origin': page,
      'access-control-allow-credentials': 'true',
      'access-control-expose-headers': /x-request-id/,
    });
  const stranger = 'https://evil.example.com';
  for (const answer of [
    await app.inject(preflight('/enhance', stranger)),
    await call('GET', '/health', undefined, { origin: stranger }),
    await call('GET', '/health', undefined, { origin: 'null' }),
  ])
    t.equal(answer.headers['access-control-allow-origin'], undefined);
  t.equal((await app.inject({ method: 'OPTIONS', url: '/enhance' })).statusCode, 204, 'asked by hand');
});

t.test('CORS_ORIGINS=* lets any page in, and never with credentials', async (t) => {
  const { app, call } = await build(t, { env: { CORS_ORIGINS: '*' } });
  for (const answer of [
    await app.inject(preflight('/enhance')),
    await call('GET', '/health', undefined, { origin: page }),
  ]) {
    t.equal(answer.headers['access-control-allow-origin'], '*');
    t.equal(answer.headers['access-control-allow-credentials'], undefined);
  }
});

t.test('forms of a request line that only programs write', async (t) => {
  const { app } = await build(t, { env: { CORS_ORIGINS: page } });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const first = async (line: string) => {
    const socket = connect(port, '127.0.0.1');
    socket.end(
      `${line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer ${testApiKey}\r\n\r\n`,
    );
    let answer = '';
    socket.on('data', (chunk) => (answer += String(chunk)));
    await once(socket, 'close');
    return answer.split('\r\n')[0];
  };
  t.match(await first('GET //health'), /^HTTP\/1.1 200/);
  t.match(await first('GET //evil.example.com/health'), /^HTTP\/1.1 404/);
  t.match(await first('GET /health//?x=//y'), /^HTTP\/1.1 200/);
  t.match(await first('GET /assets/..//..//etc/passwd'), /^HTTP\/1.1 4/);
  t.match(await first('OPTIONS *'), /^HTTP\/1.1 (204|4)/);
  t.match(await first('GET //health'), /^HTTP\/1.1 200/, 'and it still answers');
});
