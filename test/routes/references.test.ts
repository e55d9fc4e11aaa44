import { randomUUID } from 'node:crypto';
import { request as httpRequest } from 'node:http';
import type { AddressInfo } from 'node:net';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { brotliCompressSync, deflateSync, gzipSync, zstdCompressSync } from 'node:zlib';
import sharp from 'sharp';
import t, { type Test } from 'tap';
import { createClient } from '../../client/index.js';
import { projectRoot } from '../../src/lib/project.js';
import { createReferenceFetcher } from '../../src/services/references/fetcher.js';
import { createReferenceUploads } from '../../src/services/references/uploads.js';
import { createFolderStorage } from '../../src/services/storage/folder.js';
import { silentLog } from '../engines/support.js';
import { createContractChecker } from '../helpers/assert-contract.js';
import { build, testApiKey } from '../helpers/build.js';
import { failureOf, noStorage, signal, startServer, temporaryFolder } from '../references/support.js';

const [ana, bob] = ['0a0a0a0a-0000-4000-8000-000000000001', '0b0b0b0b-0000-4000-8000-000000000002'];
const picture = (width = 96, height = 64) =>
  sharp({ create: { width, height, channels: 3, background: '#ff0000' } })
    .jpeg()
    .toBuffer();

async function open(t: Test, env: Record<string, string> = {}) {
  const checker = createContractChecker();
  const { app, call, config, services } = await build(t, {
    env: { MODELS_DIR: path.join(projectRoot(), 'test/parity/models'), ...env },
    start: true,
  });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  const post = async (parts: Array<[string, string | Buffer]>, key = testApiKey) => {
    const form = new FormData();
    for (const [name, value] of parts)
      form.append(name, typeof value === 'string' ? value : new Blob([new Uint8Array(value)]));
    const headers = { authorization: `Bearer ${key}` };
    const response = await fetch(`${url}/references`, { method: 'POST', headers, body: form });
    const payload = await response.text();
    const seen = { statusCode: response.status, headers: Object.fromEntries(response.headers), payload };
    t.same(checker.check('POST', '/references', seen), [], 'the answer keeps the contract');
    return { status: response.status, body: JSON.parse(payload) as Record<string, unknown> };
  };
  const token = async (userId: string) =>
    (await call('POST', '/tokens', { user_id: userId, scopes: ['jobs'] })).json<{ token: string }>().token;
  return { call, url, post, token, config, services, client: createClient({ url, key: testApiKey }) };
}
t.setTimeout(240_000);
const config = { num_images: 1 as const, seed: 7, width: 64, height: 64 };
const sdxl = (userId: string, reference: string) => ({
  type: 'sdxl_image_fast' as const,
  prompt: 'a red circle',
  user_id: userId,
  config,
  metadata: { reference_image_url: reference, reference_strength: 0.5 },
});

t.test("an upload becomes a reference of its user's jobs, and of nobody else's", async (t) => {
  const { client, post, token, call, config: settings, services } = await open(t);
  const stored = await client.uploadReference(new Blob([new Uint8Array(await picture())]), { userId: ana });
  t.match(stored, { width: 96, height: 64, reference: new RegExp(`^reference_images/uploads/${ana}/\\d+-`) });
  t.ok(Date.parse(stored.expires_at) > Date.now() + 86_000_000);
  const { id } = await client.createJob({ body: sdxl(ana, stored.reference) });
  t.match(await client.finishedJob(id), { status: 'completed', metadata: { reference_mode: String } });
  const field = 'metadata.reference_image_url';
  const theirs = `${field} names a file of another user`;
  t.match(
    await client.createJob({ body: sdxl(bob, stored.reference) }).catch((error: unknown) => error),
    { status: 400, details: [{ field, rule: 'owner', message: theirs }] },
    'over HTTP it is no job at all',
  );
  const pushed = randomUUID();
  await services.store.push('sdxl_queue', JSON.stringify({ ...sdxl(bob, stored.reference), id: pushed }));
  t.match(await client.finishedJob(pushed), {
    status: 'failed',
    error_message: `Invalid parameters: ${theirs}`,
  });
  const hers = await post([['file', await picture()]], await token(ana));
  t.match(
    hers,
    { status: 201, body: { reference: new RegExp(`/uploads/${ana}/`) } },
    'a token says whose it is',
  );
  const empty: Array<[string, string | Buffer]> = [
    ['user_id', ''],
    ['file', await picture()],
  ];
  t.match(await post(empty, await token(ana)), { status: 201 }, 'an empty one is none');
  t.match(await post(empty), { status: 400, body: { message: /user_id is missing/ } });
  t.match(
    await post(
      [
        ['user_id', bob],
        ['file', await picture()],
      ],
      await token(ana),
    ),
    { status: 403 },
  );
  const asset = `/assets/${stored.reference}`;
  t.equal(
    (await call('GET', `${asset}?token=${await token(bob)}`, undefined, { authorization: '' })).statusCode,
    401,
  );
  const left = readdirSync(path.join(settings.dataDir, 'work')).filter((name) => name.startsWith('upload'));
  t.same(left, [], 'nothing is left of the files as they came');
});

