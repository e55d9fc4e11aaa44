import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ClassicLevel } from 'classic-level';
import { errors, type Trouble } from '../../../lib/errors.js';
import { isQueueName } from '../../catalogue.js';
import type { JobRecord } from '../job-store.js';
import {
  createPassOver,
  type DeadLetter,
  has,
  isCallback,
  isObject,
  isRecord,
  type PassOverLog,
} from '../records.js';
import { createChangesInMemory, type Hold, type OutboxEntry } from '../store-parts.js';
import type { StoredEntry } from './waiting-line.js';

/** A job's record and what only the store needs of it. */
export interface StoredJob {
  record: JobRecord;
  /** Of the payload it was made from; absent in records of older versions. */
  identity?: string;
  /** The entry that stands for the job on its queue, while it waits or runs. */
  entrySeq?: number;
  /** The lease that finished it: the same call made twice gets the same answer. */
  finishedByToken?: string;
}
export interface StoredCallback {
  seq: number;
  entry: OutboxEntry;
}
export interface StoredDeadLetter {
  /** With the producer's whole string, or its beginning where it was too large to be read. */
  letter: Omit<DeadLetter, 'payloadBytes' | 'encoding'>;
  /** The size of what was too large. */
  bytes?: number;
  /** The lease that ended with it. */
  token: string;
}
export interface StoredDeadCallback {
  entry: OutboxEntry;
  atMs: number;
}
export interface StoredKey {
  jobId: string;
  fingerprint: string;
  atMs: number;
}

export type Write = { type: 'put'; key: string; value: unknown } | { type: 'del'; key: string };
/**
 * A step: written first, then applied to what memory holds, so that a write that fails has changed nothing.
 */
export interface Change {
  writes: Write[];
  apply(): void;
}
interface Range {
  after?: string;
  limit?: number;
  reverse?: boolean;
}

/** Opening writes what memory held, up to 4 MiB, as a table. */
const roomToOpenBytes = 5 * 1024 * 1024;

/** Two services on one DATA_DIR. */
export class FolderInUse extends Error {
  readonly trouble: Trouble;

  constructor(folder: string, pid: number | null, options: ErrorOptions) {
    const holder = pid === null ? 'another process' : `the process ${pid}`;
    const trouble: Trouble = {
      code: 'data_dir_in_use',
      severity: 'critical',
      target: 'DATA_DIR',
      what: 'Another service uses this DATA_DIR',
      cause: `the embedded queue in ${folder} is in use by ${holder}`,
      cure: 'Stop that one, give each service its own DATA_DIR, or let them share a queue through REDIS_URL.',
    };
    super(`${trouble.what}: ${trouble.cause}. ${trouble.cure}`, options);
    this.name = 'FolderInUse';
    this.trouble = trouble;
  }
}

/** Who has the lock of a file, where the system tells (Linux). */
async function holderOf(file: string): Promise<number | null> {
  const { ino } = await stat(file).catch(() => ({ ino: -1 }));
  const locks = await readFile('/proc/locks', 'utf8').catch(() => '');
  const [, pid] = new RegExp(`WRITE (\\d+) [0-9a-f]+:[0-9a-f]+:${ino} `).exec(locks) ?? [];
  return pid === undefined ? null : Number(pid);
}

export type Database = Awaited<ReturnType<typeof openDatabase>>;

/**
 * Opens the LevelDB folder. Its lock admits one process; a second one gets an error that says so.
 * Tables are key prefixes, so that one batch (which LevelDB writes atomically) can touch several of them.
 */
