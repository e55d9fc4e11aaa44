import { execFileSync } from 'node:child_process';
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import fc from 'fast-check';
import t, { type Test } from 'tap';
import { createFolderStorage } from '../../src/services/storage/folder.js';
import { localFile, signal, storageErrorOf, testStorage } from './storage-suite.js';

async function temporaryRoot(t: Test): Promise<string> {
  const root = await mkdtemp(path.join(tmpdir(), 'ourvidz-folder-'));
  t.teardown(() => rm(root, { recursive: true, force: true }));
  return root;
}
const types: Record<string, string> = { '.png': 'image/png', '.mp4': 'video/mp4' };

testStorage(t, 'folder', async (t) => {
  const root = await temporaryRoot(t);
  return {
    storage: createFolderStorage({ root }),
    async stored(bucket, name) {
      const body = await readFile(path.join(root, bucket, name)).catch(() => null);
      return body === null ? null : { body, contentType: types[path.extname(name)] ?? '' };
    },
  };
});

void t.test('addresses are relative to the service, or absolute when it knows its own', async (t) => {
  const root = await temporaryRoot(t);
  t.equal(
    await createFolderStorage({ root }).addressOf('video_fast', 'u 1/j/0.mp4', signal),
    '/assets/video_fast/u%201/j/0.mp4',
  );
  t.equal(
    await createFolderStorage({ root, publicUrl: 'https://w.example.com' }).addressOf(
      'video_fast',
      'u/j/0.mp4',
      signal,
    ),
    'https://w.example.com/assets/video_fast/u/j/0.mp4',
  );
});

void t.test('a file is found with its type; what is no regular file of its bucket is not', async (t) => {
  const root = await temporaryRoot(t);
  const storage = createFolderStorage({ root });
  await storage.put('video_fast', 'u/j/0.mp4', await localFile(t, 'moving pictures'), signal);
  t.same(await storage.find('video_fast', 'u/j/0.mp4'), {
    file: 'video_fast/u/j/0.mp4',
    contentType: 'video/mp4',
  });
  execFileSync('mkfifo', [path.join(root, 'video_fast', 'pipe.mp4')]);
  await symlink(path.join(root, 'video_fast'), path.join(root, 'linked'));
  for (const [bucket, name] of [
    ['video_fast', 'u/j/1.mp4'],
    ['video_fast', 'u/j'],
    ['video_fast', ''],
    ['..', 'x'],
    ['none', 'x'],
    ['video_fast', 'u/j/0.mp4/x'],
    ['video_fast', 'pipe.mp4'],
    ['linked', 'u/j/0.mp4'],
  ] as const)
    t.equal(await storage.find(bucket, name), null, `${bucket}/${name}`);
});

void t.test('nothing is written to or removed through a link, and a pipe is not waited for', async (t) => {
  const root = await temporaryRoot(t);
  const elsewhere = await temporaryRoot(t);
  const storage = createFolderStorage({ root });
  await mkdir(path.join(root, 'video_high'));
  await symlink(elsewhere, path.join(root, 'video_fast'));
  await symlink(elsewhere, path.join(root, 'video_high', 'u'));
  await writeFile(path.join(elsewhere, '0.mp4'), 'of somebody else');
  for (const [bucket, name] of [
    ['video_fast', '0.mp4'],
    ['video_fast', 'u/0.mp4'],
    ['video_high', 'u/0.mp4'],
  ] as const) {
    t.match(await storageErrorOf(storage.put(bucket, name, await localFile(t, 'ours'), signal)), {
      code: 'rejected',
      origin: 'worker',
      message: /is a link, not a folder/,
    });
    t.match(await storageErrorOf(storage.remove(bucket, [name])), { origin: 'worker' });
    t.match(await storageErrorOf(storage.read(bucket, name, 100, signal)), { code: 'not_found' });
  }
  t.equal(await readFile(path.join(elsewhere, '0.mp4'), 'utf8'), 'of somebody else');
  execFileSync('mkfifo', [path.join(root, 'video_high', 'pipe.mp4')]);
  t.match(await storageErrorOf(storage.read('video_high', 'pipe.mp4', 100, signal)), { code: 'not_found' });
  await storage.put('video_high', 'pipe.mp4', await localFile(t, 'a file'), signal);
  t.equal((await storage.read('video_high', 'pipe.mp4', 100, signal)).toString(), 'a file');
});

