import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Writable } from 'node:stream';
import t from 'tap';
import { readConfig } from '../../src/config.js';
import { createLog } from '../../src/telemetry.js';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { build } from '../helpers/build.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { testEngineEntry, until } from '../engines/support.js';

t.test('a service with a public address and Supabase announces itself, and says when it goes', async (t) => {
  const received: Array<{ authorization: string | undefined; body: unknown }> = [];
  const supabase = createServer((request, response) => {
    let text = '';
    request
      .on('data', (chunk) => {
        text += String(chunk);
      })
      .on('end', () => {
        // the public address of this test is the same server
        if (request.url === '/health')
          return response.setHeader('content-type', 'application/json').end('{"status":"healthy"}');
        if (request.url === '/functions/v1/update-worker-url')
          received.push({ authorization: request.headers.authorization, body: JSON.parse(text) });
        return response.end('{}');
      });
  }).listen(0, '127.0.0.1');
  t.teardown(() => {
    supabase.close();
    supabase.closeAllConnections();
  });
  await once(supabase, 'listening');
  const url = `http://127.0.0.1:${(supabase.address() as AddressInfo).port}`;
  const { app } = await build(t, {
    env: {
      SUPABASE_URL: url,
      SUPABASE_SERVICE_KEY: 'service-key',
      WAN_WORKER_API_KEY: 'a-key-of-its-own',
      STORAGE: 'folder',
      PUBLIC_URL: url,
    },
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  await until('the announcement', () => received.length === 1);
  t.match(received[0], {
    authorization: 'Bearer service-key',
    body: { status: 'active', timestamp: /^\d{4}-/ },
  });
  t.match((received[0]?.body as { worker_url: string }).worker_url, url);
  await app.close();
  t.match(received[1], { body: { status: 'inactive' } });
});

t.test('the password in an address goes to that address, and is shown to nobody', async (t) => {
  const password = 'wort%2Fdes=tages';
  const authorizations: Array<string | undefined> = [];
  const receiver = createServer((request, response) => {
    authorizations.push(request.headers.authorization);
    request.resume().on('end', () => response.writeHead(410).end(`no http://name:${password}@here`));
  }).listen(0, '127.0.0.1');
  t.teardown(() => {
    receiver.close();
    receiver.closeAllConnections();
  });
  await once(receiver, 'listening');
  const host = `127.0.0.1:${(receiver.address() as AddressInfo).port}`;
  const env = {
    CALLBACK_URL: `http://name:${password}@${host}/hook`,
    MODELS_DIR: t.testdir({ sdxl: {} }),
    LOG_LEVEL: 'trace',
  };
  const lines: string[] = [];
  const log = createLog(
    readConfig(env),
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        lines.push(chunk.toString());
        done();
      },
    }),
  );
  const { call, services } = await build(t, {
    env,
    log,
    options: { engineEntry: testEngineEntry },
    start: true,
  });
  const { id, user_id: userId } = { ...goodPayloads.sdxl, id: randomUUID() };
  await services.store.push('sdxl_queue', JSON.stringify({ id, user_id: userId, type: 'nonsense' }));
  const dead = async () =>
    (await call('GET', '/callbacks')).json<{ dead: Array<{ url: string; last_error: string }> }>().dead;
  await until('the refusal', async () => (await dead()).length > 0);
  t.match(await dead(), [{ url: `http://***@${host}/hook`, last_error: '410 no http://***@here' }]);
  t.same(authorizations, [`Basic ${Buffer.from('name:wort/des=tages').toString('base64')}`]);
  const shown = [
    ...lines,
    ...(await Promise.all(
      ['/callbacks', '/dead-letters', '/worker/validate', '/metrics', '/capabilities'].map(
        async (url) => (await call('GET', url)).body,
      ),
    )),
  ].join('');
  for (const secret of [password, decodeURIComponent(password)]) t.notOk(shown.includes(secret), secret);
  t.match(shown, /callback refused for good/);
});

t.test('a callback that waits goes where CALLBACK_URL points by then, a dead one too, signed', async (t) => {
  const [old, corrected] = [await startCallbackReceiver(), await startCallbackReceiver()];
  t.teardown(() => Promise.all([old.close(), corrected.close()]));
  const { call, services } = await build(t, {
    env: { CALLBACK_URL: corrected.url, CALLBACK_SECRET: `whsec_${'a'.repeat(32)}` },
  });
  const [waiting, dead] = [randomUUID(), randomUUID()];
  for (const jobId of [waiting, dead]) {
    const event = 'completed' as const;
    const body = JSON.stringify({ job_id: jobId, status: event, assets: [], metadata: {} });
    const made = { id: `${jobId}:${event}`, jobId, event, url: old.url, body, createdAtMs: Date.now() };
    await services.store.outbox.add(made);
  }
  await services.store.outbox.deadLetter(`${dead}:completed`, '410 gone');
  await services.start();
  await corrected.waitForTerminal(waiting);
  t.equal((await call('POST', '/callbacks/retry', {})).statusCode, 200);
  const { headers } = (await corrected.waitForTerminal(dead), corrected.received.at(-1)) ?? {};
  t.match(headers, { 'webhook-signature': /^v1,/, 'webhook-id': `${dead}:completed` });
  t.same(old.received, [], 'nothing goes to the old address');
});
