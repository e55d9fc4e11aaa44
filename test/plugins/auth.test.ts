import { createHash } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import pino, { type Logger } from 'pino';
import t, { type Test } from 'tap';
import { openKeyRing } from '../../src/plugins/api-keys.js';
import { silentLog, until } from '../engines/support.js';
import { build, testApiKey } from '../helpers/build.js';

t.setTimeout(120_000);
const right = { authorization: `Bearer ${testApiKey}` };

t.test('open routes need no key; all others do', async (t) => {
  const { inject } = await build(t);
  for (const url of ['/health', '/metrics', '/docs']) t.equal((await inject({ url })).statusCode, 200, url);
  t.equal((await inject({ url: '/ready' })).statusCode, 503, '/ready answers, though without engines');
  for (const url of [
    '/capabilities',
    '/jobs',
    '/worker/status',
    '/worker/resources',
    '/worker/validate',
    '/dead-letters',
    '/callbacks',
    '/assets/sdxl_image_fast/a.png',
    '/worker/sdxl/logs',
  ]) {
    const refused = await inject({ url });
    t.match(refused.json(), { statusCode: 401, code: 'UNAUTHORIZED', error: 'Unauthorized' }, url);
    t.match(refused.headers['www-authenticate'], /^Bearer/, `${url} says how`);
  }
});

t.test('what is not the key is refused', async (t) => {
  const { inject } = await build(t, { env: { RATE_LIMIT: 'off' } });
  const headers = [
    {},
    { authorization: '' },
    { authorization: 'Bearer' },
    { authorization: 'Bearer ' },
    { authorization: testApiKey },
    { authorization: `Basic ${testApiKey}` },
    { authorization: `Bearer ${testApiKey}x` },
    { authorization: `Bearer ${testApiKey.slice(0, -1)}` },
    { authorization: `Bearer ${testApiKey} ${testApiKey}` },
    { 'x-api-key': testApiKey },
    { authorization: 'Bearer default_key_123' },
  ];
  for (const each of headers)
    t.equal((await inject({ url: '/jobs', headers: each })).statusCode, 401, JSON.stringify(each));
  t.equal((await inject({ url: '/jobs', headers: right })).statusCode, 200);
  t.equal(
    (await inject({ url: '/jobs', headers: { authorization: `bearer ${testApiKey}` } })).statusCode,
    200,
    'the scheme has no case (RFC 9110)',
  );
});

t.test('the key is checked before the body', async (t) => {
  const { inject } = await build(t);
  for (const payload of ['{not json', 'x'.repeat(2_000_000)]) {
    const refused = await inject({
      method: 'POST',
      url: '/jobs',
      headers: { 'content-type': 'application/json' },
      payload,
    });
    t.equal(refused.statusCode, 401);
  }
});

t.test('many wrong keys from one address are slowed down; the right key always passes', async (t) => {
  const { inject } = await build(t);
  const wrong = { url: '/jobs', headers: { authorization: 'Bearer wrong' } };
  const statuses: number[] = [];
  for (let attempt = 0; attempt < 25; attempt += 1) statuses.push((await inject(wrong)).statusCode);
  t.same(statuses, [...Array.from({ length: 20 }, () => 401), ...Array.from({ length: 5 }, () => 429)]);
  const refused = await inject(wrong);
  t.match(refused.json(), { code: 'TOO_MANY_REQUESTS' });
  t.ok(
    Number(refused.headers['retry-after']) >= 1 && Number(refused.headers['retry-after']) <= 60,
    `retry-after ${String(refused.headers['retry-after'])}`,
  );
  t.equal((await inject({ url: '/jobs', headers: right })).statusCode, 200);
  t.equal(
    (await inject({ ...wrong, remoteAddress: '203.0.113.9' })).statusCode,
    401,
    'another address has its own count',
  );
  let last = 0;
  for (let attempt = 0; attempt < 22; attempt += 1)
    last = (await inject({ ...wrong, remoteAddress: `2001:db8:0:1::${attempt}` })).statusCode;
  t.equal(last, 429, 'the addresses of one IPv6 network count together');
  for (const remoteAddress of ['2001:db8::1:0:0:0:1', '2001:db8:0:1:ffff:ffff:ffff:ffff'])
    t.equal((await inject({ ...wrong, remoteAddress })).statusCode, 429, `${remoteAddress} is of it`);
  for (const remoteAddress of ['2001:db8:0:2::1', '2001:db8::1', '::ffff:203.0.113.10'])
    t.equal((await inject({ ...wrong, remoteAddress })).statusCode, 401, `${remoteAddress} is not`);
});

