/** Browsers that are signed in: the cookie, what it opens, and what other pages cannot do with it. */
import { createHash } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import t, { type Test } from 'tap';
import { testEngineEntry } from '../engines/support.js';
import { build, testApiKey } from '../helpers/build.js';

const ana = '0a0a0a0a-0000-4000-8000-000000000001';
const host = 'worker.example:7860';
const bearer = (key: string) => ({ authorization: `Bearer ${key}` });

interface SessionView {
  caller: string;
  scopes: string[];
  user_id: string | null;
  csrf_token: string | null;
  expires_at: string | null;
}

const buildWaiting = (t: Test, env: Record<string, string> = {}, dir = t.testdir({ sdxl: {} })) =>
  build(t, { env: { MODELS_DIR: dir, ...env }, options: { engineEntry: testEngineEntry } });

type Inject = Awaited<ReturnType<typeof build>>['inject'];
/** As a page of this service asks, unless `headers` say otherwise. */
function browserOf(inject: Inject, cookie: string) {
  return (method: 'GET' | 'POST' | 'DELETE', url: string, headers: Record<string, string> = {}) =>
    inject({ method, url, headers: { host, cookie, 'sec-fetch-site': 'same-origin', ...headers } });
}

async function signIn(inject: Inject, key: string) {
  const answer = await inject({ method: 'POST', url: '/session', headers: { host, ...bearer(key) } });
  const [set = ''] = [answer.headers['set-cookie'] ?? ''].flat();
  return { answer, set, cookie: set.split(';')[0] ?? '', session: answer.json<SessionView>() };
}

t.test('a key signs a browser in, by a cookie that no script reads', async (t) => {
  const { inject } = await buildWaiting(t);
  const { set, cookie, session } = await signIn(inject, testApiKey);
  t.match(set, /^ourvidz_session7860=ovs1\.[\w.-]+; Path=\/; Expires=.*; HttpOnly; SameSite=Strict$/);
  t.notOk(set.includes(testApiKey), 'the key itself is not in it');
  t.match(session, { caller: 'default', user_id: null, csrf_token: /^[\w-]{43}$/ });
  t.same(session.scopes, ['jobs', 'enhance', 'status', 'operate']);

  const browser = browserOf(inject, cookie);
  t.same((await browser('GET', '/session')).json(), session, 'who is signed in');
  const jobs = await browser('GET', '/jobs');
  t.match(jobs, { statusCode: 200, headers: { 'cross-origin-resource-policy': 'same-origin' } });
  t.equal((await browser('GET', '/worker/status')).statusCode, 200);

  for (const key of ['wrong', '', 'ovs1.x.y', cookie.split('=')[1] ?? ''])
    t.equal((await signIn(inject, key)).answer.statusCode, 401, `not by "${key.slice(0, 8)}"`);
});

t.test('a cookie is Secure where the connection is', async (t) => {
  const { inject } = await buildWaiting(t, { TRUST_PROXY: '1' });
  const answer = await inject({
    method: 'POST',
    url: '/session',
    headers: {
      ...bearer(testApiKey),
      'x-forwarded-proto': 'https',
      'x-forwarded-for': '203.0.113.9',
      'x-forwarded-host': 'draw.example',
    },
  });
  t.match(answer.headers['set-cookie'], /^ourvidz_session=.*; Secure; /);
});

t.test('what changes something needs the token that only the page knows', async (t) => {
  const { inject } = await buildWaiting(t);
  const { cookie, session } = await signIn(inject, testApiKey);
  const browser = browserOf(inject, cookie);
  const other = await signIn(inject, testApiKey);
  const refused: Array<[string, Record<string, string>]> = [
    ['without', {}],
    ['a wrong one', { 'x-csrf-token': 'x' }],
    ["another session's", { 'x-csrf-token': other.session.csrf_token ?? '' }],
  ];
  for (const [what, headers] of refused)
    t.match((await browser('POST', '/worker/restart/sdxl', headers)).json(), { statusCode: 403 }, what);
  const csrf = { 'x-csrf-token': session.csrf_token ?? '' };
  t.equal((await browser('POST', '/worker/restart/sdxl', csrf)).statusCode, 200);
});

