import { open, rename } from 'node:fs/promises';
import sharp from 'sharp';
import type { DecodeAnswer, DecodeLimits } from './decode.js';

/**
 * Decodes one untrusted picture: `node decode-child.js <input> <output> <limits>`. A process of its own,
 * because a decoder that crashes or eats memory must take nothing with it; it is told nothing but two file
 * names.
 */
const loaders: Record<(typeof pictureTypes)[number], string> = {
  jpeg: 'VipsForeignLoadJpeg',
  png: 'VipsForeignLoadPng',
  webp: 'VipsForeignLoadWebp',
  gif: 'VipsForeignLoadNsgif',
  avif: 'VipsForeignLoadHeif',
};

const refused = (rule: 'type' | 'pixels' | 'decodable', problem: string) => ({
  ok: false as const,
  rule,
  problem,
});

async function decode(input: string, output: string, limits: DecodeLimits) {
  const type = pictureTypeOf(await headOf(input));
  if (type === null)
    return refused('type', `is not a picture of an accepted type (${pictureTypes.join(', ')})`);
  sharp.block({ operation: ['VipsForeignLoad'] });
  sharp.unblock({ operation: [loaders[type]] });
  sharp.concurrency(1);
  sharp.cache(false);
  const options = {
    limitInputPixels: limits.maxPixels,
    failOn: 'error',
    pages: 1,
    page: 0,
    sequentialRead: false,
  } as const;
  const { width, height } = await sharp(input, { ...options, limitInputPixels: false }).metadata();
  if (width * height > limits.maxPixels)
    return refused('pixels', `has ${width}×${height} pixels; at most ${limits.maxPixels} are accepted`);
  if (Math.min(width, height) < limits.minSide)
    return refused('pixels', `has ${width}×${height} pixels; at least ${limits.minSide} each way are needed`);
  const partial = `${output}.part`;
  const info = await sharp(input, options)
    .rotate()
    .resize({ width: limits.targetSide, height: limits.targetSide, fit: 'inside', withoutEnlargement: true })
    .flatten({ background: '#ffffff' })
    .toColourspace('srgb')
    .png({ compressionLevel: 3 })
    .toFile(partial);
  await rename(partial, output);
  return { ok: true as const, width: info.width, height: info.height };
}

async function headOf(file: string): Promise<Buffer> {
  const handle = await open(file);
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(headBytes), 0, headBytes, 0);
    return buffer.subarray(0, bytesRead);
  } finally {
    await handle.close();
  }
}

function answer(result: { ok: true; width: number; height: number } | ReturnType<typeof refused>): void {
  const message: DecodeAnswer = { ...result, peakBytes: process.resourceUsage().maxRSS * 1024 };
  process.stdout.write(`${JSON.stringify(message)}\n`, () => process.exit(0));
}

const [input, output, limitsText] = process.argv.slice(2);
if (input === undefined || output === undefined || limitsText === undefined)
  throw new Error('usage: decode-child.js <input> <output> <limits as JSON>');
const limits = JSON.parse(limitsText) as DecodeLimits;
// libvips works on threads of its own: this timer runs beside it.
setInterval(() => {
  if (process.memoryUsage.rss() > limits.maxMemoryBytes)
    answer(refused('decodable', 'needs more memory to decode than is allowed'));
}, 10).unref();
decode(input, output, limits).then(answer, (error: unknown) =>
  answer(refused('decodable', `cannot be decoded: ${firstLine(error)}`)),
);

function firstLine(error: unknown): string {
  // File names of this machine are nobody's business.
  const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
  return line.replaceAll(input ?? '', 'the file').replace(/[:\s]+$/, '');
}

export type PictureType = 'jpeg' | 'png' | 'webp' | 'gif' | 'avif';

export const pictureTypes: readonly PictureType[] = ['jpeg', 'png', 'webp', 'gif', 'avif'];
/** Enough of a file for `pictureTypeOf`. */
export const headBytes = 64;

/**
 * The type a file's first bytes say it has; what a server or a name claims does not count. Null: none that is
 * accepted.
 */
export function pictureTypeOf(head: Buffer): PictureType | null {
  const ascii = (from: number, to: number) => head.toString('latin1', from, to);
  if (head[0] === 0xff && head[1] === 0xd8 && head[2] === 0xff) return 'jpeg';
  if (ascii(0, 8) === '\x89PNG\r\n\x1a\n') return 'png';
  if (ascii(0, 4) === 'RIFF' && ascii(8, 12) === 'WEBP') return 'webp';
  if (ascii(0, 6) === 'GIF87a' || ascii(0, 6) === 'GIF89a') return 'gif';
  // ISO base media: the brands stand behind the first box's name; `avis` is an AVIF sequence.
  if (ascii(4, 8) === 'ftyp' && /avi[fs]/.test(ascii(8, Math.min(head.length, head.readUInt32BE(0)))))
    return 'avif';
  return null;
}