/** Proxies as they are met, and whom the log and the limit take for the client: docs/security.md says the same. */
const proxies: Array<
  [setting: string, peer: string, forwarded: string | undefined, client: string, what: string]
> = [
  ['off', '198.51.100.7', '203.0.113.9', '198.51.100.7', 'nobody is believed'],
  ['1', '10.0.0.2', '203.0.113.9', '203.0.113.9', 'one proxy'],
  ['1', '10.0.0.2', '1.1.1.1, 203.0.113.9', '203.0.113.9', 'what a client wrote itself is not believed'],
  ['2', '10.0.0.2', '203.0.113.9, 10.0.0.3', '203.0.113.9', 'two proxies'],
  ['2', '10.0.0.2', '1.1.1.1, 203.0.113.9, 10.0.0.3', '203.0.113.9', 'two proxies and a liar'],
  ['10.0.0.0/8', '10.0.0.2', '1.1.1.1, 203.0.113.9, 10.0.0.3', '203.0.113.9', 'proxies of a network'],
  ['10.0.0.0/8', '198.51.100.7', '203.0.113.9', '198.51.100.7', 'past the proxies'],
  ['loopback,fd00::/8', 'fd00::1', '2001:db8::5', '2001:db8::5', 'IPv6'],
  ['10.0.0.0/8', '::ffff:10.0.0.2', '203.0.113.9', '203.0.113.9', 'IPv4 as IPv6 writes it'],
  ['loopback', '127.0.0.1', undefined, '127.0.0.1', 'without the header'],
];

t.test('the address of a client is what trusted proxies say, and no more', async (t) => {
  for (const setting of new Set(proxies.map(([one]) => one))) {
    const lines: Array<{ client?: string }> = [];
    const log = pino({ level: 'debug' }, { write: (line) => void lines.push(JSON.parse(line) as never) });
    const { inject } = await build(t, { env: { TRUST_PROXY: setting }, log });
    for (const [, remoteAddress, forwarded, client, what] of proxies.filter(([one]) => one === setting)) {
      lines.length = 0;
      const headers = forwarded === undefined ? {} : { 'x-forwarded-for': forwarded };
      await inject({ url: '/health', headers, remoteAddress });
      t.equal(lines.find((line) => line.client)?.client, client, `TRUST_PROXY=${setting}: ${what}`);
    }
  }
});

t.test('no client escapes the limit on wrong keys by naming other addresses', async (t) => {
  for (const setting of ['off', '1', 'loopback']) {
    const { inject } = await build(t, { env: { TRUST_PROXY: setting } });
    let last = 0;
    for (let attempt = 0; attempt < 22; attempt += 1) {
      // Some proxies add the port of the connection.
      const own = setting === 'off' ? '' : `, 198.51.100.7:${50_000 + attempt}`;
      const headers = { 'x-forwarded-for': `203.0.113.${attempt}${own}` };
      last = (await inject({ url: '/jobs', headers })).statusCode;
    }
    t.equal(last, 429, `TRUST_PROXY=${setting}`);
  }
});

const secrets = {
  pages: 'key-of-the-frontend',
  orders: 'key-of-the-order-desk',
  night: 'key-of-the-night-shift',
};

