import { writeFile } from 'node:fs/promises';
import path from 'node:path';
import { deflateSync } from 'node:zlib';
import t from 'tap';
import sharp from 'sharp';
import { type DecodeLimits, runPictureProcess } from '../../src/services/references/picture-process.js';
import { hollowPng, pngChunk, signal, temporaryFolder } from './support.js';

const megabyte = 1024 * 1024;
const limits = { maxPixels: 36_000_000, minSide: 8, targetSide: 2048, maxMemoryBytes: 768 * megabyte };
/** A process that has loaded Node and libvips and nothing else holds about 80 MiB. */
const refusedWithinBytes = 250 * megabyte;

const decode = (input: string, folder: string, within: DecodeLimits) =>
  runPictureProcess(
    { kind: 'decode', input, output: path.join(folder, 'out.png'), limits: within },
    { timeoutMs: 30_000 },
    signal,
  );

/** A good picture with its size overwritten. */
function withPatch(picture: Buffer, patch: (bytes: Buffer) => void): Buffer {
  const bytes = Buffer.from(picture);
  patch(bytes);
  return bytes;
}

t.test('what a file says it would take is refused before it is taken', async (t) => {
  const small = () => sharp({ create: { width: 64, height: 64, channels: 3, background: '#123456' } });
  const jpeg = await small().jpeg().toBuffer();
  const startOfFrame = jpeg.indexOf(Buffer.from([0xff, 0xc0]));
  const gif = await small().gif().toBuffer();
  const frame = gif.indexOf(Buffer.from([0x2c, 0, 0, 0, 0, 64, 0, 64, 0]));
  const webp = await small().webp({ lossless: true }).toBuffer();
  const zeros = deflateSync(Buffer.alloc(400 * megabyte), { level: 9 });
  const bombs: Array<[name: string, bytes: Buffer]> = [
    ['PNG of 100,000 × 100,000', hollowPng(100_000, 100_000, 1)],
    ['PNG of 2³¹−1 × 2³¹−1', hollowPng(2 ** 31 - 1, 2 ** 31 - 1, 0)],
    ['PNG of 6,000 × 6,001, complete', hollowPng(6000, 6001, 6001)],
    [
      'JPEG of 65,500 × 65,500',
      withPatch(jpeg, (bytes) => {
        bytes.writeUInt16BE(65_500, startOfFrame + 5);
        bytes.writeUInt16BE(65_500, startOfFrame + 7);
      }),
    ],
    // The screen's size and the first frame's.
    [
      'GIF of 65,535 × 65,535',
      withPatch(gif, (bytes) => {
        for (const at of [6, frame + 5]) bytes.writeUInt32LE(0xffffffff, at);
      }),
    ],
    [
      'WebP of 16,384 × 16,384',
      withPatch(webp, (bytes) => {
        bytes.writeUInt32LE(((16_383 << 14) | 16_383) >>> 0, 21);
      }),
    ],
  ];
  for (const [name, bytes] of bombs) {
    const folder = await temporaryFolder(t);
    const input = path.join(folder, 'bomb');
    await writeFile(input, bytes);
    const answer = await decode(input, folder, limits);
    t.equal(answer.ok, false, `${name}: ${answer.ok ? 'decoded' : answer.problem}`);
    t.ok(
      answer.peakBytes > 0 && answer.peakBytes < refusedWithinBytes,
      `${name}: ${bytes.length} bytes took ${Math.round(answer.peakBytes / megabyte)} MiB`,
    );
  }

  // Compressed text and colour profiles beside a harmless picture: refused or ignored, never unpacked in
  // full.
  const latin1 = (text: string) => Buffer.from(text, 'latin1');
  const hidden: Array<[name: string, bytes: Buffer]> = [
    [
      'a profile of 400 MB',
      hollowPng(64, 64, 64, [pngChunk('iCCP', Buffer.concat([latin1('p\0\0'), zeros]))]),
    ],
    ['a text of 400 MB', hollowPng(64, 64, 64, [pngChunk('zTXt', Buffer.concat([latin1('t\0\0'), zeros]))])],
    [
      '200 texts of 7 MB',
      hollowPng(
        64,
        64,
        64,
        Array.from({ length: 200 }, (_, index) =>
          pngChunk(
            'zTXt',
            Buffer.concat([latin1(`t${index}\0\0`), deflateSync(Buffer.alloc(7 * megabyte), { level: 9 })]),
          ),
        ),
      ),
    ],
  ];
  for (const [name, bytes] of hidden) {
    const folder = await temporaryFolder(t);
    const input = path.join(folder, 'bomb');
    await writeFile(input, bytes);
    const answer = await decode(input, folder, { ...limits, maxMemoryBytes: refusedWithinBytes });
    t.ok(
      answer.peakBytes < refusedWithinBytes + 100 * megabyte,
      `${name} in ${bytes.length} bytes: ${answer.ok ? 'ignored' : answer.problem}, ${Math.round(answer.peakBytes / megabyte)} MiB`,
    );
  }
});
