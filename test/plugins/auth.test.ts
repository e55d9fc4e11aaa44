import t from 'tap';
import { build, testApiKey } from '../helpers/build.js';

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
});

t.test("behind a trusted proxy the client's address counts, else the header is ignored", async (t) => {
  for (const [setting, expected] of [
    ['on', 401],
    ['off', 429],
  ] as const) {
    const { inject } = await build(t, { env: { TRUST_PROXY: setting } });
    let last = 0;
    for (let attempt = 0; attempt < 22; attempt += 1)
      last = (await inject({ url: '/jobs', headers: { 'x-forwarded-for': `203.0.113.${attempt}` } }))
        .statusCode;
    t.equal(last, expected, `TRUST_PROXY=${setting}`);
  }
});
