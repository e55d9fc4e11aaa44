import { createHash, randomUUID } from 'node:crypto';
import path from 'node:path';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { issueToken } from '../../src/plugins/tokens.js';
import { createTestEnhancement } from '../enhancement/support.js';
import { testEngineEntry } from '../engines/support.js';
import { build, testApiKey } from '../helpers/build.js';

const [ana, bob] = ['0a0a0a0a-0000-4000-8000-000000000001', '0b0b0b0b-0000-4000-8000-000000000002'];
const job = (userId: string) => ({ type: 'sdxl_image_fast', prompt: 'a red circle', user_id: userId });
const sha256 = (text: string) => createHash('sha256').update(text).digest();
const asking = (token: string) => ({ authorization: `Bearer ${token}` });

type Call = Awaited<ReturnType<typeof build>>['call'];
async function tokenOf(call: Call, userId: string, scopes = ['enhance', 'jobs']): Promise<string> {
  const made = await call('POST', '/tokens', { user_id: userId, scopes });
  return made.json<{ token: string }>().token;
}
const buildWaiting = (t: Test) =>
  build(t, { env: { MODELS_DIR: t.testdir({ sdxl: {} }) }, options: { engineEntry: testEngineEntry } });

t.test('a token is made with the key, for one user, a few scopes and a bounded while', async (t) => {
  const { call } = await build(t);
  const made = await call('POST', '/tokens', {
    user_id: ana.toUpperCase(),
    scopes: ['jobs'],
    expires_in: 60,
  });
  t.match(made, { statusCode: 201, headers: { 'cache-control': 'no-store' } });
  t.match(made.json(), {
    user_id: ana.toUpperCase(),
    scopes: ['jobs'],
    expires_in: 60,
    expires_at: /^20.*Z$/,
  });
  for (const [wrong, field, rule] of [
    [{ scopes: ['jobs'] }, 'user_id', 'required'],
    [{ user_id: 'ana', scopes: ['jobs'] }, 'user_id', 'format'],
    [{ user_id: ana, scopes: [] }, 'scopes', 'minItems'],
    [{ user_id: ana, scopes: ['operate'] }, 'scopes.0', 'enum'],
    [{ user_id: ana, scopes: ['jobs'], expires_in: 86_401 }, 'expires_in', 'maximum'],
    [{ user_id: ana, scopes: ['jobs'], expires_in: 0 }, 'expires_in', 'minimum'],
  ] as const)
    t.match((await call('POST', '/tokens', wrong)).json(), { statusCode: 400, details: [{ field, rule }] });
  for (const nothing of [null, ''])
    t.match(
      (await call('POST', '/tokens', { user_id: ana, scopes: ['jobs'], expires_in: nothing })).json(),
      { expires_in: 900 },
      'absent is absent',
    );
  const { token } = made.json<{ token: string }>();
  t.match((await call('POST', '/tokens', { user_id: bob, scopes: ['jobs'] }, asking(token))).json(), {
    statusCode: 403,
    code: 'FORBIDDEN',
  });
  t.equal(
    (await call('POST', '/tokens', { user_id: bob, scopes: ['jobs'] }, asking('wrong'))).statusCode,
    401,
  );
});

t.test('it opens what its scopes are for, and nothing else', async (t) => {
  const { enhancement } = await createTestEnhancement(t);
  const { call } = await build(t, { services: { enhancement } });
  const [jobs, enhance] = [await tokenOf(call, ana, ['jobs']), await tokenOf(call, ana, ['enhance'])];
  const statusOf = async (token: string, method: 'GET' | 'POST', url: string, body?: unknown) =>
    (await call(method, url, body, asking(token))).statusCode;
  t.equal(await statusOf(jobs, 'GET', '/jobs'), 200);
  t.equal(await statusOf(enhance, 'GET', '/jobs'), 403);
  t.equal(await statusOf(enhance, 'POST', '/enhance', { prompt: 'a cat' }), 200);
  t.equal(await statusOf(jobs, 'POST', '/enhance', { prompt: 'a cat' }), 403);
  for (const token of [jobs, enhance]) {
    t.equal(await statusOf(token, 'GET', '/capabilities'), 200);
    for (const url of [
      '/worker/status',
      '/worker/resources',
      '/worker/validate',
      '/dead-letters',
      '/callbacks',
    ])
      t.equal(await statusOf(token, 'GET', url), 403, url);
    t.equal(await statusOf(token, 'POST', '/worker/restart/sdxl'), 403);
  }
});

