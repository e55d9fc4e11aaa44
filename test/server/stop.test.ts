/** SIGTERM while everything outside holds on to the service: it ends in time, in order, and begins nothing more. */
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { cp, mkdir, truncate, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import { connect, type AddressInfo } from 'node:net';
import path from 'node:path';
import { ClassicLevel } from 'classic-level';
import t, { type Test } from 'tap';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { readAsset, sdxlPayload, submit, testUserId, waitForJob } from '../helpers/jobs.js';
import { openRedis, redisOrSkip } from '../helpers/redis.js';
import { startService, type ServiceProcess } from '../helpers/service-process.js';
import { onlyTinySdxl } from '../helpers/tiny-models.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(240_000);

const small = { width: 64, height: 64, num_images: 1 };
const long = { width: 1024, height: 1024, num_images: 6 };
/** More than any socket buffers. */
const largeBytes = 200 * 1024 * 1024;

async function start(t: Test, env: Record<string, string> = {}): Promise<ServiceProcess> {
  const service = await startService({ env: { MODELS_DIR: await onlyTinySdxl(t), ...env } });
  t.teardown(() => service.cleanUp());
  return service;
}

/** Connections of clients that never finish: one reads nothing of a large file, others send half of something. */
async function holdOn(t: Test, service: ServiceProcess): Promise<void> {
  const folder = path.join('sdxl_image_fast', testUserId, randomUUID());
  const file = path.join(service.dataDir, 'assets', folder, '0.png');
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, '');
  await truncate(file, largeBytes);
  const head = (line: string) =>
    `${line} HTTP/1.1\r\nhost: worker\r\nauthorization: Bearer ${service.apiKey}\r\n`;
  const open = async (text: string) => {
    const socket = connect(service.port, '127.0.0.1');
    t.teardown(() => socket.destroy());
    socket.on('error', () => {});
    await once(socket, 'connect');
    socket.write(text);
    return socket;
  };
  const reader = await open(`${head(`GET /assets/${folder}/0.png`)}\r\n`);
  const [answer] = (await once(reader, 'data')) as [Buffer];
  t.match(answer.toString('latin1'), /^HTTP\/1\.1 200 /);
  reader.pause();
  await open(`${head('POST /jobs')}content-type: application/json\r\ncontent-length: 1000\r\n\r\n{"type":`);
  await open('GET /health HTTP/1.1\r\nhost: wor');
  await open('');
  // An answer on a connection of its own: the service has seen those before it.
  t.equal((await service.get('/health')).status, 200);
}

/** A receiver that takes everything and answers nothing. */
async function startSilentServer(t: Test): Promise<string> {
  const server = createServer((request) => request.resume()).listen(0, '127.0.0.1');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}

/** Seconds until it had ended by itself, in order. */
async function terminate(t: Test, service: ServiceProcess): Promise<number> {
  const sinceMs = performance.now();
  t.same(await service.kill('SIGTERM'), { code: 0, signal: null }, service.logs().slice(-5).join('\n'));
  return (performance.now() - sinceMs) / 1000;
}

const indexOfLog = (service: ServiceProcess, message: string) =>
  service.logs().findLastIndex((line) => line.includes(`"msg":"${message}"`));

t.test(
  'with jobs: no other one begins, none loses an attempt, and the grace is the end of waiting',
  async (t) => {
    const silent = await startSilentServer(t);
    const service = await start(t, {
      SHUTDOWN_GRACE_SECONDS: '3',
      CALLBACK_URL: `${silent}/callback`,
      METRICS_URL: `${silent}/metrics`,
    });
    const running = await submit(service, sdxlPayload({ config: long }));
    const waiting: string[] = [];
    for (let index = 0; index < 10; index += 1)
      waiting.push(await submit(service, sdxlPayload({ config: small })));
    await waitForJob(service, running, (job) => job.status === 'processing');
    await holdOn(t, service);
    const seconds = await terminate(t, service);
    t.ok(seconds < 3 + 12, `it took ${seconds} s`);
    t.ok(
      indexOfLog(service, 'stopping') > indexOfLog(service, 'job begun'),
      'none was begun after the signal',
    );

    await service.restart();
    await service.send('DELETE', `/jobs/${running}`);
    for (const id of waiting) t.match(await waitForJob(service, id), { status: 'completed', attempts: 1 });
    t.match(await waitForJob(service, running), { status: 'cancelled' });
  },
);

t.test('without jobs: a few seconds for those who read, whatever the grace', async (t) => {
  const service = await start(t, { SHUTDOWN_GRACE_SECONDS: '60' });
  await holdOn(t, service);
  const seconds = await terminate(t, service);
  t.ok(seconds < 20, `it took ${seconds} s`);
});

t.test('a request whose end comes late is told why nothing is done', async (t) => {
  const service = await start(t);
  const late = [
    ['/jobs', JSON.stringify(sdxlPayload({ config: small }))],
    ['/callbacks/retry', '{}'],
    ['/enhance', '{"prompt":"x"}'],
  ] as const;
  const sockets = await Promise.all(
    late.map(async ([route, body]) => {
      const socket = connect(service.port, '127.0.0.1');
      t.teardown(() => socket.destroy());
      await once(socket, 'connect');
      const lines = [
        `POST ${route} HTTP/1.1`,
        'host: worker',
        `authorization: Bearer ${service.apiKey}`,
        'content-type: application/json',
        `content-length: ${body.length}`,
      ];
      socket.write(`${lines.join('\r\n')}\r\n\r\n${body.slice(0, 1)}`);
      return { route, socket, rest: body.slice(1) };
    }),
  );
  t.equal((await service.get('/health')).status, 200, 'it has seen them all');
  const ended = service.kill('SIGTERM');
  // Its lock is free as soon as the queue is closed.
  await waitFor(
    async () => {
      const level = new ClassicLevel(path.join(service.dataDir, 'queue'));
      return level.open().then(
        async () => {
          await level.close();
          return true;
        },
        () => false,
      );
    },
    { what: 'the end of the queue', timeoutMs: 30_000 },
  );
  for (const { route, socket, rest } of sockets) {
    socket.write(rest);
    const [answer] = (await once(socket, 'data')) as [Buffer];
    t.match(answer.toString(), /^HTTP\/1\.1 503 /, route);
  }
  t.same(await ended, { code: 0, signal: null });
  t.notMatch(service.logs().join('\n'), /not open/);
});