t.test('a cookie counts for pages of this service alone', async (t) => {
  const origin = 'http://worker.example:3000';
  const { inject } = await buildWaiting(t, { CORS_ORIGINS: origin });
  const { cookie } = await signIn(inject, testApiKey);
  const browser = browserOf(inject, cookie);
  // Of an older browser, or over plain http, there is no Sec-Fetch-Site: Origin decides.
  const plain = (headers: Record<string, string>) =>
    inject({ url: '/jobs', headers: { host, cookie, ...headers } });
  for (const site of ['same-site', 'cross-site'])
    t.equal((await browser('GET', '/jobs', { 'sec-fetch-site': site })).statusCode, 401, site);
  t.equal((await plain({ origin })).statusCode, 401, 'a page of another port that CORS_ORIGINS lets in');
  t.equal((await plain({ origin: 'null' })).statusCode, 401, 'a page without an origin');
  t.equal((await plain({ origin: `http://${host}` })).statusCode, 200, 'our own');
  t.equal((await plain({})).statusCode, 200, 'an image or an event source of our own');
  t.equal((await browser('GET', '/jobs', { 'sec-fetch-site': 'none' })).statusCode, 200, 'typed by hand');
  t.equal((await inject({ url: '/jobs', headers: { host: 'worker.example:9999', cookie } })).statusCode, 401);
});

t.test('signing out ends the session', async (t) => {
  const { inject } = await buildWaiting(t);
  const { cookie, session } = await signIn(inject, testApiKey);
  const browser = browserOf(inject, cookie);
  const left = await browser('DELETE', '/session', { 'x-csrf-token': session.csrf_token ?? '' });
  t.equal(left.statusCode, 204);
  t.match(left.headers['set-cookie'], /^ourvidz_session7860=; .*Expires=Thu, 01 Jan 1970/);
  t.match((await browser('GET', '/session')).json(), { statusCode: 401, message: /sign in again/ });
});

t.test('a session may what its key may, and ends with it', async (t) => {
  const dir = t.testdir({ 'keys.json': '', sdxl: {} });
  const path = `${dir}/keys.json`;
  const write = (scopes: string[], key: string) =>
    writeFile(
      path,
      JSON.stringify({
        keys: [{ name: 'desk', scopes, sha256: createHash('sha256').update(key).digest('hex') }],
      }),
    );
  await write(['status', 'jobs'], 'first-key-of-the-desk');
  const { inject } = await buildWaiting(t, { API_KEYS_FILE: path }, dir);
  const { cookie, session } = await signIn(inject, 'first-key-of-the-desk');
  t.same([session.caller, session.scopes.sort()], ['desk', ['jobs', 'status']]);
  const browser = browserOf(inject, cookie);
  t.equal((await browser('GET', '/dead-letters')).statusCode, 403);
  t.equal((await browser('GET', '/jobs')).statusCode, 200);
  await write(['status'], 'first-key-of-the-desk');
  await later();
  t.equal((await browser('GET', '/jobs')).statusCode, 403, 'what the key may not do any more');
  await write(['status'], 'second-key-of-the-desk');
  await later();
  t.equal((await browser('GET', '/worker/status')).statusCode, 401, 'another key of that name');
});

/** Until the file of keys is looked at again. */
const later = () => new Promise((resolve) => setTimeout(resolve, 1100));

