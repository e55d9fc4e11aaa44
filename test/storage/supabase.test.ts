import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import { realStatus } from '../../src/lib/supabase.js';
import { StorageError } from '../../src/services/storage/storage.js';
import { createSupabaseStorage, type SupabaseStorageOptions } from '../../src/services/storage/supabase.js';
import { keyOf, type LocationForm, startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';
import { localFile, signal, storageErrorOf, testStorage } from './storage-suite.js';

const megabyte = 1024 * 1024;
const against = 'Supabase Storage (against an HTTP double of its published API, not the real server)';

async function open(
  t: Test,
  options: Partial<SupabaseStorageOptions> = {},
  doubleOptions: Parameters<typeof startSupabaseStorageDouble>[0] = {},
) {
  const double = await startSupabaseStorageDouble(doubleOptions);
  t.teardown(() => double.close());
  const storage = createSupabaseStorage({
    url: double.url,
    serviceKey: double.serviceKey,
    assetUrls: 'path',
    retryDelaysMs: [5, 10, 20],
    ...options,
  });
  return { double, storage };
}

testStorage(t, against, async (t) => {
  const { double, storage } = await open(t);
  return { storage, stored: async (bucket, name) => double.object(bucket, name) ?? null };
});

void t.test(`${against}: addresses by setting`, async (t) => {
  const put = async (assetUrls: SupabaseStorageOptions['assetUrls']) => {
    const { double, storage } = await open(t, { assetUrls, signedUrlSeconds: 3600 });
    await storage.put('video_fast', 'u/j/0.mp4', await localFile(t, 'film', 'video/mp4'), signal);
    return { double, address: await storage.addressOf('video_fast', 'u/j/0.mp4', signal) };
  };
  t.equal((await put('path')).address, 'video_fast/u/j/0.mp4');
  for (const form of ['public', 'signed'] as const) {
    const { address, double } = await put(form);
    t.ok(
      address.startsWith(
        `${double.url}/storage/v1/object/${form === 'public' ? 'public' : 'sign'}/video_fast/u/j/0.mp4`,
      ),
      address,
    );
    t.equal(await (await fetch(address)).text(), 'film', 'the address answers without a key');
    t.equal(double.buckets.get('video_fast')?.public, form === 'public');
  }
});

void t.test(
  `${against}: credentials, content type, cache and upsert are sent as the API wants them`,
  async (t) => {
    const { double, storage } = await open(t, {}, { serviceKey: 'sb_secret_abc' });
    await storage.put('video_fast', 'a.mp4', await localFile(t, 'film', 'video/mp4'), signal);
    await storage.put(
      'video_fast',
      'b.mp4',
      await localFile(t, Buffer.alloc(7 * megabyte), 'video/mp4'),
      signal,
    );
    t.match(double.object('video_fast', 'a.mp4'), { contentType: 'video/mp4', cacheControl: 'max-age=3600' });
    t.match(double.object('video_fast', 'b.mp4'), { contentType: 'video/mp4', cacheControl: 'max-age=3600' });
    for (const request of double.requests) {
      t.match(
        request.headers,
        { apikey: 'sb_secret_abc', authorization: undefined, 'user-agent': /^ourvidz-worker\/\d/ },
        `${request.method} ${request.path}`,
      );
    }
    t.same(
      double.requests.filter(({ method }) => method === 'PATCH').map(({ bytes }) => bytes),
      [6 * megabyte, megabyte],
    );
    t.equal(
      double.requests.filter(({ path }) => path === '/storage/v1/bucket').length,
      1,
      'the bucket is made once',
    );
  },
);

void t.test(`${against}: a wrong key is final`, async (t) => {
  const { storage } = await open(t, { serviceKey: 'wrong-key' });
  for (const size of [10, 7 * megabyte])
    t.match(
      await storageErrorOf(
        storage.put('video_fast', 'a.mp4', await localFile(t, Buffer.alloc(size)), signal),
      ),
      { code: 'forbidden', retryable: false },
    );
  t.match(await storageErrorOf(storage.ping(signal)), { code: 'forbidden', retryable: false });
});

const hour = 3600;
const seconds = () => Math.floor(Date.now() / 1000);
const megabytes = (count: number) => Buffer.alloc(count * megabyte, 7);

void t.test(`${against}: a key that may not write is the worker's fault, and says why itself`, async (t) => {
  const keys: Array<[key: string, why: RegExp]> = [
    [keyOf({ role: 'anon', exp: seconds() + hour }), /has the role "anon", not service_role/],
    [keyOf({ role: 'service_role', exp: seconds() - hour }), /expired on \d{4}-/],
    ['sb_publishable_x', /is a publishable key/],
    ['sb_secret_of_another_project', /the storage refuses SUPABASE_SERVICE_KEY .*401 Invalid API key/],
    ['nonsense', /the storage refuses SUPABASE_SERVICE_KEY .*403 Invalid Compact JWS/],
  ];
  for (const [serviceKey, why] of keys) {
    const { double, storage } = await open(t, { serviceKey });
    const fault = { code: 'forbidden', retryable: false, origin: 'worker', message: why };
    const putting = async (content: Buffer | string) =>
      storageErrorOf(storage.put('video_fast', 'a.mp4', await localFile(t, content), signal));
    t.match(await putting('x'), fault, 'its bucket cannot be made, either');
    double.buckets.set('video_fast', { public: false, objects: new Map() });
    for (const content of ['x', megabytes(7)]) t.match(await putting(content), fault);
    t.match(await storageErrorOf(storage.ping(signal)), fault, 'and no readiness');
    t.equal(double.buckets.get('video_fast')?.objects.size, 0);
  }
});

void t.test(`${against}: whose fault it is`, async (t) => {
  const { double, storage } = await open(t);
  const put = async (content: Buffer | string = 'x') =>
    storageErrorOf(storage.put('video_fast', 'a.mp4', await localFile(t, content), signal));
  const bucket = { public: false, objects: new Map(), allowedMimeTypes: ['video/mp4'] };
  double.buckets.set('video_fast', bucket);
  for (const content of ['x', megabytes(7)])
    t.match(await put(content), { code: 'rejected', origin: 'job', message: /415 mime type image.png/ });
  t.match(await storageErrorOf(storage.read('video_fast', 'a.mp4', 9, signal)), { origin: 'job' });
  double.buckets.set('video_fast', { public: false, objects: new Map() });
  for (const code of [undefined, 'AccessDenied'])
    for (const content of ['x', megabytes(7)]) {
      double.setFault(({ method }) =>
        method === 'POST' ? { status: 403, ...(code && { code }) } : undefined,
      );
      t.match(await put(content), { code: 'forbidden', origin: 'worker' }, 'in plain text or in JSON');
    }
  for (const content of ['x', megabytes(7)]) {
    double.setFault(({ method }) =>
      method === 'POST' ? { status: 544, code: 'DatabaseTimeout' } : undefined,
    );
    t.match(await put(content), { code: 'unavailable', retryable: true, origin: 'storage' });
  }
  double.setFault(({ path }) => (path.endsWith('/bucket') ? { status: 400 } : undefined));
  double.buckets.delete('video_fast');
  t.match(await put(), { code: 'rejected', origin: 'worker' }, 'a bucket that cannot be made');
  double.setFault(() => ({ status: 301 }));
  t.match(await put(), { code: 'rejected', origin: 'worker' }, 'an address that is not the right one');
});

void t.test(`${against}: a key that expires during an upload ends it as the worker's fault`, async (t) => {
  const serviceKey = keyOf({ role: 'service_role' });
  const { double, storage } = await open(t, { serviceKey });
  await storage.put('video_fast', 'other.mp4', await localFile(t, 'x'), signal);
  double.setFault(({ method }) => {
    if (method === 'PATCH') double.expireKey(serviceKey);
    return undefined;
  });
  const file = await localFile(t, megabytes(20));
  t.match(await storageErrorOf(storage.put('video_fast', 'a.mp4', file, signal)), {
    code: 'forbidden',
    origin: 'worker',
  });
  double.setFault(() => undefined);
  double.renewKey(serviceKey);
  await storage.put('video_fast', 'a.mp4', file, signal);
  t.equal(double.object('video_fast', 'a.mp4')?.body.length, 20 * megabyte, 'with a good one it goes on');
});

const locations: Record<string, LocationForm> = {
  'the address the server has inside': ({ id }) => `http://storage:5000/upload/resumable/${id}`,
  'https, as the server takes for granted': ({ host, id }) => `https://${host}/upload/resumable/${id}`,
  'a path': ({ path, id }) => `${path}/${id}`,
  'a path without the prefix of the gateway': ({ id }) => `/upload/resumable/${id}`,
  'a slash at its end': ({ host, path, id }) => `http://${host}${path}/${id}/`,
};
for (const [form, location] of Object.entries(locations)) {
  void t.test(`${against}: a large file arrives when Location is ${form}`, async (t) => {
    const { double, storage } = await open(t, {}, { location });
    const bytes = randomBytes(13 * megabyte);
    await storage.put('video_fast', 'a.mp4', await localFile(t, bytes), signal);
    t.ok(double.object('video_fast', 'a.mp4')?.body.equals(bytes));
  });
}

void t.test(`${against}: neither key nor file follow Location or a redirect to another host`, async (t) => {
  const strangers: Array<{ url: string | undefined; headers: IncomingHttpHeaders }> = [];
  const stranger = createServer((request, response) => {
    strangers.push({ url: request.url, headers: request.headers });
    response.end('{}');
  });
  stranger.listen(0, '127.0.0.1');
  await once(stranger, 'listening');
  t.teardown(() => void stranger.close());
  const elsewhere = `http://127.0.0.1:${(stranger.address() as AddressInfo).port}`;
  const { double, storage } = await open(t, {}, { location: ({ id }) => `${elsewhere}/files/${id}` });
  await storage.put('video_fast', 'a.mp4', await localFile(t, megabytes(13)), signal);
  t.equal(double.object('video_fast', 'a.mp4')?.body.length, 13 * megabyte);
  double.setFault(() => ({ status: 307, location: `${elsewhere}/storage/v1` }));
  for (const content of ['x', megabytes(7)])
    await t.rejects(storage.put('video_fast', 'b.mp4', await localFile(t, content), signal), StorageError);
  await t.rejects(storage.read('video_fast', 'a.mp4', 10, signal), StorageError);
  t.same(strangers, []);
});

void t.test(`${against}: a server that never advances does not hold an upload`, async (t) => {
  for (const step of [0, 1]) {
    let offset = 0;
    let patches = 0;
    const server = createServer((request, response) => {
      request.resume().on('end', () => {
        const base = { 'tus-resumable': '1.0.0' };
        if (request.method === 'POST') return response.writeHead(201, { ...base, location: '/x/1' }).end();
        if (request.method === 'PATCH') [offset, patches] = [offset + step, patches + 1];
        return response
          .writeHead(request.method === 'PATCH' ? 204 : 200, { ...base, 'upload-offset': offset })
          .end();
      });
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    t.teardown(() => void server.close());
    const storage = createSupabaseStorage({
      url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
      serviceKey: 'k',
      assetUrls: 'path',
    });
    t.match(await storageErrorOf(storage.put('video_fast', 'a', await localFile(t, megabytes(7)), signal)), {
      code: 'unavailable',
      retryable: true,
      message: /does not advance/,
    });
    t.ok(patches < 30, `${patches} answers, ${step} bytes each`);
    server.closeAllConnections();
  }
});

void t.test(`${against}: readiness is a proof of writing, and is remembered`, async (t) => {
  const { double, storage } = await open(t, { remember: { wellMs: 60_000, unwellMs: 60_000 } });
  const writes = () => double.requests.filter(({ method }) => method === 'POST').length;
  await Promise.all([storage.ping(signal), storage.ping(signal)]);
  t.equal(double.buckets.get('sdxl_image_fast')?.objects.size, 0, 'what was written is gone');
  const before = writes();
  await storage.ping(signal);
  t.equal(writes(), before, 'asked once');
  double.expireKey(double.serviceKey);
  await t.rejects(storage.put('video_fast', 'a', await localFile(t, 'x'), signal));
  t.match(await storageErrorOf(storage.ping(signal)), { origin: 'worker' }, 'a failed upload casts doubt');
  const asked = double.requests.length;
  t.match(await storageErrorOf(storage.ping(signal)), { origin: 'worker' });
  t.equal(double.requests.length, asked, 'a failure is remembered, too');
  double.renewKey(double.serviceKey);
  await storage.put('video_fast', 'a', await localFile(t, 'x'), signal);
  const proven = double.requests.length;
  await storage.ping(signal);
  t.equal(double.requests.length, proven, 'an upload is a proof');
});

void t.test(`${against}: a private bucket under public addresses is found`, async (t) => {
  const { double, storage } = await open(t, { assetUrls: 'public' });
  double.buckets.set('video_fast', { public: false, objects: new Map() });
  double.buckets.set('video_high', { public: true, objects: new Map() });
  double.buckets.set('avatars', { public: false, objects: new Map() });
  t.same(await storage.inspect?.(signal), [
    'the bucket video_fast is private: the addresses of ASSET_URLS=public do not work for it',
  ]);
});

void t.test(`${against}: what the server limits is final`, async (t) => {
  const { storage } = await open(t, {}, { fileSizeLimit: 1000 });
  for (const size of [1001, 7 * megabyte])
    t.match(
      await storageErrorOf(
        storage.put('video_fast', 'a.mp4', await localFile(t, Buffer.alloc(size)), signal),
      ),
      { code: 'too_large', retryable: false },
    );
});

void t.test(`${against}: whether to try again is decided by the status in the body`, async (t) => {
  const { double, storage } = await open(t);
  const file = await localFile(t, 'x');
  await storage.put('video_fast', 'a.mp4', file, signal);
  const table: Array<[status: number, code: string, retryable: boolean]> = [
    [500, 'unavailable', true],
    [503, 'unavailable', true],
    [544, 'unavailable', true],
    [429, 'unavailable', true],
    [409, 'unavailable', true],
    [423, 'unavailable', true],
    [400, 'rejected', false],
    [403, 'forbidden', false],
    [413, 'too_large', false],
    [415, 'rejected', false],
  ];
  for (const [status, code, retryable] of table) {
    double.setFault(() => ({ status }));
    t.match(
      await storageErrorOf(storage.put('video_fast', 'a.mp4', file, signal)),
      { code, retryable },
      `upload: ${status}`,
    );
    t.match(
      await storageErrorOf(storage.read('video_fast', 'a.mp4', 100, signal)),
      { code, retryable },
      `download: ${status}`,
    );
  }
  double.setFault(() => 'hang-up');
  t.match(
    await storageErrorOf(storage.put('video_fast', 'a.mp4', file, signal)),
    { code: 'unavailable', retryable: true },
    'hang-up',
  );
  t.match(await storageErrorOf(storage.read('video_fast', 'a.mp4', 100, signal)), {
    code: 'unavailable',
    retryable: true,
  });
  t.match(await storageErrorOf(storage.remove('video_fast', ['a.mp4'])), {
    code: 'unavailable',
    retryable: true,
  });
  t.equal(realStatus(400, 'NoSuchBucket'), 404, 'newer servers name the status');
  t.equal(realStatus(400, '409'), 409);
  t.equal(realStatus(502, 'something'), 502);
});

void t.test(`${against}: a server that says nothing is given up`, async (t) => {
  const { double, storage } = await open(t, { timeoutMs: 150 });
  await storage.put('video_fast', 'a.mp4', await localFile(t, 'x'), signal);
  double.setFault(() => 'silence');
  for (const size of [10, 7 * megabyte])
    t.match(
      await storageErrorOf(
        storage.put('video_fast', 'a.mp4', await localFile(t, Buffer.alloc(size)), signal),
      ),
      { code: 'unavailable', retryable: true },
      `${size} bytes`,
    );
  t.match(await storageErrorOf(storage.read('video_fast', 'a.mp4', 10, signal)), {
    code: 'unavailable',
    retryable: true,
  });
});

void t.test(`${against}: cancelling breaks an upload off`, async (t) => {
  const { double, storage } = await open(t);
  await storage.put('video_fast', 'a.mp4', await localFile(t, 'x'), signal);
  double.setFault(() => 'silence');
  for (const size of [10, 7 * megabyte]) {
    const controller = new AbortController();
    const reason = new Error('cancelled');
    setTimeout(() => controller.abort(reason), 50);
    await t.rejects(
      storage.put('video_fast', 'b.mp4', await localFile(t, Buffer.alloc(size)), controller.signal),
      reason,
    );
  }
});

void t.test(`${against}: a large upload goes on where the connection broke`, async (t) => {
  const bytes = randomBytes(20 * megabyte);
  const { double, storage } = await open(t);
  const file = await localFile(t, bytes, 'video/mp4');
  await storage.put('video_fast', 'other.mp4', await localFile(t, 'x'), signal);
  double.requests.length = 0;
  let broken = 0;
  double.setFault(({ method }) => {
    if (method !== 'PATCH') return undefined;
    broken += 1;
    return broken === 2 ? { hangUpAfterBytes: 1_000_000 } : broken === 4 ? { status: 503 } : undefined;
  });
  await storage.put('video_fast', 'a.mp4', file, signal);
  t.ok(double.object('video_fast', 'a.mp4')?.body.equals(bytes));
  t.equal(double.requests.filter(({ method }) => method === 'POST').length, 1, 'one upload');
  t.ok(double.requests.filter(({ method }) => method === 'HEAD').length >= 2, 'the offset was asked for');
});

void t.test(
  `${against}: after a long break the next attempt goes on, too, or begins anew when it was forgotten`,
  async (t) => {
    for (const forgotten of [false, true]) {
      const bytes = randomBytes(20 * megabyte);
      const { double, storage } = await open(t);
      const file = await localFile(t, bytes, 'video/mp4');
      await storage.put('video_fast', 'other.mp4', await localFile(t, 'x'), signal);
      double.requests.length = 0;
      let patches = 0;
      double.setFault(({ method }) =>
        method === 'PATCH' && ++patches <= 1
          ? undefined
          : method === 'POST' && patches === 0
            ? undefined
            : 'hang-up',
      );
      t.match(await storageErrorOf(storage.put('video_fast', 'a.mp4', file, signal)), {
        code: 'unavailable',
        retryable: true,
      });
      double.setFault(() => undefined);
      if (forgotten) double.forgetUploads();
      await storage.put('video_fast', 'a.mp4', file, signal);
      t.ok(double.object('video_fast', 'a.mp4')?.body.equals(bytes));
      t.equal(double.requests.filter(({ method }) => method === 'POST').length, forgotten ? 2 : 1);
    }
  },
);

void t.test(`${against}: two workers that find the bucket missing both store`, async (t) => {
  const { double, storage } = await open(t);
  const other = createSupabaseStorage({ url: double.url, serviceKey: double.serviceKey, assetUrls: 'path' });
  await Promise.all([
    storage.put('video_high', 'a.mp4', await localFile(t, 'a'), signal),
    other.put('video_high', 'b.mp4', await localFile(t, 'b'), signal),
  ]);
  t.equal(double.object('video_high', 'a.mp4')?.body.toString(), 'a');
  t.equal(double.object('video_high', 'b.mp4')?.body.toString(), 'b');
});
