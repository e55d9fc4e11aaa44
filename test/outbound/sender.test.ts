import { readFile } from 'node:fs/promises';
import path from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { secret, startReceiver } from './support.js';
import { projectRoot } from '../../src/lib/project.js';
import { createCallbackBuilder, createCredentials } from '../../src/services/outbound/index.js';
import { callbackHeaders, createCallbackSender } from '../../src/services/outbound/sender.js';

type Verify = (
  headers: Record<string, unknown>,
  body: string,
  secret: string,
  toleranceSeconds?: number,
) => boolean;
/** The example of docs/callbacks.md, run as it is printed there. */
async function documentedVerify(): Promise<Verify> {
  const text = await readFile(path.join(projectRoot(), 'docs/callbacks.md'), 'utf8');
  const [, code] = /```js\n(.*?)```/s.exec(text) ?? [];
  if (code === undefined) throw new Error('docs/callbacks.md has no example');
  return ((await import(`data:text/javascript,${encodeURIComponent(code)}`)) as { verify: Verify }).verify;
}

function createSender(t: Test, options: Partial<Parameters<typeof createCallbackSender>[0]> = {}) {
  const sender = createCallbackSender(options);
  t.teardown(() => sender.close());
  return sender;
}
const url = 'https://hooks.test/a';
const entryFor = (url: string, id = 'job-1:completed') => ({
  id,
  url,
  body: '{"job_id":"job-1","note":"größer"}',
});

void t.test('the body is the one of the contract', async (t) => {
  const build = createCallbackBuilder('http://receiver/', () => 5);
  t.same(
    build('failed', {
      jobId: 'j',
      assets: [],
      errorMessage: 'Invalid parameters: prompt',
      metadata: { error_type: 'InvalidParameters' },
    }),
    {
      id: 'j:failed',
      jobId: 'j',
      event: 'failed',
      url: 'http://receiver/',
      createdAtMs: 5,
      body: JSON.stringify({
        job_id: 'j',
        status: 'failed',
        assets: [],
        error_message: 'Invalid parameters: prompt',
        metadata: { error_type: 'InvalidParameters' },
      }),
    },
  );
  for (const [event, status] of [
    ['processing', 'processing'],
    ['progress', 'processing'],
    ['completed', 'completed'],
  ] as const) {
    t.match(JSON.parse(build(event, { jobId: 'j', assets: ['a'], metadata: {} })?.body ?? ''), {
      job_id: 'j',
      status,
      assets: ['a'],
      metadata: {},
    });
    t.notOk(build(event, { jobId: 'j', assets: [], metadata: {} })?.body.includes('error_message'));
  }
  t.equal(createCallbackBuilder(undefined)('completed', { jobId: 'j', assets: [], metadata: {} }), undefined);
});

void t.test('a signed delivery passes the documented verification, and only unchanged', async (t) => {
  const verify = await documentedVerify();
  const receiver = await startReceiver(t, (response) => {
    response.end('{}');
  });
  const entry = entryFor(receiver.url);
  t.same(await createSender(t, { credentials: () => ({ secret, serviceKey: 'ey.jwt.key' }) }).send(entry), {
    outcome: 'accepted',
  });
  const [received] = receiver.received;
  if (received === undefined) return void t.fail('nothing arrived');
  t.equal(received.body, entry.body, 'the exact bytes');
  t.match(received.headers, {
    'content-type': 'application/json',
    'webhook-id': 'job-1:completed',
    'idempotency-key': 'job-1:completed',
    authorization: 'Bearer ey.jwt.key',
  });
  t.ok(Math.abs(Number(received.headers['webhook-timestamp']) - Date.now() / 1000) < 5);
  t.equal(verify(received.headers, received.body, secret), true);
  t.equal(verify(received.headers, `${received.body} `, secret), false, 'another body');
  t.equal(
    verify({ ...received.headers, 'webhook-id': 'job-2:completed' }, received.body, secret),
    false,
    'another id',
  );
  t.equal(
    verify(
      { ...received.headers, 'webhook-timestamp': String(Number(received.headers['webhook-timestamp']) + 1) },
      received.body,
      secret,
    ),
    false,
    'another time',
  );
  t.equal(
    verify(received.headers, received.body, `whsec_${Buffer.alloc(32).toString('base64')}`),
    false,
    'another secret',
  );
  t.equal(
    verify({ ...received.headers, 'webhook-signature': undefined }, received.body, secret),
    false,
    'no signature',
  );
  const old = callbackHeaders({ ...entry, atMs: Date.now() - 3600_000 }, { secret, serviceKey: undefined });
  t.equal(verify(old, entry.body, secret), false, 'replayed an hour later');
  t.equal(verify(old, entry.body, secret, 7200), true);
});

