import { readFile } from 'node:fs/promises';
import path from 'node:path';
import type { HubFile } from './hub.js';

/** What a pulled folder is, kept in it: `models verify` needs no network, and a later pull knows what is there. */
export interface SourceRecord {
  name: string;
  repository: string;
  commit: string;
  quantisation?: string;
  files: HubFile[];
}

export const recordName = 'ourvidz-source.json';

/** Null without a readable record. */
export async function readRecord(folder: string): Promise<SourceRecord | null> {
  try {
    const record = JSON.parse(await readFile(path.join(folder, recordName), 'utf8')) as SourceRecord;
    return Array.isArray(record.files) && typeof record.commit === 'string' ? record : null;
  } catch {
    return null;
  }
}
