import { readdir } from 'node:fs/promises';
import path from 'node:path';
import { addFile, beginChecksum } from './checksum.js';
import { sizeOf } from './download.js';
import { readRecord, type SourceRecord } from './record.js';

export interface PulledFolder { folder: string; record: SourceRecord }

/** Folders of the models folder that a pull made, sources included. */
export async function listPulled(modelsDir: string): Promise<PulledFolder[]> {
  const found: PulledFolder[] = [];
  for (const parent of [modelsDir, path.join(modelsDir, 'sources')]) {
    for (const entry of await readdir(parent, { withFileTypes: true }).catch(() => [])) {
      const folder = path.join(parent, entry.name);
      const record = entry.isDirectory() ? await readRecord(folder) : null;
      if (record !== null) found.push({ folder, record });
    }
  }
  return found;
}

/** Reads every byte of a pulled folder. @returns what is wrong, one sentence a file; empty when all is well */
export async function verifyFolder({ folder, record }: PulledFolder, onBytes: (count: number) => void): Promise<string[]> {
  const problems: string[] = [];
  for (const file of record.files) {
    const place = path.join(folder, file.path);
    const size = await sizeOf(place);
    if (size !== file.size) {
      problems.push(size === null ? `${file.path} is missing` : `${file.path} has ${size} bytes, not ${file.size}`);
      continue;
    }
    const hash = beginChecksum(file);
    await addFile(hash, place, file.size, onBytes);
    if (hash.digest('hex') !== file.checksum.value) problems.push(`${file.path} has another content than was pulled`);
  }
  return problems;
}
