import { readdir, readFile } from 'node:fs/promises';
import t from 'tap';
import sharp from 'sharp';
import {
  createReferenceFetcher,
  type ReferenceFetcherOptions,
} from '../../src/services/references/fetcher.js';
import { StorageError } from '../../src/services/storage/storage.js';
import { failureOf, hollowPng, noStorage, signal, startServer, temporaryFolder } from './support.js';

const field = 'config.first_frame';
const width = 48;
const height = 32;
/** Left half red, right half blue. */
const halves = () =>
  sharp(
    Buffer.from(
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}"><rect width="24" height="32" fill="#f00"/><rect x="24" width="24" height="32" fill="#00f"/></svg>`,
    ),
  ).removeAlpha();

async function fetchBytes(
  t: Tap,
  bytes: Buffer,
  options: Partial<ReferenceFetcherOptions> = {},
  headers: Record<string, string> = {},
) {
  const server = await startServer(t, (_request, response) => {
    response.writeHead(200, { 'content-type': 'text/html', ...headers }).end(bytes);
  });
  const folder = await temporaryFolder(t);
  const fetcher = createReferenceFetcher({
    storage: noStorage,
    policy: { allowedHosts: [server.host] },
    ...options,
  });
  return {
    folder,
    result: fetcher.fetch({ url: `${server.origin}/picture`, field, role: 'start' }, folder, signal),
  };
}
type Tap = Parameters<typeof startServer>[0];

async function pixelsOf(file: string, expected: { width: number; height: number }) {
  const image = sharp(file);
  const metadata = await image.metadata();
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  const pixel = (x: number, y: number) => [
    ...data.subarray(
      (y * info.width + x) * info.channels,
      (y * info.width + x) * info.channels + info.channels,
    ),
  ];
  return { metadata, ...expected, info, pixel };
}
const isNear = (pixel: number[], expected: number[]) =>
  pixel.length === expected.length &&
  pixel.every((value, index) => Math.abs(value - (expected[index] ?? 0)) < 40);

for (const type of ['png', 'jpeg', 'webp', 'gif', 'avif'] as const) {
  void t.test(`${type} becomes a plain PNG, whatever the server calls it`, async (t) => {
    const { result, folder } = await fetchBytes(t, await halves().toFormat(type, { quality: 95 }).toBuffer());
    const reference = await result;
    t.match(reference, { width, height, contentType: 'image/png' });
    const { metadata, pixel } = await pixelsOf(reference.path, { width, height });
    t.match(metadata, { format: 'png', width, height, channels: 3, depth: 'uchar', space: 'srgb' });
    t.ok(isNear(pixel(4, 16), [255, 0, 0]), 'left is red');
    t.ok(isNear(pixel(44, 16), [0, 0, 255]), 'right is blue');
    t.same(await readdir(folder), ['reference-start.png'], 'nothing else is left');
  });
}

void t.test('EXIF orientation is applied and metadata dropped', async (t) => {
  const turned = await halves()
    .withExif({ IFD0: { ImageDescription: 'where I live' } })
    .withMetadata({ orientation: 6 })
    .withXmp('<x:xmpmeta xmlns:x="adobe:ns:meta/"><secret/></x:xmpmeta>')
    .jpeg({ quality: 95 })
    .toBuffer();
  t.ok(turned.includes('where I live') || turned.includes('secret'), 'there is metadata to drop');
  const reference = await (await fetchBytes(t, turned)).result;
  t.match(reference, { width: height, height: width }, 'turned by 90°');
  const { metadata, pixel } = await pixelsOf(reference.path, reference);
  t.ok(isNear(pixel(16, 4), [255, 0, 0]), 'what was left is on top');
  t.ok(isNear(pixel(16, 44), [0, 0, 255]));
  t.match(metadata, { exif: undefined, xmp: undefined, icc: undefined, orientation: undefined });
  const bytes = await readFile(reference.path);
  t.notOk(bytes.includes('where I live') || bytes.includes('secret'));
});

void t.test('16 bits, transparency, CMYK and greyscale are made 8-bit sRGB on white', async (t) => {
  const half = {
    create: { width, height, channels: 4, background: { r: 0, g: 0, b: 255, alpha: 0 } },
  } as const;
  const variants: Array<[string, Buffer, number[]]> = [
    ['transparent', await sharp(half).png().toBuffer(), [255, 255, 255]],
    ['16-bit', await halves().toColourspace('rgb16').png().toBuffer(), [255, 0, 0]],
    ['CMYK', await halves().toColourspace('cmyk').jpeg({ quality: 95 }).toBuffer(), [255, 0, 0]],
    [
      'greyscale',
      await sharp({ create: { width, height, channels: 3, background: '#808080' } })
        .greyscale()
        .png()
        .toBuffer(),
      [128, 128, 128],
    ],
  ];
  for (const [name, bytes, expected] of variants) {
    const reference = await (await fetchBytes(t, bytes)).result;
    const { metadata, pixel } = await pixelsOf(reference.path, reference);
    t.match(metadata, { channels: 3, depth: 'uchar', space: 'srgb' }, name);
    t.ok(isNear(pixel(2, 2), expected), `${name}: ${pixel(2, 2).join()}`);
  }
});