export async function openDatabase(folder: string, log?: PassOverLog) {
  const passOver = createPassOver('the embedded queue', log);
  await mkdir(folder, { recursive: true });
  const level = new ClassicLevel<string, unknown>(folder, { keyEncoding: 'utf8', valueEncoding: 'json' });
  try {
    await level.open();
  } catch (error) {
    const cause = (error as { cause?: { code?: string; message?: string } }).cause;
    if (cause?.code === 'LEVEL_LOCKED') {
      throw new FolderInUse(folder, await holderOf(path.join(folder, 'LOCK')), { cause: error });
    }
    throw new Error(`The embedded queue in ${folder} cannot be opened: ${cause?.message ?? String(error)}`, {
      cause: error,
    });
  }

  let closing = false;
  /** Whoever asks while the service stops, or after, is told so; what was begun before may not end. */
  const asSaid = (error: unknown) =>
    closing ? errors.unavailable('The queue is closed: the service is stopping') : error;

  async function whileOpen<T>(work: () => Promise<T>): Promise<T> {
    if (closing) throw asSaid(undefined);
    try {
      return await work();
    } catch (error) {
      throw asSaid(error);
    }
  }

  /** What is no JSON, or not what belongs there, is passed over. */
  function table<T>(name: string, isRight: (value: unknown) => boolean) {
    const prefix = `${name}!`;
    const asText = { valueEncoding: 'utf8' } as const;
    function read(key: string, text: string): T | undefined {
      try {
        const value: unknown = JSON.parse(text);
        if (isRight(value)) return value as T;
        throw new Error('it is not what it should be');
      } catch (error) {
        passOver(key, error);
        return undefined;
      }
    }
    return {
      put: (key: string, value: T): Write => ({ type: 'put', key: prefix + key, value }),
      del: (key: string): Write => ({ type: 'del', key: prefix + key }),
      has: (key: string) => whileOpen(() => level.has(prefix + key)),
      get: (key: string) =>
        whileOpen(async () => {
          const text = await level.get<string, string>(prefix + key, asText);
          return text === undefined ? undefined : read(prefix + key, text);
        }),
      /** The keys of what cannot be read. */
      async *unreadable(): AsyncGenerator<string> {
        const range = { gt: prefix, lt: `${name}"`, ...asText };
        for await (const [key, text] of level.iterator<string, string>(range))
          if (read(key, text) === undefined) yield key.slice(prefix.length);
      },
      /** In key order, from after `after`. */
      async *entries({ after = '', limit = -1, reverse = false }: Range = {}): AsyncGenerator<
        [key: string, value: T]
      > {
        const range = { gt: prefix + after, lt: `${name}"`, reverse, ...asText };
        let left = limit;
        try {
          for await (const [key, text] of level.iterator<string, string>(range)) {
            if (left === 0) return;
            const value = read(key, text);
            if (value === undefined) continue;
            left -= 1;
            yield [key.slice(prefix.length), value];
          }
        } catch (error) {
          throw asSaid(error);
        }
      },
    };
  }

  const changes = createChangesInMemory();
  let torn = false;

  /**
   * One atomic batch; one at a time. `durable` waits until the disk has it: a power cut cannot take it back
   * (a killed process cannot in either case). A write that fails may leave half a record in the log, and
   * LevelDB's recovery drops what comes behind one: before the next write the database is opened anew, which
   * begins a new log. Until there is room for that it is read as it is.
   */
  async function write(writes: Write[], options: { durable: boolean }): Promise<void> {
    if (writes.length === 0) return;
    if (torn) {
      const probe = path.join(folder, 'probe');
      await writeFile(probe, Buffer.alloc(roomToOpenBytes)).finally(() => rm(probe, { force: true }));
      await level.close();
      await level.open();
      torn = false;
    }
    try {
      await level.batch(writes, { sync: options.durable });
    } catch (error) {
      torn = true;
      throw error;
    }
    for (const one of writes)
      if (one.type === 'put' && one.key.startsWith('job!')) changes.note((one.value as StoredJob).record);
  }

  return {
    entries: table<StoredEntry>('entry', isEntry),
    payloads: table<string>('payload', isText),
    jobs: table<StoredJob>('job', (value) => isObject(value) && isRecord(value['record'])),
    /** Listing order -> nothing; the order is in the key. */
    listing: table<0>('listing', () => true),
    /** Finishing time and id -> listing key, for forgetting old records. */
    finished: table<string>('finished', isText),
    idempotencyKeys: table<StoredKey>('idempotency', (value) =>
      has(value, { atMs: 'number', jobId: 'string' }),
    ),
    deadLetters: table<StoredDeadLetter>('dead', (value) => isObject(value) && isLetter(value['letter'])),
    callbacks: table<StoredCallback>('callback', (value) => has(value, { seq: 'number' }) && isKept(value)),
    deadCallbacks: table<StoredDeadCallback>(
      'deadcallback',
      (value) => has(value, { atMs: 'number' }) && isKept(value),
    ),
    holds: table<Hold>('hold', (value) => has(value, { by: 'string', sinceMs: 'number' })),
    changes: changes.changes,
    write: (writes: Write[], options: { durable: boolean }) => whileOpen(() => write(writes, options)),
    ping: async () => {
      await whileOpen(() => level.get('ping'));
    },
    close() {
      closing = true;
      return level.close();
    },
  };
}

const isText = (value: unknown) => typeof value === 'string';
const isEntry = (value: unknown) =>
  has(value, { jobId: 'string', type: 'string', userId: 'string' }) &&
  has(value, { seq: 'number', attempts: 'number', queuedAtMs: 'number' }) &&
  isQueueName(value['queue']);
const isLetter = (value: unknown) =>
  has(value, { id: 'string', payload: 'string', reason: 'string', attempts: 'number', atMs: 'number' }) &&
  isQueueName(value['queue']);
const isKept = ({ entry }: Record<string, unknown>) =>
  isCallback(entry) && has(entry, { attempts: 'number', nextAttemptAtMs: 'number' });

/** Numbers as keys that sort like the numbers. */
export function sortable(value: number): string {
  return String(Math.max(0, Math.floor(value))).padStart(16, '0');
}