/** The app with named keys beside its own; `write` replaces the file. */
async function buildWithKeys(t: Test, log?: Logger) {
  const file = path.join(t.testdir(), 'keys.json');
  const write = async (keys: unknown) => writeFile(file, JSON.stringify({ keys }));
  await write([
    { name: 'pages', scopes: ['enhance'], key: secrets.pages },
    { name: 'orders', scopes: ['jobs', 'status'], sha256: sha256(secrets.orders) },
    { name: 'night', scopes: ['operate'], key: secrets.night },
  ]);
  const app = await build(t, {
    env: { API_KEYS_FILE: file, RATE_LIMIT: 'off' },
    ...(log === undefined ? {} : { log }),
  });
  const statusOf = async (key: string, url: string, method: 'GET' | 'POST' | 'DELETE' = 'GET') =>
    (await app.inject({ method, url, headers: { authorization: `Bearer ${key}` } })).statusCode;
  return { ...app, file, write, statusOf };
}
const sha256 = (text: string) => createHash('sha256').update(text).digest('hex');

t.test('a named key may do what its scopes say, and nothing else', async (t) => {
  const { statusOf, inject } = await buildWithKeys(t);
  const allowed: Record<string, string[]> = {
    [secrets.pages]: ['/capabilities'],
    [secrets.orders]: ['/capabilities', '/jobs', '/worker/status', '/worker/resources'],
    [secrets.night]: ['/capabilities', '/dead-letters', '/callbacks', '/worker/sdxl/logs'],
  };
  const all = [...new Set(Object.values(allowed).flat())];
  allowed[testApiKey] = all;
  for (const [key, urls] of Object.entries(allowed))
    for (const url of all) t.equal(await statusOf(key, url), urls.includes(url) ? 200 : 403, `${key} ${url}`);
  t.equal(await statusOf(secrets.pages, '/worker/restart/sdxl', 'POST'), 403);
  t.match((await inject({ url: '/jobs', headers: { authorization: `Bearer ${secrets.pages}` } })).json(), {
    statusCode: 403,
    code: 'FORBIDDEN',
    message: /does not have the scope "jobs"/,
  });
});

t.test('keys are replaced without a restart; a file that cannot be understood changes nothing', async (t) => {
  const { statusOf, write, file } = await buildWithKeys(t);
  t.equal(await statusOf(secrets.orders, '/jobs'), 200);
  const stream = statusOf(secrets.orders, '/events');
  await write([{ name: 'orders', scopes: ['all'], key: 'the-new-key-of-orders' }]);
  await until('the new key', async () => (await statusOf('the-new-key-of-orders', '/callbacks')) === 200);
  t.equal(await statusOf(secrets.orders, '/jobs'), 401, 'the old one is nothing any more');
  t.equal(await stream, 200, 'a stream it opened has ended');
  t.equal(await statusOf(testApiKey, '/jobs'), 200);
  await writeFile(file, '{ "keys": [');
  await sleep(1100);
  t.equal(await statusOf('the-new-key-of-orders', '/jobs'), 200);
  await rm(file);
  await sleep(1100);
  t.equal(await statusOf('the-new-key-of-orders', '/jobs'), 200);
});