void t.test('of an animation the first frame is taken', async (t) => {
  const frame = (background: string) =>
    sharp({ create: { width, height, channels: 3, background } })
      .png()
      .toBuffer();
  const animation = await sharp([await frame('#f00'), await frame('#00f'), await frame('#0f0')], {
    join: { animated: true },
  })
    .gif({ delay: [100, 100, 100] })
    .toBuffer();
  t.equal((await sharp(animation).metadata()).pages, 3);
  const reference = await (await fetchBytes(t, animation)).result;
  t.match(reference, { width, height });
  t.ok(isNear((await pixelsOf(reference.path, reference)).pixel(10, 10), [255, 0, 0]));
});

void t.test('a large picture is made smaller, never larger', async (t) => {
  const bytes = await sharp({ create: { width: 3000, height: 1500, channels: 3, background: '#123456' } })
    .jpeg()
    .toBuffer();
  t.match(await (await fetchBytes(t, bytes)).result, { width: 2048, height: 1024 });
});

void t.test('what is no acceptable picture is refused by its content', async (t) => {
  const good = await halves().jpeg().toBuffer();
  const bomb = hollowPng(6000, 6001, 6001);
  t.ok(bomb.length < 200_000, `a bomb of ${bomb.length} bytes for ${6000 * 6001 * 3}`);
  const cases: Array<[name: string, bytes: Buffer, rule: string]> = [
    ['text', Buffer.from('This is not a picture'), 'type'],
    ['nothing', Buffer.alloc(0), 'type'],
    ['one byte', Buffer.from([0xff]), 'type'],
    [
      'SVG',
      Buffer.from(
        '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><image href="file:///etc/passwd"/></svg>',
      ),
      'type',
    ],
    ['HTML', Buffer.from('<!doctype html><img src=x>'), 'type'],
    ['PDF', Buffer.from('%PDF-1.7\n'), 'type'],
    ['TIFF', await halves().tiff().toBuffer(), 'type'],
    [
      'a video',
      Buffer.concat([Buffer.from([0, 0, 0, 24]), Buffer.from('ftypisom\0\0\x02\0isomiso2mp41')]),
      'type',
    ],
    ['a JPEG that ends early', good.subarray(0, good.length / 2), 'decodable'],
    ['a PNG that ends early', (await halves().png().toBuffer()).subarray(0, 60), 'decodable'],
    [
      'a PNG header and garbage',
      Buffer.concat([Buffer.from('\x89PNG\r\n\x1a\n', 'latin1'), Buffer.alloc(500, 7)]),
      'decodable',
    ],
    ['a GIF header alone', Buffer.from('GIF89a\x10\x27\x10\x27'), 'decodable'],
    [
      'an AVIF without data',
      Buffer.concat([Buffer.from([0, 0, 0, 24]), Buffer.from('ftypavif\0\0\0\0avifmif1')]),
      'decodable',
    ],
    [
      '2 × 2 pixels',
      await sharp({ create: { width: 2, height: 2, channels: 3, background: 'red' } })
        .png()
        .toBuffer(),
      'pixels',
    ],
    ['a bomb of 100,000 × 100,000', hollowPng(100_000, 100_000, 1), 'pixels'],
    ['a bomb of 2³¹−1 × 2³¹−1', hollowPng(2 ** 31 - 1, 2 ** 31 - 1, 0), 'decodable|pixels'],
    ['a bomb one row over the limit', bomb, 'pixels'],
  ];
  for (const [name, bytes, rule] of cases) {
    const { result, folder } = await fetchBytes(t, bytes);
    const failure = await failureOf(result);
    t.match(failure, { code: 'INVALID_PARAMETERS', rule: new RegExp(`^(${rule})$`), field }, name);
    t.notOk(failure.message.includes(folder), 'no path of this machine is told');
    t.same(
      (await readdir(folder)).filter((file) => !file.endsWith('.part')),
      [],
      'nothing is left to be used',
    );
  }
});

void t.test('the largest picture that is accepted decodes within the memory limit', async (t) => {
  const bytes = hollowPng(6000, 6000, 6000);
  t.match(await (await fetchBytes(t, bytes)).result, { width: 2048, height: 2048 });
});

void t.test('a decoder that needs more than its memory or time is ended', async (t) => {
  const bytes = await sharp({ create: { width: 5000, height: 5000, channels: 3, background: '#888' } })
    .png()
    .toBuffer();
  const { result: memory } = await fetchBytes(t, bytes, { limits: { maxMemoryBytes: 40 * 1024 * 1024 } });
  t.match(await failureOf(memory), { code: 'INVALID_PARAMETERS', rule: 'decodable', message: /memory/ });
  const { result: time } = await fetchBytes(t, bytes, { decodeTimeoutMs: 20 });
  t.match(await failureOf(time), { code: 'INVALID_PARAMETERS', rule: 'decodable', message: /longer than/ });
});