t.test("a conversation is the user's, whichever token goes on with it", async (t) => {
  const { enhancement } = await createTestEnhancement(t);
  const { call } = await build(t, { services: { enhancement } });
  const ask = async (userId: string, prompt: string) => {
    const body = { prompt, model: 'qwen_instruct', session_id: 's' };
    const answer = await call('POST', '/enhance', body, asking(await tokenOf(call, userId)));
    return answer.json<{ enhanced_prompt: string }>().enhanced_prompt;
  };
  await ask(ana, 'a cat');
  t.match(await ask(ana, 'more [chat: history]'), /user a cat/);
  t.notMatch(await ask(bob, 'more [chat: history]'), /user a cat/);
});

t.test('its user sees and ends their own jobs only', async (t) => {
  const { call } = await buildWaiting(t);
  const [hers, his] = [await tokenOf(call, ana), await tokenOf(call, bob)];
  const submit = async (token: string, body: object, key?: string) =>
    call('POST', '/jobs', body, {
      ...asking(token),
      ...(key === undefined ? {} : { 'idempotency-key': key }),
    });
  const { user_id: _user, ...nobodys } = job(ana);
  const made = (await submit(hers, nobodys, 'k')).json<{ id: string }>();
  t.match((await call('GET', `/jobs/${made.id}`)).json(), { status: 'queued' }, 'the token says whose it is');
  t.equal((await submit(hers, nobodys, 'k')).json<{ id: string }>().id, made.id);
  t.equal((await submit(his, { ...job(bob.toUpperCase()) }, 'k')).statusCode, 202, 'his key is not hers');
  for (const nothing of [null, ''])
    t.equal((await submit(hers, { ...nobodys, user_id: nothing })).statusCode, 202, 'nor does an empty one');
  t.match((await submit(his, job(ana))).json(), { statusCode: 403, message: /own user_id/ });
  t.match((await submit(his, { ...job(bob), id: made.id })).json(), { statusCode: 409 });

  for (const [method, url] of [
    ['GET', `/jobs/${made.id}`],
    ['DELETE', `/jobs/${made.id}`],
    ['GET', `/jobs/${made.id}/events`],
    ['GET', `/jobs/${randomUUID()}`],
  ] as const)
    t.match(
      (await call(method, url, undefined, asking(his))).json(),
      { statusCode: 404 },
      `${method} ${url}`,
    );
  const list = async (token: string, query = '') =>
    (await call('GET', `/jobs${query}`, undefined, asking(token))).json<{
      jobs: unknown[];
      statusCode?: number;
    }>();
  t.match((await list(hers)).jobs.at(-1), { id: made.id });
  t.equal((await list(hers)).jobs.length, 3);
  t.equal((await list(his)).jobs.length, 1, 'also where the producer wrote his id in capitals');
  t.match(await list(his, `?user_id=${ana}`), { statusCode: 403 });
  t.equal((await list(hers, `?user_id=${ana.toUpperCase()}`)).jobs.length, 3);
  t.equal((await call('GET', '/jobs')).json<{ jobs: unknown[] }>().jobs.length, 4, 'the key sees all');
  t.match((await call('DELETE', `/jobs/${made.id}`, undefined, asking(hers))).json(), {
    status: 'cancelled',
  });
});

t.test('in the query it opens events and assets, of its user, and nothing else', async (t) => {
  const { call, inject } = await build(t, {
    env: { MODELS_DIR: path.join(projectRoot(), 'test/parity/models') },
    start: true,
  });
  const [hers, his] = [await tokenOf(call, ana), await tokenOf(call, bob)];
  const config = { num_images: 1, seed: 7, width: 64, height: 64 };
  const { id } = (await call('POST', '/jobs', { ...job(ana), config }, asking(hers))).json<{ id: string }>();
  const events = await inject({ url: `/jobs/${id}/events?token=${hers}` });
  t.match(events.payload, /"status":"completed"/);
  t.equal((await inject({ url: `/jobs/${id}/events?token=${his}` })).statusCode, 404);
  const [asset = ''] = (await call('GET', `/jobs/${id}`)).json<{ assets: string[] }>().assets;
  t.equal((await inject({ url: `${asset}?token=${hers}` })).statusCode, 200);
  t.equal((await inject({ method: 'HEAD', url: `${asset}?token=${hers}` })).statusCode, 200);
  const safari = await inject({ url: `${asset}?token=${hers}`, headers: { range: 'bytes=0-1' } });
  t.match(safari, { statusCode: 206, headers: { 'content-length': '2', 'accept-ranges': 'bytes' } });
  t.match(safari.headers['content-range'], /^bytes 0-1\/\d+$/);
  for (const [url, status] of [
    [`${asset}?token=${his}`, 404],
    [`${asset}?token=${await tokenOf(call, ana, ['enhance'])}`, 403],
    [`${asset}?token=${testApiKey}`, 401],
    [asset, 401],
    [`/jobs?token=${hers}`, 401],
    [`/jobs/${id}?token=${hers}`, 401],
  ] as const)
    t.equal((await inject({ url })).statusCode, status, url.replace(/ovt1\S+/, '…'));
  t.equal(
    (await inject({ url: `${asset}?token=${hers}`, headers: asking('wrong') })).statusCode,
    401,
    'the header goes first',
  );
});

