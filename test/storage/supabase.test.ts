import { randomBytes } from 'node:crypto';
import t, { type Test } from 'tap';
import { realStatus } from '../../src/services/storage/supabase-errors.js';
import { createSupabaseStorage, type SupabaseStorageOptions } from '../../src/services/storage/supabase.js';
import { startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';
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
    return {
      double,
      address: await storage.put('video_fast', 'u/j/0.mp4', await localFile(t, 'film', 'video/mp4'), signal),
    };
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
    for (const request of double.requests)
      t.match(
        request.headers,
        { apikey: 'sb_secret_abc', authorization: 'Bearer sb_secret_abc' },
        `${request.method} ${request.path}`,
      );
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