t.test('a file that cannot be understood at the start is said, without its keys', async (t) => {
  const file = path.join(t.testdir(), 'keys.json');
  const bad: Array<[text: string, why: RegExp]> = [
    ['{ "keys": [{ "key": "a-secret-of-16-char" ', /it is not valid JSON/],
    ['[]', /"keys" must be a list/],
    ['{"keys":[{"scopes":["all"],"key":"a-secret-of-16-char"}]}', /keys\[0\].name must be 1 to 64/],
    ['{"keys":[{"name":"a","scopes":[],"key":"a-secret-of-16-char"}]}', /keys\[0\].scopes must list/],
    ['{"keys":[{"name":"a","scopes":["x"],"key":"a-secret-of-16-char"}]}', /scopes has "x"; there are jobs/],
    ['{"keys":[{"name":"a","scopes":["all"],"key":"short"}]}', /keys\[0\].key must have at least 16/],
    ['{"keys":[{"name":"a","scopes":["all"]}]}', /must have either "key" or "sha256"/],
    ['{"keys":[{"name":"a","scopes":["all"],"sha256":"ABC"}]}', /64 small hexadecimal digits/],
    [
      JSON.stringify({ keys: ['a', 'b'].map((name) => ({ name, scopes: ['all'], key: secrets.pages })) }),
      /two entries have the same key/,
    ],
  ];
  for (const [text, why] of bad) {
    await writeFile(file, text);
    const opened = openKeyRing({ apiKey: undefined, file, log: silentLog });
    await t.rejects(opened, { message: why });
    await opened.catch((error: Error) => t.notMatch(error.message, /a-secret/));
  }
  await t.rejects(openKeyRing({ apiKey: undefined, file: `${file}.not`, log: silentLog }), {
    message: /ENOENT/,
  });
  await t.rejects(openKeyRing({ apiKey: undefined, file: t.testdirName, log: silentLog }), {
    message: /no regular file/,
  });
});

t.test('what operators do is in the log: who, what, which, and the request', async (t) => {
  const lines: Array<Record<string, unknown>> = [];
  const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line) as never) });
  const { inject } = await buildWithKeys(t, log);
  const act = async (key: string, method: 'POST' | 'DELETE', url: string, payload?: object) =>
    inject({ method, url, headers: { authorization: `Bearer ${key}` }, ...(payload && { payload }) });
  const job = '5d0c2f6e-8f0e-4a55-9d5b-6f1f0c9f7a10';
  const answers = [
    await act(secrets.night, 'DELETE', '/dead-letters/letter-1'),
    await act(secrets.night, 'POST', '/callbacks/retry', { id: 'callback-1' }),
    await act(secrets.pages, 'POST', '/worker/restart/wan'),
    await act(secrets.orders, 'DELETE', `/jobs/${job}`),
    await act(secrets.night, 'POST', '/queues/wan_queue/pause', { reason: 'new weights' }),
    await act(secrets.night, 'POST', '/queues/wan_queue/resume'),
    await act(secrets.pages, 'POST', '/instances/self/drain', {}),
    await act(secrets.night, 'POST', '/dead-letters/drop', { reason: 'Storage' }),
    await act(secrets.orders, 'POST', '/jobs/cancel', { status: 'queued' }),
  ];
  t.match(
    lines.filter(({ event }) => event === 'audit'),
    [
      { caller: 'night', operation: 'dropDeadLetter', target: 'letter-1', status: 404 },
      { caller: 'night', operation: 'retryCallbacks', target: 'callback-1', status: 200 },
      { caller: 'pages', operation: 'restartWorker', target: 'wan', status: 403 },
      { caller: 'orders', operation: 'cancelJob', target: job, status: 404 },
      {
        caller: 'night',
        operation: 'pauseQueue',
        target: 'wan_queue',
        asked: '{"reason":"new weights"}',
        status: 200,
      },
      { caller: 'night', operation: 'resumeQueue', target: 'wan_queue', status: 200 },
      { caller: 'pages', operation: 'drainInstance', target: 'self', status: 403 },
      { caller: 'night', operation: 'dropDeadLetters', asked: '{"reason":"Storage"}', status: 200 },
      { caller: 'orders', operation: 'cancelJobs', asked: '{"status":"queued"}', status: 200 },
    ].map((line, index) => ({ ...line, request_id: answers[index]?.headers['x-request-id'] })),
  );
  t.equal(lines.filter(({ event }) => event === 'audit').length, 9);
  for (const secret of Object.values(secrets)) t.notMatch(JSON.stringify(lines), secret);
});
