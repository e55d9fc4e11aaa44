import { createWriteStream } from 'node:fs';
import path from 'node:path';
import type { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { open, type Entry, type ZipFile } from 'yauzl';
import { CliError, exitCodes } from '../output.js';

/**
 * Takes single files out of a wheel (a zip file), each under the last part of its name, or the name `rename` gives it.
 * @throws CliError `failed` when one of them is not in it
 */
export async function unpackWheel(
  file: string,
  entries: readonly string[],
  targetOf: (entry: string) => string,
  signal: AbortSignal,
): Promise<void> {
  const missing = new Set(entries);
  const zip = await openZip(file);
  try {
    for await (const entry of entriesOf(zip)) {
      if (!missing.delete(entry.fileName)) continue;
      const target = targetOf(entry.fileName);
      await pipeline(await openEntry(zip, entry), createWriteStream(target, { mode: 0o644 }), { signal });
    }
  } finally {
    zip.close();
  }
  if (missing.size === 0) return;
  throw new CliError(`${path.basename(file)} lacks ${[...missing].join(', ')}`, exitCodes.serviceError);
}

function openZip(file: string): Promise<ZipFile> {
  return new Promise((resolve, reject) => {
    open(file, { lazyEntries: true, autoClose: false }, (error, zip) => {
      if (error !== null) reject(error);
      else resolve(zip);
    });
  });
}

async function* entriesOf(zip: ZipFile): AsyncGenerator<Entry> {
  for (;;) {
    const entry = await new Promise<Entry | null>((resolve, reject) => {
      zip
        .once('entry', resolve)
        .once('end', () => resolve(null))
        .once('error', reject);
      zip.readEntry();
    }).finally(() => zip.removeAllListeners());
    if (entry === null) return;
    yield entry;
  }
}

function openEntry(zip: ZipFile, entry: Entry): Promise<Readable> {
  return new Promise((resolve, reject) => {
    zip.openReadStream(entry, (error, stream) => {
      if (error !== null) reject(error);
      else resolve(stream);
    });
  });
}
