import { createHash } from 'node:crypto';
import { open, rename, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { crc32 } from 'node:zlib';
import sharp from 'sharp';
import { type GeneratedFile, type ImageFormat, pictureExtensions } from '../generation.js';

const contentTypes: Record<ImageFormat, string> = {
  png: 'image/png',
  webp: 'image/webp',
  jpeg: 'image/jpeg',
};

/** What a request says of the picture files it wants. */
export interface PictureRequest {
  /** Existing folder. */
  outputDir: string;
  format: ImageFormat;
  /** Its first `Seed: {seed}` becomes the picture's own. */
  parametersText: string;
}

/** File of the picture that a request calls `name`. */
export function pictureFile({ outputDir, format }: PictureRequest, name: string): string {
  return path.join(outputDir, `${name}.${pictureExtensions[format]}`);
}

/** Encodes, with the generation parameters inside the file, and writes it whole or not at all. */
export async function writeImage(
  request: PictureRequest,
  name: string,
  picture: Picture,
  seed: number,
): Promise<GeneratedFile> {
  const parameters = request.parametersText.replace('Seed: {seed}', `Seed: ${seed}`);
  const bytes = await encodeImage(picture, request.format, parameters);
  const file = pictureFile(request, name);
  const partial = `${file}.part`;
  try {
    await writeFile(partial, bytes, { flush: true });
    await rename(partial, file);
  } catch (error) {
    await rm(partial, { force: true });
    throw error;
  }
  return {
    path: file,
    contentType: contentTypes[request.format],
    bytes: bytes.length,
    sha256: createHash('sha256').update(bytes).digest('hex'),
    width: picture.width,
    height: picture.height,
    seed,
  };
}

/** Gives a file that is written its name once the disk has all of it. */
export async function seal(partial: string, file: string): Promise<{ bytes: number; sha256: string }> {
  const handle = await open(partial, 'r+');
  const hash = createHash('sha256');
  try {
    await handle.sync();
    for await (const chunk of handle.createReadStream({ autoClose: false, highWaterMark: 2 ** 20 }))
      hash.update(chunk as Buffer);
    const { size } = await handle.stat();
    await rename(partial, file);
    return { bytes: size, sha256: hash.digest('hex') };
  } finally {
    await handle.close();
  }
}

async function encodeImage(picture: Picture, format: ImageFormat, parameters: string): Promise<Buffer> {
  const image = sharp(picture.data, { raw: { width: picture.width, height: picture.height, channels: 3 } });
  if (format === 'png')
    // level 6 takes twice to four times as long for the same size, to a thousandth
    return insertText(await image.png({ compressionLevel: 3 }).toBuffer(), 'parameters', parameters);
  const described = image.withExif({ IFD0: { ImageDescription: parameters } });
  return format === 'webp'
    ? described.webp({ quality: 92 }).toBuffer()
    : described.jpeg({ quality: 92, chromaSubsampling: '4:4:4' }).toBuffer();
}

/**
 * Adds an iTXt chunk (UTF-8, PNG specification 11.3.3.4) behind the header; the keyword is the one
 * A1111-style tools read.
 */
function insertText(png: Buffer, keyword: string, text: string): Buffer {
  const body = Buffer.concat([
    Buffer.from('iTXt'),
    Buffer.from(keyword, 'latin1'),
    Buffer.from([0, 0, 0, 0, 0]),
    Buffer.from(text, 'utf8'),
  ]);
  const chunk = Buffer.alloc(body.length + 8);
  chunk.writeUInt32BE(body.length - 4, 0);
  body.copy(chunk, 4);
  chunk.writeUInt32BE(crc32(body), body.length + 4);
  // signature 8 bytes, header chunk 25
  return Buffer.concat([png.subarray(0, 33), chunk, png.subarray(33)]);
}

/** Reads a picture file fitted to a size: centre crop, never stretched. */
export function readPicture(file: string, width: number, height: number): Promise<Picture> {
  return readFitted(file, width, height, 'cover');
}

/** Reads a picture file fitted to a size whole, with white around it where its shape differs. */
export function readPadded(file: string, width: number, height: number): Promise<Picture> {
  return readFitted(file, width, height, 'contain');
}

async function readFitted(
  file: string,
  width: number,
  height: number,
  fit: 'cover' | 'contain',
): Promise<Picture> {
  const data = await sharp(file)
    .rotate()
    .flatten({ background: '#ffffff' })
    .resize(width, height, { fit, background: '#ffffff', kernel: 'lanczos3' })
    .toColourspace('srgb')
    .removeAlpha()
    .raw()
    .toBuffer();
  return { data: new Uint8Array(data), width, height };
}

const largestPreview = 512;

/** WebP of latents seen as colours, in the picture's shape, at most 512 pixels a side. */
export async function writePreview(
  file: string,
  pixels: Picture,
  width: number,
  height: number,
): Promise<void> {
  const scale = Math.min(1, largestPreview / Math.max(width, height));
  await sharp(pixels.data, { raw: { width: pixels.width, height: pixels.height, channels: 3 } })
    .resize(Math.round(width * scale), Math.round(height * scale), { kernel: 'cubic' })
    .webp({ quality: 70, effort: 2 })
    .toFile(file);
}

/** Pixels as 8-bit RGB rows, [height, width, 3]. */
export interface Picture {
  data: Uint8Array;
  width: number;
  height: number;
}

/** [3, height, width] in [-1, 1], as the graphs take pictures. */
export function toPlanes({ data, width, height }: Picture): Float32Array {
  const pixels = width * height;
  const planes = new Float32Array(pixels * 3);
  for (let i = 0; i < pixels; i += 1) {
    for (let channel = 0; channel < 3; channel += 1)
      planes[channel * pixels + i] = (data[i * 3 + channel] as number) / 127.5 - 1;
  }
  return planes;
}

/** The middle of a picture; the picture itself when it has that size. */
export function cropCentre(picture: Picture, width: number, height: number): Picture {
  if (picture.width === width && picture.height === height) return picture;
  const [left, top] = [Math.floor((picture.width - width) / 2), Math.floor((picture.height - height) / 2)];
  const data = new Uint8Array(width * height * 3);
  for (let row = 0; row < height; row += 1) {
    const from = ((top + row) * picture.width + left) * 3;
    data.set(picture.data.subarray(from, from + width * 3), row * width * 3);
  }
  return { data, width, height };
}

/** The pictures of a decoded chunk: round(255·(x/2 + 0.5)), halves to even. */
export function toPictures(chunk: Float32Array, width: number, height: number): Picture[] {
  const area = width * height;
  return Array.from({ length: chunk.length / (3 * area) }, (_, frame) => {
    // Uint8ClampedArray rounds halves to even and clamps to 0–255, which is the rule
    const data = new Uint8ClampedArray(area * 3);
    for (let channel = 0; channel < 3; channel += 1) {
      const from = (frame * 3 + channel) * area;
      for (let i = 0; i < area; i += 1) data[i * 3 + channel] = ((chunk[from + i] as number) / 2 + 0.5) * 255;
    }
    return { data: new Uint8Array(data.buffer), width, height };
  });
}
