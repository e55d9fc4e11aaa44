export type PictureType = 'jpeg' | 'png' | 'webp' | 'gif' | 'avif';

export const pictureTypes: readonly PictureType[] = ['jpeg', 'png', 'webp', 'gif', 'avif'];
/** Enough of a file for `pictureTypeOf`. */
export const headBytes = 64;

/** The type a file's first bytes say it has; what a server or a name claims does not count. Null: none that is accepted. */
export function pictureTypeOf(head: Buffer): PictureType | null {
  const ascii = (from: number, to: number) => head.toString('latin1', from, to);
  if (head[0] === 0xff && head[1] === 0xd8 && head[2] === 0xff) return 'jpeg';
  if (ascii(0, 8) === '\x89PNG\r\n\x1a\n') return 'png';
  if (ascii(0, 4) === 'RIFF' && ascii(8, 12) === 'WEBP') return 'webp';
  if (ascii(0, 6) === 'GIF87a' || ascii(0, 6) === 'GIF89a') return 'gif';
  // ISO base media: the brands stand behind the first box's name; `avis` is an AVIF sequence.
  if (ascii(4, 8) === 'ftyp' && /avi[fs]/.test(ascii(8, Math.min(head.length, head.readUInt32BE(0))))) return 'avif';
  return null;
}