void t.test('the signature is the one of the Standard Webhooks specification', async (t) => {
  // Test vector of the reference libraries.
  const headers = callbackHeaders(
    { id: 'msg_p5jXN8AQM9LWM0D4loKWxJek', url, body: '{"test": 2432232314}', atMs: 1_614_265_330_000 },
    { secret: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', serviceKey: undefined },
  );
  t.equal(headers['webhook-signature'], 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=');
});

void t.test('keys and secrets are sent only as they are meant', async (t) => {
  const entry = { id: 'a', url, body: '{}', atMs: 0 };
  const bare = callbackHeaders(entry, { secret: undefined, serviceKey: undefined });
  t.same(Object.keys(bare).sort(), [
    'content-type',
    'idempotency-key',
    'user-agent',
    'webhook-id',
    'webhook-timestamp',
  ]);
  const newKey = callbackHeaders(entry, { secret: undefined, serviceKey: 'sb_secret_x' });
  t.equal(newKey['apikey'], 'sb_secret_x');
  t.notOk('authorization' in newKey, 'a key that is no JWT is never a bearer token');
  const withPassword = { ...entry, url: 'https://name:pass%20word@hooks.test/a' };
  const { authorization, apikey } = callbackHeaders(withPassword, {
    secret: undefined,
    serviceKey: 'sb_secret_x',
  });
  t.equal(authorization, `Basic ${Buffer.from('name:pass word').toString('base64')}`);
  t.equal(apikey, undefined, 'who is known by a password there needs no key');
});

void t.test('whatever a producer calls its job, the id is a header, stable, and has no dot', async (t) => {
  const receiver = await startReceiver(t, (response) => {
    response.end();
  });
  const sender = createSender(t);
  const ids = ['größe 1', 'a\r\nx-injected: 1', 'v1.2', '\ud800', '💥', ':', '%', 'x'.repeat(200)];
  for (const id of ids)
    t.same(
      await sender.send(entryFor(receiver.url, `${id}:failed`)),
      { outcome: 'accepted' },
      JSON.stringify(id),
    );
  t.equal(new Set(receiver.received.map(({ headers }) => headers['webhook-id'])).size, ids.length);
  for (const { headers } of receiver.received) {
    t.notMatch(headers['webhook-id'], /\./);
    t.notOk('x-injected' in headers);
  }
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 50 }), (id) => {
      const headers = callbackHeaders({ id, url, body: '', atMs: 0 }, { secret, serviceKey: undefined });
      return (
        /^[\w:!~*'()%-]*$/.test(headers['webhook-id'] ?? '.') &&
        headers['webhook-id'] ===
          callbackHeaders({ id, url, body: 'x', atMs: 9 }, { secret, serviceKey: undefined })['webhook-id']
      );
    }),
  );
});

void t.test('what an answer means', async (t) => {
  const receiver = await startReceiver(t, (response, { url }) => {
    const status = Number(new URL(url, 'http://x').searchParams.get('status'));
    response
      .writeHead(status, { location: '/elsewhere' })
      .end(status === 204 ? undefined : `because of ${status}`);
  });
  const sender = createSender(t);
  const outcomeOf = async (status: number) => sender.send(entryFor(`${receiver.url}?status=${status}`));
  for (const status of [200, 201, 202, 204])
    t.same(await outcomeOf(status), { outcome: 'accepted' }, String(status));
  const again = [301, 302, 307, 308, 400, 408, 409, 413, 415, 422, 425, 429, 500, 502, 503, 504, 546];
  for (const status of again)
    t.same(await outcomeOf(status), { outcome: 'again', status, reason: `${status} because of ${status}` });
  t.same(await outcomeOf(410), { outcome: 'refused', reason: '410 because of 410' });
  t.match(await outcomeOf(401), { outcome: 'again', doubt: 'sender' });
  for (const status of [403, 404])
    t.match(await outcomeOf(status), { outcome: 'again', doubt: 'perhaps the job' });
  t.notOk(
    receiver.received.some(({ url }) => url === '/elsewhere'),
    'redirects are not followed',
  );
});

