import { open, rename } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { download } from './download.js';
import type { DecodeTask, PictureAnswer, PictureTask } from './picture-process.js';
import { PictureProblem } from './url-policy.js';

/**
 * Downloads or decodes one untrusted picture: a task as JSON on stdin, an answer as one line of JSON on
 * stdout. A process of its own, because a parser that crashes or a decoder that eats memory must take nothing
 * with it; it knows no secret.
 */
const loaders: Record<(typeof pictureTypes)[number], string> = {
  jpeg: 'VipsForeignLoadJpeg',
  png: 'VipsForeignLoadPng',
  webp: 'VipsForeignLoadWebp',
  gif: 'VipsForeignLoadNsgif',
  avif: 'VipsForeignLoadHeif',
};

async function decode({
  input,
  output,
  format = 'png',
  limits,
}: DecodeTask): Promise<{ width: number; height: number }> {
  const { default: sharp } = await import('sharp');
  const head = await headOf(input);
  const type = pictureTypeOf(head);
  if (type === null) {
    const accepted = `accepted are ${pictureTypes.join(', ')}`;
    throw new PictureProblem('type', `is ${otherTypeOf(head)}; ${accepted}`);
  }
  sharp.block({ operation: ['VipsForeignLoad'] });
  sharp.unblock({ operation: [loaders[type]] });
  sharp.concurrency(1);
  sharp.cache(false);
  // libvips works on threads of its own: this timer runs beside it.
  setInterval(() => {
    if (process.memoryUsage.rss() > limits.maxMemoryBytes)
      answerProblem(new PictureProblem('decodable', 'needs more memory to decode than is allowed'));
  }, 10).unref();
  const options = {
    limitInputPixels: limits.maxPixels,
    failOn: 'error',
    pages: 1,
    page: 0,
    sequentialRead: false,
  } as const;
  try {
    const { width, height } = await sharp(input, { ...options, limitInputPixels: false }).metadata();
    const size = `${width}×${height} pixels`;
    if (width * height > limits.maxPixels)
      throw new PictureProblem('pixels', `has ${size}; at most ${limits.maxPixels} are accepted`);
    if (Math.min(width, height) < limits.minSide)
      throw new PictureProblem('pixels', `has ${size}; at least ${limits.minSide} each way are needed`);
    const partial = `${output}.part`;
    const { targetSide } = limits;
    const picture = sharp(input, options)
      .rotate()
      .resize({ width: targetSide, height: targetSide, fit: 'inside', withoutEnlargement: true })
      .flatten({ background: '#ffffff' })
      .toColourspace('srgb');
    const encoded = format === 'webp' ? picture.webp() : picture.png({ compressionLevel: 3 });
    const info = await encoded.toFile(partial);
    await rename(partial, output);
    return { width: info.width, height: info.height };
  } catch (error) {
    if (error instanceof PictureProblem) throw error;
    // File names of this machine are nobody's business.
    const [line = ''] = (error instanceof Error ? error.message : String(error)).split('\n');
    const reason = line.replaceAll(input, 'the file').replace(/[:\s]+$/, '');
    throw new PictureProblem('decodable', `cannot be decoded: ${reason}`);
  }
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

function answer(result: PictureAnswer): void {
  process.stdout.write(`${JSON.stringify(result)}\n`, () => process.exit(0));
}

function answerProblem(error: unknown): void {
  if (!(error instanceof PictureProblem)) throw error;
  answer({ ok: false, rule: error.rule, problem: error.message, peakBytes: peakBytes() });
}

type PictureType = 'jpeg' | 'png' | 'webp' | 'gif' | 'avif';

const pictureTypes: readonly PictureType[] = ['jpeg', 'png', 'webp', 'gif', 'avif'];

/** Enough of a file for `pictureTypeOf` and `otherTypeOf`. */
const headBytes = 1024;

/**
 * The type a file's first bytes say it has; what a server or a name claims does not count. Null: none that is
 * accepted.
 */
function pictureTypeOf(head: Buffer): PictureType | null {
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

/** What people send instead, in words: a refusal that names it is understood. */
function otherTypeOf(head: Buffer): string {
  const text = head.toString('latin1');
  const brand = text.slice(4, 8) === 'ftyp' ? text.slice(8, 12) : '';
  if (head.length === 0) return 'an empty file';
  if (/<svg[\s>]/i.test(text))
    return 'an SVG drawing, which is a program rather than a picture: send it as PNG';
  if (/^(heic|heix|hevc|mif1|msf1)/.test(brand)) return 'a HEIC picture, which browsers do not show either';
  if (brand !== '' || text.startsWith('\x1aE\xdf\xa3')) return 'a video; send one of its frames as a picture';
  if (text.startsWith('BM')) return 'a BMP picture';
  if (text.startsWith('\0\0\x01\0')) return 'an ICO picture';
  if (/^(II\*\0|MM\0\*)/.test(text)) return 'a TIFF picture';
  if (text.startsWith('\xff\x0a') || text.startsWith('\0\0\0\x0cJXL ')) return 'a JPEG XL picture';
  if (text.startsWith('%PDF')) return 'a PDF document';
  if (/^\s*(<!doctype html|<html|<head|<body)/i.test(text)) return 'a web page, not the picture in it';
  return 'not a picture';
}

const peakBytes = () => process.resourceUsage().maxRSS * 1024;

async function run(task: PictureTask): Promise<{ width: number; height: number } | null> {
  if (task.kind === 'decode') return decode(task);
  await download(task);
  return null;
}

run(JSON.parse(await text(process.stdin)) as PictureTask).then(
  (size) => answer({ ok: true, size, peakBytes: peakBytes() }),
  answerProblem,
);
