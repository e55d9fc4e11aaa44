import { mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { ClassicLevel } from 'classic-level';
import { errors } from '../../../lib/errors.js';
import type { JobRecord } from '../job-store.js';
import type { OutboxEntry } from '../outbox.js';
import type { DeadLetter } from '../records.js';
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

export type Database = Awaited<ReturnType<typeof openDatabase>>;

/**
 * Opens the LevelDB folder. Its lock admits one process; a second one gets an error that says so.
 * Tables are key prefixes, so that one batch (which LevelDB writes atomically) can touch several of them.
 */
export async function openDatabase(folder: string) {
  await mkdir(folder, { recursive: true });
  const level = new ClassicLevel<string, unknown>(folder, { keyEncoding: 'utf8', valueEncoding: 'json' });
  try {
    await level.open();
  } catch (error) {
    const cause = (error as { cause?: { code?: string; message?: string } }).cause;
    if (cause?.code === 'LEVEL_LOCKED') {
      throw new Error(
        `The embedded queue in ${folder} is in use by another process. Give each process its own DATA_DIR, ` +
          'or share a queue through REDIS_URL.',
        { cause: error },
      );
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

  function table<T>(name: string) {
    const prefix = `${name}!`;
    return {
      put: (key: string, value: T): Write => ({ type: 'put', key: prefix + key, value }),
      del: (key: string): Write => ({ type: 'del', key: prefix + key }),
      get: (key: string) => whileOpen(() => level.get(prefix + key) as Promise<T | undefined>),
      /** In key order, from after `after`. */
      async *entries({ after = '', limit = -1, reverse = false }: Range = {}): AsyncGenerator<
        [key: string, value: T]
      > {
        const range = { gt: prefix + after, lt: `${name}"`, limit, reverse };
        try {
          for await (const [key, value] of level.iterator(range))
            yield [key.slice(prefix.length), value as T];
        } catch (error) {
          throw asSaid(error);
        }
      },
    };
  }

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
  }

  return {
    entries: table<StoredEntry>('entry'),
    payloads: table<string>('payload'),
    jobs: table<StoredJob>('job'),
    /** Listing order -> nothing; the order is in the key. */
    listing: table<0>('listing'),
    /** Finishing time and id -> listing key, for forgetting old records. */
    finished: table<string>('finished'),
    idempotencyKeys: table<StoredKey>('idempotency'),
    deadLetters: table<StoredDeadLetter>('dead'),
    callbacks: table<StoredCallback>('callback'),
    deadCallbacks: table<StoredDeadCallback>('deadcallback'),
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

/** Numbers as keys that sort like the numbers. */
export function sortable(value: number): string {
  return String(Math.max(0, Math.floor(value))).padStart(16, '0');
}
