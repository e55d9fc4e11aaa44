import { randomBytes } from 'node:crypto';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import type { Test } from 'tap';
import { StorageError, type Storage } from '../../src/services/storage/storage.js';

export interface StorageUnderTest {
  storage: Storage;
  /** What lies at a place, read past the storage itself. */
  stored: (bucket: string, name: string) => Promise<{ body: Buffer; contentType: string } | null>;
}

export const signal = new AbortController().signal;
const megabyte = 1024 * 1024;

export async function localFile(t: Test, content: Buffer | string, contentType = 'image/png') {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-storage-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const localPath = path.join(folder, 'file');
  await writeFile(localPath, content);
  return { localPath, contentType, bytes: Buffer.byteLength(content) };
}

export async function storageErrorOf(
  promise: Promise<unknown>,
): Promise<Pick<StorageError, 'code' | 'retryable' | 'origin' | 'message'>> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof StorageError)
      return { code: error.code, retryable: error.retryable, origin: error.origin, message: error.message };
    throw error;
  }
  throw new Error('nothing failed');
}

/** What every storage promises. */
export function testStorage(t: Test, name: string, open: (t: Test) => Promise<StorageUnderTest>): void {
  const bucket = 'sdxl_image_fast';
  const place = 'a11d459a-2f97-4d87-9999-9e3fa46d6753/ec148cb4-8e73-4a47-aa90-a8f0d66b829e/0.png';

  void t.test(`${name}: a file is stored whole, with its type, in a bucket that did not exist`, async (t) => {
    const { storage, stored } = await open(t);
    const bytes = randomBytes(3000);
    await storage.put(bucket, place, await localFile(t, bytes), signal);
    t.match(await storage.addressOf(bucket, place, signal), place);
    t.match(await stored(bucket, place), { contentType: 'image/png' });
    t.ok((await stored(bucket, place))?.body.equals(bytes));
    t.ok((await storage.read(bucket, place, 1_000_000, signal)).equals(bytes));
  });

  void t.test(`${name}: a large file is stored whole`, async (t) => {
    const { storage, stored } = await open(t);
    for (const size of [6 * megabyte, 6 * megabyte + 1, 13 * megabyte + 7]) {
      const bytes = randomBytes(size);
      await storage.put('video_fast', `${size}.mp4`, await localFile(t, bytes, 'video/mp4'), signal);
      const found = await stored('video_fast', `${size}.mp4`);
      t.ok(found?.body.equals(bytes), `${size} bytes`);
      t.equal(found?.contentType, 'video/mp4');
    }
  });

  void t.test(`${name}: storing again replaces, and gives the same address`, async (t) => {
    const { storage, stored } = await open(t);
    const store = async (content: string) => {
      await storage.put(bucket, place, await localFile(t, content), signal);
      return storage.addressOf(bucket, place, signal);
    };
    t.equal(await store('first'), await store('second, and longer'));
    t.equal((await stored(bucket, place))?.body.toString(), 'second, and longer');
  });

  void t.test(
    `${name}: storing the same place from several sides at once leaves one whole file`,
    async (t) => {
      const { storage, stored } = await open(t);
      const contents = ['a', 'b', 'c', 'd'].map((letter) => letter.repeat(100_000));
      await Promise.all(
        contents.map(async (content) => storage.put(bucket, place, await localFile(t, content), signal)),
      );
      t.ok(contents.includes((await stored(bucket, place))?.body.toString() ?? ''));
    },
  );

  void t.test(`${name}: what is not there, or too large, is said so`, async (t) => {
    const { storage } = await open(t);
    t.match(await storageErrorOf(storage.read(bucket, place, 1000, signal)), {
      code: 'not_found',
      retryable: false,
    });
    await storage.put(bucket, place, await localFile(t, 'x'.repeat(5000)), signal);
    t.match(await storageErrorOf(storage.read(bucket, 'other.png', 1000, signal)), {
      code: 'not_found',
      retryable: false,
    });
    t.match(await storageErrorOf(storage.read(bucket, place, 4999, signal)), {
      code: 'too_large',
      retryable: false,
    });
    t.equal((await storage.read(bucket, place, 5000, signal)).length, 5000);
  });

  void t.test(`${name}: a local file that is gone is an error, and nothing is stored`, async (t) => {
    const { storage, stored } = await open(t);
    for (const bytes of [10, 20 * megabyte]) {
      await t.rejects(
        storage.put(
          bucket,
          place,
          { localPath: '/nowhere/at/all.png', contentType: 'image/png', bytes },
          signal,
        ),
        StorageError,
      );
      t.equal(await stored(bucket, place), null);
    }
  });

  void t.test(`${name}: removing is idempotent and touches nothing else`, async (t) => {
    const { storage, stored } = await open(t);
    await storage.put(bucket, 'u/j/0.png', await localFile(t, '0'), signal);
    await storage.put(bucket, 'u/j/1.png', await localFile(t, '1'), signal);
    await storage.remove(bucket, ['u/j/0.png', 'u/j/7.png']);
    await storage.remove(bucket, ['u/j/0.png']);
    await storage.remove(bucket, []);
    await storage.remove('video_high', ['u/j/0.png']);
    t.equal(await stored(bucket, 'u/j/0.png'), null);
    t.equal((await stored(bucket, 'u/j/1.png'))?.body.toString(), '1');
  });

  void t.test(`${name}: no path leaves its bucket`, async (t) => {
    const { storage } = await open(t);
    const file = await localFile(t, 'x');
    const bad: Array<[string, string]> = [
      [bucket, '../x.png'],
      [bucket, 'a/../../x.png'],
      [bucket, '..'],
      [bucket, ''],
      [bucket, '/etc/passwd'],
      [bucket, 'a/..'],
      [bucket, 'a\u0000.png'],
      [bucket, '..\\x.png'],
      ['..', 'x.png'],
      ['a/b', 'x.png'],
      ['', 'x.png'],
      ['UPPER', 'x.png'],
    ];
    for (const [badBucket, badPath] of bad) {
      t.match(
        await storageErrorOf(storage.put(badBucket, badPath, file, signal)),
        { code: 'rejected', retryable: false },
        `put ${badBucket} ${badPath}`,
      );
      t.match(
        await storageErrorOf(storage.read(badBucket, badPath, 10, signal)),
        { code: 'rejected', retryable: false },
        `read ${badBucket} ${badPath}`,
      );
      t.match(
        await storageErrorOf(storage.remove(badBucket, [badPath])),
        { code: 'rejected', retryable: false },
        `remove ${badBucket} ${badPath}`,
      );
    }
  });

  void t.test(`${name}: an aborted call ends with the reason`, async (t) => {
    const { storage, stored } = await open(t);
    const reason = new Error('cancelled');
    for (const size of [1000, 20 * megabyte]) {
      await t.rejects(
        storage.put(bucket, place, await localFile(t, Buffer.alloc(size)), AbortSignal.abort(reason)),
        reason,
      );
      t.equal(await stored(bucket, place), null);
    }
    await storage.put(bucket, place, await localFile(t, 'x'), signal);
    await t.rejects(storage.read(bucket, place, 100, AbortSignal.abort(reason)), reason);
  });

  void t.test(`${name}: answers a ping`, async (t) => {
    const { storage } = await open(t);
    await storage.ping(signal);
    t.pass('it answered');
  });
}
