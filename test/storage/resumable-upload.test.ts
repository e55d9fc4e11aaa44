import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { createSupabaseStorage } from '../../src/services/storage/supabase.js';
import { startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';
import { localFile, signal, storageErrorOf } from './storage-suite.js';

const megabyte = 1024 * 1024;
const bucket = 'video_fast';
const reason = new Error('cancelled');

/** A storage (the HTTP double of the published API) whose bucket exists. */
async function open(t: Test) {
  const double = await startSupabaseStorageDouble();
  t.teardown(() => double.close());
  const storage = createSupabaseStorage({
    url: double.url,
    serviceKey: double.serviceKey,
    assetUrls: 'path',
    retryDelaysMs: [5, 10, 20],
  });
  await storage.put(bucket, 'other.mp4', await localFile(t, 'x'), signal);
  double.requests.length = 0;
  return { double, storage };
}

function openDescriptors(file: string): number {
  return readdirSync('/proc/self/fd').filter((fd) => {
    try {
      return readlinkSync(`/proc/self/fd/${fd}`).startsWith(file);
    } catch {
      return false;
    }
  }).length;
}

const moments: Record<string, (act: () => void) => void> = {
  'in the same turn': (act) => act(),
  'in a microtask': (act) => queueMicrotask(act),
  'in the next tick': (act) => process.nextTick(act),
  'in the next turn': (act) => setImmediate(act),
  'two turns later': (act) => {
    void nextTurn()
      .then(() => nextTurn())
      .then(act);
  },
};

for (const [moment, schedule] of Object.entries(moments)) {
  void t.test(
    `an upload cancelled ${moment} stores nothing, and does not miss the file that is removed then`,
    async (t) => {
      const { double, storage } = await open(t);
      const file = await localFile(t, Buffer.alloc(7 * megabyte));
      const controller = new AbortController();
      const put = storage.put(bucket, 'a.mp4', file, controller.signal);
      schedule(() => controller.abort(reason));
      await t.rejects(put, reason);
      await rm(file.localPath);
      // What goes on without its caller would send its chunks within milliseconds.
      await sleep(150);
      t.same(
        double.requests.filter(({ method, bytes }) => method === 'PATCH' && bytes > 0),
        [],
      );
      t.equal(double.object(bucket, 'a.mp4'), undefined);
    },
  );
}

void t.test('an upload cancelled between two chunks sends no other', async (t) => {
  const { double, storage } = await open(t);
  const controller = new AbortController();
  double.setFault(({ method }) => {
    if (method === 'PATCH') setImmediate(() => controller.abort(reason));
    return undefined;
  });
  await t.rejects(
    storage.put(bucket, 'a.mp4', await localFile(t, Buffer.alloc(20 * megabyte)), controller.signal),
    reason,
  );
  await sleep(100);
  t.equal(double.requests.filter(({ method }) => method === 'PATCH').length, 1);
});

void t.test(
  'uploads that break, or are cancelled, leave no file open',
  { skip: existsSync('/proc/self/fd') ? false : 'needs /proc' },
  async (t) => {
    const { double, storage } = await open(t);
    const file = await localFile(t, Buffer.alloc(13 * megabyte));
    for (let round = 0; round < 3; round += 1) {
      let breaks = 2;
      double.setFault(({ method }) =>
        method === 'PATCH' && breaks-- > 0 ? { hangUpAfterBytes: 100_000 } : undefined,
      );
      await storage.put(bucket, `${round}.mp4`, file, signal);
      t.equal(double.object(bucket, `${round}.mp4`)?.body.length, 13 * megabyte);

      const controller = new AbortController();
      double.setFault(({ method }) => {
        if (method !== 'PATCH') return undefined;
        setTimeout(() => controller.abort(reason), 5);
        return 'silence';
      });
      await t.rejects(storage.put(bucket, 'cancelled.mp4', file, controller.signal), reason);
    }
    await sleep(50);
    t.equal(openDescriptors(file.localPath), 0);
  },
);

void t.test('a file that became shorter is an error, not an upload that never ends', async (t) => {
  const { double, storage } = await open(t);
  const file = await localFile(t, Buffer.alloc(7 * megabyte));
  t.match(await storageErrorOf(storage.put(bucket, 'a.mp4', { ...file, bytes: 8 * megabyte }, signal)), {
    code: 'unavailable',
    message: /ends after 7340032 of 8388608 bytes/,
  });
  t.equal(double.object(bucket, 'a.mp4'), undefined);
});