void t.test('a write that fails leaves the old file and no remains', async (t) => {
  const root = await temporaryRoot(t);
  const storage = createFolderStorage({ root });
  await storage.put('video_fast', 'a.mp4', await localFile(t, 'old'), signal);
  await mkdir(path.join(root, 'video_fast', 'b.mp4', 'in-the-way'), { recursive: true });
  t.match(
    await storageErrorOf(
      storage.put(
        'video_fast',
        'a.mp4',
        { localPath: '/nowhere', contentType: 'video/mp4', bytes: 1 },
        signal,
      ),
    ),
    { code: 'unavailable', retryable: true },
  );
  t.match(await storageErrorOf(storage.put('video_fast', 'b.mp4', await localFile(t, 'new'), signal)), {
    code: 'unavailable',
    retryable: true,
  });
  t.equal((await readFile(path.join(root, 'video_fast', 'a.mp4'))).toString(), 'old');
  t.same((await readdir(path.join(root, 'video_fast'))).sort(), ['a.mp4', 'b.mp4']);
});

void t.test(
  'what a killed process left half-written goes with the next write to the same place, or when that is emptied',
  async (t) => {
    const root = await temporaryRoot(t);
    const storage = createFolderStorage({ root });
    const folder = path.join(root, 'video_fast', 'u');
    await mkdir(folder, { recursive: true });
    for (const name of ['0.mp4.one.part', '0.mp4.two.part', '1.mp4.one.part', '2.mp4.one.part'])
      await writeFile(path.join(folder, name), 'half');
    await storage.put('video_fast', 'u/0.mp4', await localFile(t, 'whole'), signal);
    await storage.remove('video_fast', ['u/1.mp4', 'nobody/1.mp4']);
    t.same((await readdir(folder)).sort(), ['0.mp4', '2.mp4.one.part']);
  },
);

void t.test('whatever the path, nothing outside its bucket is read', async (t) => {
  const root = await temporaryRoot(t);
  await writeFile(path.join(root, 'secret.txt'), 'secret');
  await mkdir(path.join(root, 'assets', 'video_fast', 'a'), { recursive: true });
  await mkdir(path.join(root, 'assets', 'video_fast2'), { recursive: true });
  await writeFile(path.join(root, 'assets', 'video_fast2', 'secret.txt'), 'secret');
  await symlink(path.join(root, 'secret.txt'), path.join(root, 'assets', 'video_fast', 'link.txt'));
  const storage = createFolderStorage({ root: path.join(root, 'assets') });
  const piece = fc.constantFrom(
    '..',
    '.',
    '',
    'a',
    'secret.txt',
    'link.txt',
    'video_fast',
    'video_fast2',
    'assets',
    '..\\',
    '%2e%2e',
    '\0',
    '~',
    root,
  );
  await fc.assert(
    fc.asyncProperty(piece, fc.array(piece, { maxLength: 6 }), async (bucket, pieces) => {
      const asset = await storage.find(bucket, pieces.join('/'));
      if (asset === null) return;
      const text = await readFile(path.join(storage.root, asset.file), 'utf8');
      if (text === 'secret' && bucket !== 'video_fast2')
        throw new Error(`read ${bucket} ${pieces.join('/')}`);
    }),
    { numRuns: 1500 },
  );
  t.equal(await storage.find('video_fast', 'link.txt'), null, 'a link that leads out is not followed');
});

void t.test('a folder that cannot be written does not answer a ping', async (t) => {
  const root = await temporaryRoot(t);
  await writeFile(path.join(root, 'file'), '');
  const storage = createFolderStorage({ root: path.join(root, 'file', 'assets') });
  const fault = { code: 'unavailable', origin: 'worker', message: /cannot write/ };
  t.match(await storageErrorOf(storage.ping(signal)), fault);
  t.match(await storageErrorOf(storage.put('video_fast', 'a', await localFile(t, 'x'), signal)), fault);
});