void t.test('size is limited by the bytes that come, whatever the header says', async (t) => {
  const maxBytes = 50_000;
  const folder = await temporaryFolder(t);
  let sent = 0;
  const server = await startServer(t, (request, response) => {
    if (request.url === '/declared')
      return void response
        .writeHead(200, { 'content-length': String(10 * maxBytes) })
        .end(Buffer.alloc(10 * maxBytes));
    response.writeHead(200);
    const send = () => {
      while (!response.destroyed && sent < 500 * 1024 * 1024 && response.write(Buffer.alloc(16_384)))
        sent += 16_384;
    };
    response.on('drain', send);
    send();
  });
  const fetcher = createReferenceFetcher({
    storage: noStorage,
    policy: { allowedHosts: [server.host] },
    maxBytes,
  });
  for (const path of ['declared', 'endless'])
    t.match(
      await failureOf(
        fetcher.fetch({ url: `${server.origin}/${path}`, field, role: 'start' }, folder, signal),
      ),
      { code: 'INVALID_PARAMETERS', rule: 'size', field },
      path,
    );
  t.ok(sent < 100 * 1024 * 1024, `the server could send ${sent} bytes`);
});

void t.test("what may work later is not the producer's fault", async (t) => {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, (request, response) => {
    const status = Number(request.url?.slice(1));
    if (request.url === '/hang') return;
    if (request.url === '/drip') return void response.write('x');
    if (request.url === '/cut')
      return void response.writeHead(200, { 'content-length': '1000' }).write('x', () => response.destroy());
    if (request.url === '/reset') return void request.socket.destroy();
    response.writeHead(status).end();
  });
  const fetcher = createReferenceFetcher({
    storage: noStorage,
    policy: { allowedHosts: [server.host, '127.0.0.1:1'] },
    timeoutMs: 400,
  });
  const codeOf = async (path: string) =>
    (
      await failureOf(
        fetcher.fetch(
          { url: path.includes(':') ? path : `${server.origin}/${path}`, field, role: 'start' },
          folder,
          signal,
        ),
      )
    ).code;
  for (const path of [
    '500',
    '502',
    '503',
    '504',
    '429',
    '408',
    '425',
    'hang',
    'drip',
    'cut',
    'reset',
    'http://127.0.0.1:1/',
  ])
    t.equal(await codeOf(path), 'UNAVAILABLE', path);
  for (const path of ['400', '401', '403', '404', '410', '204', '206'])
    t.equal(await codeOf(path), 'INVALID_PARAMETERS', path);
});

void t.test('aborting ends a download with the reason', async (t) => {
  const folder = await temporaryFolder(t);
  const server = await startServer(t, (_request, response) => {
    response.write('x');
  });
  const fetcher = createReferenceFetcher({ storage: noStorage, policy: { allowedHosts: [server.host] } });
  const controller = new AbortController();
  const reason = new Error('cancelled');
  setTimeout(() => controller.abort(reason), 50);
  await t.rejects(
    fetcher.fetch({ url: `${server.origin}/`, field, role: 'start' }, folder, controller.signal),
    reason,
  );
});

void t.test('pictures in buckets', async (t) => {
  const picture = await halves().png().toBuffer();
  const asked: string[] = [];
  const fetcher = createReferenceFetcher({
    policy: { allowedHosts: [] },
    storage: {
      read: async (bucket, name) => {
        asked.push(`${bucket} ${name}`);
        if (name === 'large.png') throw new StorageError('too large', 'too_large', false);
        if (name === 'down.png') throw new StorageError('no answer', 'unavailable', true);
        if (name === 'broken.png') throw new TypeError('a defect');
        return picture;
      },
    },
  });
  const folder = await temporaryFolder(t);
  const fetch = (url: string) => fetcher.fetch({ url, field, role: 'end' }, folder, signal);
  t.match(await fetch('workspace_assets/u1/my picture.png'), { width, height });
  t.same(asked, ['workspace_assets u1/my picture.png']);
  t.match(await failureOf(fetch('reference_images/large.png')), { rule: 'size', field });
  t.match(await failureOf(fetch('reference_images/down.png')), { code: 'UNAVAILABLE' });
  await t.rejects(
    fetch('reference_images/broken.png'),
    TypeError,
    "a defect of ours is not called the producer's",
  );
  t.match(
    await failureOf(fetch('sdxl_image_fast/u1/j1/0.png')),
    { rule: 'owner' },
    "nobody's pictures but the user's own",
  );
  t.match(await failureOf(fetch('secrets/u1/0.png')), { rule: 'url' }, 'other buckets are not read');
});