t.test('the picture of one job goes into the next, by its number, its path or its address', async (t) => {
  const { client, config: settings } = await open(t);
  const first = await client.createJob({ body: { ...sdxl(ana, ''), metadata: {} } });
  const { assets, metadata } = await client.finishedJob(first.id);
  t.same(metadata['asset_paths'], [`sdxl_image_fast/${ana}/${first.id}/0.png`]);
  const references = [
    `asset:${first.id.toUpperCase()}/0`,
    String((metadata['asset_paths'] as string[])[0]),
    assets[0] ?? '',
    `http://localhost:${settings.port}${assets[0]}`,
    `HTTP://127.0.0.1:${settings.port}${assets[0]}?token=x`,
  ];
  for (const reference of references) {
    const next = await client.createJob({ body: sdxl(ana, reference) });
    t.match(await client.finishedJob(next.id), { status: 'completed' }, reference);
    t.match(await client.createJob({ body: sdxl(bob, reference) }).catch((error: unknown) => error), {
      status: 400,
      message: /(another|this) user/,
    });
  }
  for (const asset of [`asset:${first.id}/1`, `asset:${randomUUID()}/0`])
    t.match(await client.createJob({ body: sdxl(ana, asset) }).catch((error: unknown) => error), {
      status: 400,
      message: /names an asset that this user has not/,
    });
  const chain = [await client.createJob({ body: { ...sdxl(ana, ''), metadata: {} } })];
  for (let length = 0; length < 2; length += 1)
    chain.push(await client.createJob({ body: sdxl(ana, `asset:${chain.at(-1)?.id}/0`) }));
  t.match(
    await client.finishedJob(chain.at(-1)?.id ?? ''),
    { status: String },
    'one whose job has not ended yet may be named',
  );
  for (const wrong of ['picture.png', 'ftp', `https://a/${'b'.repeat(2048)}`, ' https://a.example/b.png'])
    t.match(await client.createJob({ body: sdxl(ana, wrong) }).catch((error: unknown) => error), {
      status: 400,
      details: [
        {
          field: 'metadata.reference_image_url',
          rule: 'format',
          message: /must be an https address.*asset:/,
        },
      ],
    });
});

t.test('a data: address as any program writes it; what is wrong with one is said at once', async (t) => {
  const { client } = await open(t);
  const jpeg = await picture();
  const base64 = jpeg.toString('base64');
  const lines = (end: string) => base64.replace(/.{1,76}/g, `$&${end}`);
  const percent = Array.from(jpeg, (byte) => `%${byte.toString(16).padStart(2, '0')}`).join('');
  for (const [what, url] of Object.entries({
    'one line': `data:image/jpeg;base64,${base64}`,
    'as Python encodebytes': `data:image/jpeg;base64,${lines('\n')}`,
    'as base64 on Windows': `\r\n  data:image/jpeg;base64,${lines('\r\n')}`,
    'for addresses': `DATA:image/jpeg; base64,${base64.replaceAll('+', '-').replaceAll('/', '_')}`,
    'base64 in percents': `data:image/jpeg;base64,${encodeURIComponent(base64)}`,
    'bytes in percents': `data:image/jpeg,${percent}`,
  })) {
    const { id } = await client.createJob({ body: sdxl(ana, url) });
    t.match(await client.finishedJob(id), { status: 'completed', attempts: 1 }, what);
  }
  const field = 'metadata.reference_image_url';
  for (const [url, message] of [
    ['data:image/jpeg;base64', `${field} must have a comma in front of the data`],
    [`data:image/jpeg;base64,{${base64}}`, `${field} has characters that are not base64`],
  ] as const)
    t.match(await client.createJob({ body: sdxl(ana, url) }).catch((error: unknown) => error), {
      status: 400,
      details: [{ field, rule: 'url', message: new RegExp(`^${message}`) }],
    });
  for (const url of ['data:image/png,%zz', 'data:image/png,%89PNG%0D%0A%1A%0A', 'data:image/png,%C3%28é']) {
    const { id } = await client.createJob({ body: sdxl(ana, url) });
    const error_message = new RegExp(`^Invalid parameters: ${field} `);
    t.match(await client.finishedJob(id), { status: 'failed', attempts: 1, error_message }, url);
  }
});

