/** What picture servers send meets the real service through its door, and harms nobody but the job that asked for it. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { type AddressInfo, createServer } from 'node:net';
import path from 'node:path';
import sharp from 'sharp';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { startService } from '../helpers/service-process.js';
import { onlyTinySdxl } from '../helpers/tiny-models.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(240_000);

interface Job {
  id: string;
  status: string;
  error_message?: string;
}

/** Answers in raw bytes: a picture of 70 KB as any web server sends it, or a byte a second. */
async function startPictureServer(tap: Pick<Test, 'teardown'>) {
  const noise = { raw: { width: 152, height: 152, channels: 3 } } as const;
  const picture = await sharp(randomBytes(152 * 152 * 3), noise)
    .png()
    .toBuffer();
  const server = createServer((socket) => {
    socket.on('error', () => {});
    socket.once('data', (head) => {
      const [, path] = head.toString().split(' ');
      const begin = `HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: ${picture.length}\r\n\r\n`;
      if (path === '/picture') return void socket.end(Buffer.concat([Buffer.from(begin), picture]));
      socket.write(begin);
      const timer = setInterval(() => socket.write('x'), 1000);
      socket.on('close', () => clearInterval(timer));
    });
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  tap.teardown(() => server.close());
  return { port: (server.address() as AddressInfo).port, bytes: picture.length };
}

t.test('a picture beyond one buffer, and servers that send a byte a second', async (t) => {
  const { port, bytes } = await startPictureServer(t);
  t.ok(bytes > 65_536, `${bytes} bytes`);
  const service = await startService({
    env: {
      MODELS_DIR: await onlyTinySdxl(t),
      REFERENCE_ALLOWED_HOSTS: `127.0.0.1:${port},localhost:${port}`,
    },
  });
  t.teardown(() => service.cleanUp());
  const pid = service.pid();
  const submit = async (reference?: string) => {
    const metadata = reference === undefined ? {} : { reference_image_url: reference };
    const user = '5d3d1a0e-3c5f-4c57-9a57-7a2f6f8f2b11';
    const job = { type: 'sdxl_image_fast', prompt: 'a red circle', user_id: user, metadata };
    return ((await (await service.send('POST', '/jobs', job)).json()) as Job).id;
  };
  const get = async (id: string) => (await service.getJson(`/jobs/${id}`)) as Job;
  const ended = (id: string) =>
    waitFor(
      async () => {
        const job = await get(id);
        return ['completed', 'failed'].includes(job.status) && job;
      },
      { what: () => `the end of ${id}`, timeoutMs: 60_000 },
    );
  t.match(await ended(await submit(`http://127.0.0.1:${port}/picture`)), { status: 'completed' });

  const quietMs = performance.now();
  t.match(await ended(await submit()), { status: 'completed' });
  const quiet = performance.now() - quietMs;
  const slow = [];
  for (let count = 0; count < 3; count += 1) slow.push(await submit(`http://127.0.0.1:${port}/drip`));
  const sinceMs = performance.now();
  t.match(await ended(await submit()), { status: 'completed' });
  const behind = performance.now() - sinceMs;
  t.comment(`a plain job: ${Math.round(quiet)} ms, behind three slow servers ${Math.round(behind)} ms`);
  t.ok(behind < 20_000, 'a plain job does not wait for their end');
  t.match(
    await ended(await submit(`http://localhost:${port}/picture`)),
    { status: 'completed' },
    'nor does one whose picture comes from elsewhere',
  );
  for (const id of slow) t.match(await get(id), { status: 'processing' });
  t.equal(service.pid(), pid);
  t.equal((await service.get('/health')).status, 200);
  for (const id of slow) await service.send('DELETE', `/jobs/${id}`);
});

t.test('every recorded case comes in over HTTP and ends as it should', async (t) => {
  const { port } = await startPictureServer(t);
  const service = await startService({
    env: { MODELS_DIR: await onlyTinySdxl(t), REFERENCE_ALLOWED_HOSTS: `127.0.0.1:${port}` },
  });
  t.teardown(() => service.cleanUp());
  const folder = path.join(projectRoot(), 'test/fixtures/payloads');
  const refused = ['nan.payload', 'raw-newline.payload'];
  const drawn = ['bom.payload', 'reference-over-64-kib.job.json', 'uppercase-id.payload'];
  t.same(readdirSync(folder).sort(), [...refused, ...drawn].sort(), 'each of them is tried');
  const post = async (name: string) => {
    const bytes = readFileSync(path.join(folder, name));
    const here = bytes.includes('http://127.0.0.1:18080/a.png')
      ? bytes.toString().replace('18080/a.png', `${port}/picture`)
      : bytes;
    return fetch(`${service.baseUrl}/jobs`, {
      method: 'POST',
      headers: { authorization: `Bearer ${service.apiKey}`, 'content-type': 'application/json' },
      body: here,
    });
  };
  for (const name of refused) {
    const answer = await post(name);
    t.equal(answer.status, 400, name);
    t.match(await answer.json(), { code: 'INVALID_JSON' });
  }
  for (const name of drawn) {
    const answer = await post(name);
    t.equal(answer.status, 202, name);
    const { id } = (await answer.json()) as Job;
    await waitFor(async () => ((await service.getJson(`/jobs/${id}`)) as Job).status === 'completed', {
      what: `the picture of ${name}`,
      timeoutMs: 60_000,
    });
  }
});