t.test('it draws with files of its own user only; whoever has the key may name any input', async (t) => {
  const { call } = await buildWaiting(t);
  const token = await tokenOf(call, ana);
  const submit = (reference: string, headers?: Record<string, string>) =>
    call('POST', '/jobs', { ...job(ana), metadata: { reference_image_url: reference } }, headers);
  for (const hidden of [
    `reference_images/${bob}/face.png`,
    `workspace_assets/${bob}/face.png`,
    `/assets/workspace_assets/${bob}/face.png`,
    'reference_images/face.png',
  ]) {
    t.match((await submit(hidden, asking(token))).json(), {
      statusCode: 403,
      message: 'metadata.reference_image_url names a file of another user',
    });
    t.equal((await submit(hidden)).statusCode, 202, hidden);
  }
  for (const open of [`reference_images/${ana}/face.png`, 'https://pictures.example/face.png'])
    t.equal((await submit(open, asking(token))).statusCode, 202, open);
  const frames = {
    ...job(ana),
    type: 'video_fast',
    config: { first_frame: `workspace_assets/${bob}/1.png` },
  };
  t.match((await call('POST', '/jobs', frames, asking(token))).json(), {
    statusCode: 403,
    message: 'config.first_frame names a file of another user',
  });
});

t.test('nothing of it can be changed, it ends with its time and with the key', async (t) => {
  const { call, inject } = await build(t);
  const token = await tokenOf(call, ana, ['jobs']);
  const [version, facts = '', mac = ''] = token.split('.');
  const told = JSON.parse(Buffer.from(facts, 'base64url').toString()) as object;
  const forged = (change: object) =>
    Buffer.from(JSON.stringify({ ...told, ...change })).toString('base64url');
  const expiresAt = Math.floor(Date.now() / 1000) + 60;
  for (const [what, wrong] of Object.entries({
    'another user': [version, forged({ u: bob }), mac].join('.'),
    'another time': [version, forged({ e: 9e9 }), mac].join('.'),
    'no signature': [version, facts, ''].join('.'),
    'half a signature': [version, facts, mac.slice(0, 20)].join('.'),
    'no facts': `${version}.`,
    'another key': issueToken(sha256('another key'), {
      key: 'default',
      userId: ana,
      scopes: ['jobs'],
      expiresAt,
    }),
  }))
    t.equal((await inject({ url: '/jobs', headers: asking(wrong) })).statusCode, 401, what);
  const old = issueToken(sha256(testApiKey), {
    key: 'default',
    userId: ana,
    scopes: ['jobs'],
    expiresAt: expiresAt - 61,
  });
  for (let count = 0; count < 30; count += 1) {
    const late = await inject({ url: '/jobs', headers: asking(old) });
    t.match(late.json(), { statusCode: 401, message: /expired/ });
  }
  const statuses = new Set<number>();
  for (let count = 0; count < 25; count += 1)
    statuses.add((await inject({ url: '/jobs', headers: asking(`${token}x`) })).statusCode);
  t.same([...statuses], [401, 429], 'guessing is slowed down, expired tokens are no guesses');
});

t.test('a stream ends with the time of the token that opened it', async (t) => {
  const { inject } = await build(t);
  const token = issueToken(sha256(testApiKey), {
    key: 'default',
    userId: ana,
    scopes: ['jobs'],
    expiresAt: Math.floor(Date.now() / 1000) + 2,
  });
  // Answered when the stream has ended.
  t.equal((await inject({ url: `/events?token=${token}` })).statusCode, 200);
  t.equal((await inject({ url: `/events?token=${token}` })).statusCode, 401);
});