t.test('as soon as it listens', async (t) => {
  const service = await startService({ env: { MODELS_DIR: await onlyTinySdxl(t) }, until: 'none' });
  t.teardown(() => service.cleanUp());
  await waitFor(() => service.logs().some((line) => line.includes('Server listening')), {
    what: 'the address',
    timeoutMs: 60_000,
  });
  const seconds = await terminate(t, service);
  t.ok(seconds < 20, `it took ${seconds} s`);
});

t.test('while the orchestrator does not take its goodbye', async (t) => {
  const statuses: string[] = [];
  const orchestrator = createServer((request, response) => {
    let body = '';
    request.on('data', (chunk) => (body += String(chunk)));
    request.on('end', () => {
      // The clock is compared with what stands at this address, too.
      if (request.method !== 'POST') return void response.end();
      const { status } = JSON.parse(body) as { status: string };
      statuses.push(status);
      response.writeHead(200);
      if (status === 'inactive') response.write('{');
      else response.end('{}');
    });
  }).listen(0, '127.0.0.1');
  t.teardown(() => {
    orchestrator.closeAllConnections();
    orchestrator.close();
  });
  await once(orchestrator, 'listening');
  const addressFile = path.join(t.testdir({}), 'address');
  const service = await start(t, {
    SUPABASE_URL: `http://127.0.0.1:${(orchestrator.address() as AddressInfo).port}`,
    SUPABASE_SERVICE_KEY: 'key-of-this-test',
    STORAGE: 'folder',
    PUBLIC_URL_FILE: addressFile,
    ALLOW_POCKET_MODELS: 'on',
  });
  await writeFile(addressFile, service.baseUrl);
  await waitFor(() => statuses.includes('active'), { what: 'its registration', timeoutMs: 30_000 });
  const seconds = await terminate(t, service);
  t.same(statuses, ['active', 'inactive']);
  t.ok(seconds < 8, `it took ${seconds} s`);
});

if (redisOrSkip(t))
  await t.test(
    'while Redis does not answer: what ran is taken back when its lease has run out',
    async (t) => {
      const { server, redis } = await openRedis(t);
      const service = await start(t, {
        REDIS_URL: server.url,
        SHUTDOWN_GRACE_SECONDS: '2',
        LEASE_SECONDS: '2',
      });
      const payload = sdxlPayload({ config: long });
      await redis.lpush('sdxl_queue', JSON.stringify(payload));
      await waitForJob(service, payload.id, (job) => job.status === 'processing');
      await redis.call('CLIENT', 'PAUSE', '20000', 'ALL');
      const seconds = await terminate(t, service);
      t.ok(seconds < 2 + 15, `it took ${seconds} s`);
      await redis.call('CLIENT', 'UNPAUSE');
      await service.restart();
      await waitForJob(service, payload.id, (job) => job.status === 'processing' && job.attempts === 2);
    },
  );

t.test('a copy of the folder, made after the stop, goes on where it ended', async (t) => {
  const receiver = await startCallbackReceiver();
  t.teardown(() => receiver.close());
  const service = await start(t, { CALLBACK_URL: receiver.url });
  const finished = await submit(service, sdxlPayload({ config: small }));
  const { assets } = await waitForJob(service, finished);
  t.equal((await service.send('POST', '/queues/sdxl_queue/pause', { reason: 'backup' })).status, 200);
  const waiting = await Promise.all([1, 2, 3].map(() => submit(service, sdxlPayload({ config: small }))));
  await receiver.waitForTerminal(finished);
  await terminate(t, service);

  const dataDir = path.join(t.testdir({}), 'restored');
  await cp(service.dataDir, dataDir, { recursive: true });
  const restored = await startService({
    dataDir,
    env: { MODELS_DIR: await onlyTinySdxl(t), CALLBACK_URL: receiver.url, ALLOW_POCKET_MODELS: 'on' },
  });
  t.teardown(() => restored.cleanUp());
  t.match(await waitForJob(restored, finished), { status: 'completed', assets });
  for (const asset of assets) t.ok((await readAsset(restored, asset)).length > 100);
  for (const id of waiting) t.match(await restored.getJson(`/jobs/${id}`), { status: 'queued' });
  t.equal((await restored.send('POST', '/queues/sdxl_queue/resume')).status, 200, 'paused there, too');
  for (const id of waiting)
    t.match(await waitForJob(restored, id), { status: 'completed', attempts: 1, assets: { length: 1 } });
  for (const id of [finished, ...waiting]) {
    await receiver.waitForTerminal(id);
    const statuses = receiver.accepted(id).map(({ body }) => body.status);
    t.same(
      statuses.filter((status) => status !== 'processing'),
      ['completed'],
      'told once',
    );
  }
});
