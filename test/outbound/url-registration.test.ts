import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { createUrlRegistration, runpodUrl } from '../../src/services/outbound/url-registration.js';

interface Received {
  url: string;
  authorization: string | undefined;
  apikey: unknown;
  body: { worker_url: string; timestamp: string; status: string };
}

async function createOrchestrator(t: Test) {
  const state = { healthStatus: 'healthy', accept: true, healthChecks: 0, healthPaths: [] as string[] };
  const received: Received[] = [];
  const server = createServer((request, response) => {
    if (request.url === '/health' || request.url === '/behind/a/proxy/health') {
      state.healthPaths.push(request.url);
      state.healthChecks += 1;
      response
        .setHeader('content-type', 'application/json')
        .end(JSON.stringify({ status: state.healthStatus }));
      return;
    }
    const chunks: Buffer[] = [];
    request
      .on('data', (chunk: Buffer) => chunks.push(chunk))
      .on('end', () => {
        received.push({
          url: request.url ?? '',
          authorization: request.headers.authorization,
          apikey: request.headers['apikey'],
          body: JSON.parse(Buffer.concat(chunks).toString()) as Received['body'],
        });
        response.statusCode = state.accept ? 200 : 403;
        response.end('{}');
      });
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { state, received, origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}` };
}

function createLog() {
  const lines: Array<{ level: string; message: string }> = [];
  const at = (level: string) => (_fields: object, message: string) => {
    lines.push({ level, message });
  };
  return { lines, log: { info: at('info'), warn: at('warn'), error: at('error') } };
}

async function until(condition: () => boolean): Promise<void> {
  for (let turn = 0; turn < 400; turn += 1) {
    if (condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  throw new Error('the condition did not come true within 2 s');
}

t.test("the address of a pod is RunPod's proxy at port 7860", async (t) => {
  t.equal(runpodUrl('abc123'), 'https://abc123-7860.proxy.runpod.net/');
});

t.test('a healthy worker registers, again every period, and says inactive at the end', async (t) => {
  const orchestrator = await createOrchestrator(t);
  const { log } = createLog();
  const registration = createUrlRegistration({
    podId: 'pod',
    publicUrl: `${orchestrator.origin}/`,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'service-key',
    log,
    periodMs: 20,
  });
  registration.start();
  await until(() => orchestrator.received.length >= 3);
  t.equal(registration.state(), 'registered');
  await registration.stop();
  const [first] = orchestrator.received;
  t.match(first, {
    url: '/functions/v1/update-worker-url',
    authorization: 'Bearer service-key',
    body: { worker_url: `${orchestrator.origin}/`, status: 'active' },
  });
  t.ok(Number.isFinite(Date.parse(first?.body.timestamp ?? '')), 'timestamp is a date');
  t.equal(orchestrator.received.at(-1)?.body.status, 'inactive');
  const sent = orchestrator.received.length;
  await new Promise((resolve) => setTimeout(resolve, 60));
  t.equal(orchestrator.received.length, sent, 'silent after stop');
});

t.test("one of Supabase's new keys is sent as such, never as a bearer token", async (t) => {
  const orchestrator = await createOrchestrator(t);
  const registration = createUrlRegistration({
    podId: 'pod',
    publicUrl: `${orchestrator.origin}/`,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'sb_secret_of-this-test',
    log: createLog().log,
  });
  registration.start();
  await until(() => orchestrator.received.length > 0);
  await registration.stop();
  t.match(orchestrator.received[0], { authorization: undefined, apikey: 'sb_secret_of-this-test' });
});

t.test('no pod id: one warning; no credentials: one error; nothing is sent', async (t) => {
  const orchestrator = await createOrchestrator(t);
  const noPod = createLog();
  const first = createUrlRegistration({
    podId: undefined,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'k',
    log: noPod.log,
  });
  first.start();
  await first.stop();
  t.same(
    noPod.lines.map(({ level }) => level),
    ['warn'],
  );
  const noKey = createLog();
  const second = createUrlRegistration({
    podId: 'pod',
    supabaseUrl: orchestrator.origin,
    serviceKey: undefined,
    log: noKey.log,
  });
  second.start();
  await second.stop();
  t.same(
    noKey.lines.map(({ level }) => level),
    ['error'],
  );
  t.equal(second.state(), 'disabled');
  t.same(orchestrator.received, []);
});

t.test('unhealthy: skipped until it works again, if only in part', async (t) => {
  const orchestrator = await createOrchestrator(t);
  orchestrator.state.healthStatus = 'unhealthy';
  const { log } = createLog();
  const registration = createUrlRegistration({
    podId: 'pod',
    publicUrl: orchestrator.origin,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'k',
    log,
    periodMs: 10,
  });
  registration.start();
  await until(() => orchestrator.state.healthChecks >= 3);
  t.equal(registration.state(), 'unhealthy');
  t.same(orchestrator.received, []);
  orchestrator.state.healthStatus = 'degraded';
  await until(() => orchestrator.received.length >= 1);
  await registration.stop();
  t.equal(orchestrator.received[0]?.body.status, 'active');
});

t.test('refused: logged, tried again, and no goodbye for what was never announced', async (t) => {
  const orchestrator = await createOrchestrator(t);
  orchestrator.state.accept = false;
  const { log, lines } = createLog();
  const registration = createUrlRegistration({
    podId: 'pod',
    publicUrl: orchestrator.origin,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'k',
    log,
    periodMs: 10,
  });
  registration.start();
  await until(() => orchestrator.received.length >= 2);
  t.equal(registration.state(), 'refused');
  await registration.stop();
  t.ok(lines.some(({ level, message }) => level === 'error' && message.includes('not accepted')));
  t.notOk(orchestrator.received.some(({ body }) => body.status === 'inactive'));
});

t.test('a new address is registered at once', async (t) => {
  const orchestrator = await createOrchestrator(t);
  const { log } = createLog();
  const registration = createUrlRegistration({
    podId: 'pod',
    publicUrl: `${orchestrator.origin}/`,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'k',
    log,
    periodMs: 3_600_000,
  });
  registration.start();
  await until(() => registration.state() === 'registered');
  registration.setUrl(`${orchestrator.origin}/?moved`);
  await until(() => orchestrator.received.length === 2);
  t.equal(orchestrator.received[1]?.body.worker_url, `${orchestrator.origin}/?moved`);
  await registration.stop();
});

t.test('an address that changes while the last one is being registered is registered as well', async (t) => {
  const orchestrator = await createOrchestrator(t);
  const { log } = createLog();
  const registration = createUrlRegistration({
    podId: 'pod',
    publicUrl: `${orchestrator.origin}/`,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'k',
    log,
    periodMs: 3_600_000,
  });
  registration.start();
  registration.setUrl(`${orchestrator.origin}/?moved`);
  await until(() => orchestrator.received.some(({ body }) => body.worker_url.endsWith('?moved')));
  await registration.stop();
  t.match(orchestrator.received.at(-1)?.body, {
    worker_url: `${orchestrator.origin}/?moved`,
    status: 'inactive',
  });
});

t.test('the address of a file: waited for, followed, nonsense in it ignored', async (t) => {
  const orchestrator = await createOrchestrator(t);
  const { log, lines } = createLog();
  const urlFile = path.join(t.testdir({}), 'address');
  const registration = createUrlRegistration({
    podId: undefined,
    urlFile,
    urlFileIntervalMs: 10,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'k',
    log,
    periodMs: 3_600_000,
  });
  registration.start();
  await writeFile(urlFile, 'no address yet\n');
  await new Promise((resolve) => setTimeout(resolve, 40));
  t.same([orchestrator.received, lines], [[], []]);
  for (const [index, url] of [
    `${orchestrator.origin}/?one`,
    `${orchestrator.origin}/?number-two`,
  ].entries()) {
    await writeFile(urlFile, `${url}\n`);
    await until(() => orchestrator.received.length === index + 1);
    t.equal(orchestrator.received[index]?.body.worker_url, url);
  }
  await registration.stop();
  t.equal(orchestrator.received.length, 3, 'and inactive');
});

t.test('the period is spread at random, so that a fleet does not register in step', async (t) => {
  const orchestrator = await createOrchestrator(t);
  const { log } = createLog();
  const draws = [0, 0, 0.5];
  // All of the period taken away twice, nothing the third time.
  const registration = createUrlRegistration({
    podId: 'pod',
    publicUrl: orchestrator.origin,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'k',
    log,
    periodMs: 3_600_000,
    jitter: 1,
    random: () => draws.shift() ?? 0.5,
  });
  registration.start();
  await until(() => orchestrator.received.length === 3);
  await new Promise((resolve) => setTimeout(resolve, 50));
  t.equal(orchestrator.received.length, 3);
  await registration.stop();
});

t.test('an address with a path of its own: its health is looked for below that', async (t) => {
  const orchestrator = await createOrchestrator(t);
  const { log } = createLog();
  const registration = createUrlRegistration({
    podId: undefined,
    publicUrl: `${orchestrator.origin}/behind/a/proxy`,
    supabaseUrl: orchestrator.origin,
    serviceKey: 'k',
    log,
  });
  registration.start();
  await until(() => orchestrator.received.length === 1);
  t.same(orchestrator.state.healthPaths, ['/behind/a/proxy/health']);
  await registration.stop();
});

t.test('a Supabase address with a path of its own: the function is called below that', async (t) => {
  const orchestrator = await createOrchestrator(t);
  for (const supabaseUrl of [`${orchestrator.origin}/supabase`, `${orchestrator.origin}/supabase/`]) {
    const { log } = createLog();
    const registration = createUrlRegistration({
      podId: undefined,
      publicUrl: orchestrator.origin,
      supabaseUrl,
      serviceKey: 'k',
      log,
    });
    registration.start();
    await until(() => registration.state() === 'registered');
    await registration.stop();
  }
  t.same(
    [...new Set(orchestrator.received.map(({ url }) => url))],
    ['/supabase/functions/v1/update-worker-url'],
  );
});

t.test('an answer that never ends is neither read to its end nor waited for', async (t) => {
  const server = createServer((request, response) => {
    response.on('error', () => {});
    request.resume();
    if (request.url === '/health') {
      const timer = setInterval(() => response.write(' '), 20);
      response.on('close', () => clearInterval(timer));
    } else {
      const flood = () => {
        while (!response.destroyed && response.write(Buffer.alloc(65_536, 'x')));
      };
      response.on('drain', flood);
      flood();
    }
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const { log, lines } = createLog();
  const common = { podId: undefined, supabaseUrl: origin, serviceKey: 'key', log, timeoutMs: 200 };
  const dripping = createUrlRegistration({ ...common, publicUrl: `${origin}/` });
  dripping.start();
  await until(() => dripping.state() === 'unhealthy');
  await dripping.stop();
  const orchestrator = await createOrchestrator(t);
  const flooded = createUrlRegistration({ ...common, publicUrl: `${orchestrator.origin}/` });
  flooded.start();
  await until(() => flooded.state() === 'registered');
  await flooded.stop();
  t.same(
    lines.map(({ level }) => level),
    ['warn', 'info'],
  );
});