void t.test('a function that is not deployed is known by the words of its gateway', async (t) => {
  const receiver = await startReceiver(t, (response) => {
    response.writeHead(404).end('{"code":"NOT_FOUND","message":"Requested function was not found"}');
  });
  t.match(await createSender(t).send(entryFor(receiver.url)), { outcome: 'again', doubt: 'sender' });
});

void t.test('keys and signatures go to their own origin only', async (t) => {
  const [supabase, stranger] = await Promise.all(
    [0, 1].map(async () => startReceiver(t, (response) => void response.end())),
  );
  if (supabase === undefined || stranger === undefined) throw new Error('no receivers');
  const project = new URL(supabase.url).origin;
  const shared = { supabaseUrl: project, supabaseServiceKey: 'a.service.key', callbackSecret: secret };
  const callbacksTo = (callbackUrl: string | undefined) =>
    createSender(t, { credentials: createCredentials({ ...shared, callbackUrl }) });
  const seenBy = ({ received }: typeof supabase) => {
    const { authorization, apikey, ...headers } = received.at(-1)?.headers ?? {};
    return { authorization, apikey, signed: 'webhook-signature' in headers, agent: headers['user-agent'] };
  };
  const withKey = { authorization: 'Bearer a.service.key', apikey: 'a.service.key' };
  const without = { authorization: undefined, apikey: undefined };

  const toFunction = callbacksTo(undefined);
  await toFunction.send(entryFor(supabase.url));
  t.match(seenBy(supabase), { ...withKey, signed: true, agent: /^ourvidz-worker\// });
  await toFunction.send(entryFor(stranger.url));
  t.match(seenBy(stranger), { ...without, signed: false }, 'an older address, or the metrics endpoint');

  const toStranger = callbacksTo(stranger.url);
  await toStranger.send(entryFor(stranger.url));
  t.match(seenBy(stranger), { ...without, signed: true }, 'a receiver of the operator: signed, no key');
  await toStranger.send(entryFor(supabase.url));
  t.match(seenBy(supabase), { ...withKey, signed: false });
});

void t.test('Retry-After is honoured, in seconds or as a date, up to an hour', async (t) => {
  let header = '';
  const receiver = await startReceiver(t, (response) => {
    response.writeHead(429, { 'retry-after': header }).end();
  });
  const nowMs = Date.parse('2026-01-31T12:00:00Z');
  const sender = createSender(t, { now: () => nowMs });
  const waitFor = async (text: string) => {
    header = text;
    const delivery = await sender.send(entryFor(receiver.url));
    return delivery.outcome === 'again' ? delivery.afterMs : null;
  };
  t.equal(await waitFor('120'), 120_000);
  t.equal(await waitFor('Sat, 31 Jan 2026 12:05:00 GMT'), 300_000);
  t.equal(await waitFor('Sat, 31 Jan 2026 11:00:00 GMT'), 0);
  t.equal(await waitFor('-5'), 0);
  t.equal(await waitFor('99999999'), 3_600_000);
  t.equal(await waitFor('soon'), undefined);
});

void t.test('an endless or huge answer costs neither time nor memory', async (t) => {
  let status = 500;
  const receiver = await startReceiver(t, (response) => {
    response.writeHead(status);
    const flood = () => {
      while (!response.destroyed && response.write(Buffer.alloc(65_536, 'x')));
    };
    response.on('drain', flood);
    flood();
  });
  const sender = createSender(t, { timeoutMs: 5000 });
  const refused = await sender.send(entryFor(receiver.url));
  t.ok(refused.outcome === 'again' && refused.reason.length <= 510, 'quoted in part');
  status = 200;
  t.same(await sender.send(entryFor(receiver.url)), { outcome: 'accepted' }, 'the status decides');
});

void t.test('no answer is worth another try', async (t) => {
  const receiver = await startReceiver(t, (response, { url }) => {
    if (url.endsWith('reset')) response.socket?.destroy();
  });
  const sender = createSender(t, { timeoutMs: 200 });
  for (const url of [
    `${receiver.url}?silence`,
    `${receiver.url}?reset`,
    'http://127.0.0.1:1/',
    'http://no-such-host.invalid/',
  ]) {
    const delivery = await sender.send(entryFor(url));
    t.equal(delivery.outcome, 'again', url);
    t.ok(delivery.outcome === 'again' && delivery.reason.length > 3, JSON.stringify(delivery));
  }
});