t.test('what cannot be taken is refused in words, and the service goes on', async (t) => {
  const { post, url, client } = await open(t);
  const jpeg = await picture();
  for (const [parts, status, message] of [
    [[['user_id', ana]], 400, /file is missing/],
    [[['file', jpeg]], 400, /user_id is missing/],
    [
      [
        ['file', jpeg],
        ['user_id', ana],
      ],
      400,
      /user_id is missing; it stands before file/,
    ],
    [
      [
        ['user_id', 'ana'],
        ['file', jpeg],
      ],
      400,
      /user_id must be a uuid/,
    ],
    [
      [
        ['user_id', ana],
        ['file', Buffer.alloc(0)],
      ],
      400,
      /file is an empty file/,
    ],
    [
      [
        ['user_id', ana],
        ['file', Buffer.from('<svg xmlns="…"/>')],
      ],
      400,
      /file is an SVG drawing/,
    ],
    [
      [
        ['user_id', ana],
        ['file', jpeg.subarray(0, 300)],
      ],
      400,
      /file cannot be decoded/,
    ],
    [
      [
        ['user_id', ana],
        ['file', Buffer.alloc(21 * 1024 * 1024)],
      ],
      413,
      /larger than/,
    ],
  ] as Array<[Array<[string, string | Buffer]>, number, RegExp]>)
    t.match(await post(parts), { status, body: { message } });
  const raw = (headers: Record<string, string>, body: string) =>
    fetch(`${url}/references`, {
      method: 'POST',
      headers: { authorization: `Bearer ${testApiKey}`, ...headers },
      body,
    });
  t.equal((await raw({ 'content-type': 'application/json' }, '{}')).status, 415);
  t.match(await (await raw({ 'content-type': 'image/png' }, 'x')).json(), {
    message: /multipart\/form-data/,
  });
  t.equal((await raw({ 'content-type': 'multipart/form-data' }, 'x')).status, 400, 'no boundary');
  t.equal((await raw({ 'content-type': 'multipart/form-data; boundary=b' }, '--b\r\nhalf')).status, 400);
  await new Promise<void>((resolve) => {
    const headers = {
      authorization: `Bearer ${testApiKey}`,
      'content-type': 'multipart/form-data; boundary=b',
    };
    const cut = httpRequest(`${url}/references`, { method: 'POST', headers });
    cut.on('error', () => resolve());
    cut.write('--b\r\ncontent-disposition: form-data; name="user_id"\r\n\r\n');
    setTimeout(() => cut.destroy(new Error('gone')), 50);
  });
  t.match(await client.getHealth(), { status: 'healthy' });
});

t.test('an upload is gone when its time is over', async (t) => {
  const storage = createFolderStorage({ root: await temporaryFolder(t) });
  const pictures = createReferenceFetcher({ storage, policy: { allowedHosts: [] } });
  const options = { storage, pictures, folder: await temporaryFolder(t), log: silentLog };
  const stored = [];
  for (const seconds of [-1, 60]) {
    const uploads = createReferenceUploads({ ...options, seconds });
    const { Readable } = await import('node:stream');
    stored.push(await uploads.store(Readable.from([await picture()]), ana, signal));
  }
  const folder = await temporaryFolder(t);
  const fetch = (reference = '') =>
    pictures.fetch({ url: reference, field: 'f', role: 'r', userId: ana }, folder, signal);
  t.match(await failureOf(fetch(stored[0]?.reference)), { rule: 'expired', message: /upload it again/ });
  await createReferenceUploads({ ...options, seconds: 60 }).clean(signal);
  t.same(
    (await storage.list('reference_images', `uploads/${ana}`, signal)).map(
      (name) => `reference_images/uploads/${ana}/${name}`,
    ),
    [stored[1]?.reference],
  );
  t.match(await fetch(stored[1]?.reference), { width: 96 });
});