t.test("a token's session is its user's, and as long", async (t) => {
  const { inject, call } = await buildWaiting(t);
  const made = await call('POST', '/tokens', { user_id: ana, scopes: ['jobs'], expires_in: 60 });
  const { token, expires_at: expiresAt } = made.json<{ token: string; expires_at: string }>();
  const { cookie, session } = await signIn(inject, token);
  t.match(session, { user_id: ana, scopes: ['jobs'], expires_at: expiresAt });
  const browser = browserOf(inject, cookie);
  t.equal((await browser('GET', '/worker/status')).statusCode, 403);
  t.equal((await browser('GET', '/jobs')).statusCode, 200);
  t.equal((await browser('GET', '/jobs?user_id=0b0b0b0b-0000-4000-8000-000000000002')).statusCode, 403);
  const link = await call('POST', '/session/links', undefined, bearer(token));
  t.equal(link.statusCode, 403, 'and makes no links');
});

t.test('a login link signs in once', async (t) => {
  const { inject, call } = await buildWaiting(t);
  const made = await call('POST', '/session/links');
  t.match(made, { statusCode: 201, headers: { 'cache-control': 'no-store' } });
  const { link, expires_in: seconds } = made.json<{ link: string; expires_in: number }>();
  t.equal(seconds, 900);
  const code = /^\/#login=(ovl1\.[\w-]{32})$/.exec(link)?.[1] ?? '';
  t.equal((await call('GET', '/jobs', undefined, bearer(code))).statusCode, 401, 'it is no key');
  t.match((await signIn(inject, code)).session, { caller: 'default', user_id: null });
  t.equal((await signIn(inject, code)).answer.statusCode, 401, 'the second time nobody');
});

t.test('who accepts HTML gets the console, everybody else the addresses', async (t) => {
  const { inject } = await build(t);
  const html = 'text/html,application/xhtml+xml,*/*;q=0.8';
  const page = await inject({ url: '/', headers: { accept: html } });
  t.match(page.headers, { 'content-type': /^text\/html/, vary: 'accept', 'cache-control': 'no-cache' });
  const policy = String(page.headers['content-security-policy']);
  t.match(policy, /^default-src 'none'; /);
  t.notMatch(policy, /unsafe|http|\*/);
  t.notMatch(
    page.payload,
    /<style|<script>|\son\w+=|style=|https?:/,
    'nothing inline, nothing from elsewhere',
  );
  for (const [, file = ''] of page.payload.matchAll(/(?:href|src)="([^"]+)"/g)) {
    const { statusCode, headers } = await inject({ url: file });
    t.equal(statusCode, 200, file);
    t.match(headers['cache-control'], /immutable/);
  }
  for (const accept of ['*/*', 'application/json', undefined])
    t.match(await inject({ url: '/', headers: accept === undefined ? {} : { accept } }), {
      statusCode: 200,
      headers: { 'content-type': /^application\/json/, vary: 'accept' },
    });
  const shared = await build(t, { env: { CORS_ORIGINS: 'https://site.example' } });
  for (const accept of [html, '*/*'])
    t.equal(
      (await shared.inject({ url: '/', headers: { accept, origin: 'https://site.example' } })).headers[
        'vary'
      ],
      'Origin, accept',
    );
  t.equal((await inject({ url: '/', headers: { accept: html }, method: 'HEAD' })).payload, '');
  for (const name of ['index.html', 'nothing.js', '..%2fpackage.json', '..%2f..%2fpackage.json'])
    t.equal((await inject({ url: `/console/${name}` })).statusCode, 404, name);
});

t.test('with Supabase its pictures may be shown', async (t) => {
  const { inject } = await build(t, {
    env: {
      SUPABASE_URL: 'https://project.supabase.example',
      SUPABASE_SERVICE_KEY: 'service-key-of-the-test',
      WAN_WORKER_API_KEY: 'a-long-enough-test-key',
      STORAGE: 'folder',
    },
  });
  const policy = String(
    (await inject({ url: '/', headers: { accept: 'text/html' } })).headers['content-security-policy'],
  );
  t.match(policy, /img-src 'self' data: blob: https:\/\/project\.supabase\.example;/);
});