t.test('content-encodings are decoded, within limits', async (t) => {
  const jpeg = await picture();
  const bomb = gzipSync(Buffer.alloc(3_000_000));
  const answers: Record<string, [string, Buffer]> = {
    gzip: ['gzip', gzipSync(jpeg)],
    deflate: ['deflate', deflateSync(jpeg)],
    br: ['br', brotliCompressSync(jpeg)],
    zstd: ['zstd', zstdCompressSync(jpeg)],
    two: ['gzip, BR', brotliCompressSync(gzipSync(jpeg))],
    identity: ['identity', jpeg],
    bomb: ['gzip', bomb],
    broken: ['gzip', Buffer.from('no gzip at all')],
    'broken-br': ['br', Buffer.from('no brotli at all')],
    unknown: ['compress', jpeg],
    many: ['gzip, gzip, gzip', jpeg],
  };
  const server = await startServer(t, (request, response) => {
    const [encoding, body] = answers[request.url?.slice(1) ?? ''] ?? ['', jpeg];
    response.writeHead(200, { 'content-encoding': encoding }).end(body);
  });
  const fetcher = createReferenceFetcher({
    storage: noStorage,
    policy: { allowedHosts: [server.host] },
    maxBytes: 2_000_000,
  });
  const folder = await temporaryFolder(t);
  const fetch = (name: string) =>
    fetcher.fetch({ url: `${server.origin}/${name}`, field: 'f', role: 'r' }, folder, signal);
  for (const name of ['gzip', 'deflate', 'br', 'zstd', 'two', 'identity'])
    t.match(await fetch(name), { width: 96, height: 64 }, name);
  t.match(await failureOf(fetch('bomb')), { rule: 'size', message: /larger than 2000000 bytes/ });
  for (const name of ['broken', 'broken-br', 'unknown', 'many'])
    t.match(await failureOf(fetch(name)), { rule: 'encoding' }, name);
});

t.test('addresses of our own Supabase mean the object, read with our key', async (t) => {
  const jpeg = await picture();
  const read: string[] = [];
  const fetcher = createReferenceFetcher({
    storage: { read: async (bucket, name) => (read.push(`${bucket}/${name}`), jpeg) },
    policy: { allowedHosts: [] },
    own: { supabaseUrl: 'http://kong:8000', publicUrl: 'https://worker.example' },
  });
  const folder = await temporaryFolder(t);
  const fetch = (url: string) => fetcher.fetch({ url, field: 'f', role: 'r', userId: ana }, folder, signal);
  for (const url of [
    'http://kong:8000/storage/v1/object/public/reference_images/a%20b.png',
    'http://kong:8000/storage/v1/object/sign/reference_images/a%20b.png?token=x',
    'http://kong:8000/storage/v1/object/reference_images/a%20b.png',
    'http://kong:8000/storage/v1/render/image/public/reference_images/a%20b.png?width=64',
    'HTTP://Kong:8000//storage/v1/object/public/reference_images/a b.png',
    'https://worker.example/assets/reference_images/a%20b.png',
    'HTTPS://worker.example:443/assets/reference_images/a%20b.png',
    'reference_images/a b.png',
  ])
    t.match(await fetch(url), { width: 96 }, url);
  t.same([...new Set(read)], ['reference_images/a b.png']);
  for (const [url, rule] of [
    [`http://kong:8000/storage/v1/object/public/image_fast/${bob}/j/0.png`, 'owner'],
    ['http://kong:8000/storage/v1/object/public/secrets/a.png', 'url'],
    ['http://kong:8000/auth/v1/admin', 'publicAddress'],
    ['http://kong:8000/storage/v1/object/list/reference_images', 'url'],
    ['http://a:b@kong:8000/storage/v1/object/public/reference_images/a.png', 'credentials'],
    [`http://kong:8000/storage/v1/render/image/public/image_fast/${bob}/j/0.png`, 'owner'],
    [`reference_images/../image_fast/${bob}/0.png`, 'url'],
  ] as const)
    t.match(await failureOf(fetch(url)), { rule }, url);
});
