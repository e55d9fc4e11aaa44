import { EventEmitter } from 'node:events';
import { catalogue, isJobType, queueNames, type QueueName } from '../../catalogue.js';
import { isTerminal, listingKey, type PassOverLog, waitingRecord } from '../records.js';
import type { Lease } from '../job-store.js';
import { readPayload } from '../read-payload.js';
import { type Database, openDatabase, sortable, type StoredJob, type Write } from './database.js';
import { newLetter, openHolds } from './dead-letters.js';
import { createMutex } from '../../../lib/semaphore.js';
import { createEmbeddedOutbox } from './outbox.js';
import { createWaitingLine, type StoredEntry } from './waiting-line.js';

export interface LeasedEntry {
  entry: StoredEntry;
  lease: Lease;
  /** When the lease runs out, on the clock that nobody sets. */
  expiresAt: number;
}

/**
 * Entries that cannot be read are made again from the records of their jobs, or from their payloads; those of
 * which neither is left are kept as dead letters.
 */
async function mendEntries(database: Database, seqs: number[]): Promise<void> {
  const recordOf = new Map<number, StoredJob>();
  for await (const [, job] of database.jobs.entries())
    if (job.entrySeq !== undefined && !isTerminal(job.record)) recordOf.set(job.entrySeq, job);
  const writes: Write[] = [];
  for (const seq of seqs) {
    const key = sortable(seq);
    const stored = recordOf.get(seq);
    const payload = await database.payloads.get(key);
    const { type, id, ...read } = readPayload(payload ?? '', queueNames[0]);
    const queue = stored?.record.queue ?? (isJobType(type) ? catalogue[type].queue : undefined);
    if (queue === undefined) {
      const letter = newLetter(queueNames[0], payload ?? '', `its entry ${seq} cannot be read`, Date.now());
      writes.push(
        database.entries.del(key),
        database.payloads.del(key),
        database.deadLetters.put(letter.id, { letter, token: '' }),
      );
      continue;
    }
    const { record } = stored ?? {};
    const entry: StoredEntry = {
      seq,
      queue,
      jobId: record?.id ?? id,
      writtenId: record === undefined ? read.writtenId : (record.writtenId ?? record.id),
      type: record?.type ?? type,
      userId: record?.userId ?? read.userId,
      attempts: record?.attempts ?? 0,
      queuedAtMs: record?.createdAtMs ?? Date.now(),
      dueMs: 0,
      ...(stored?.identity === undefined ? {} : { identity: stored.identity }),
    };
    writes.push(database.entries.put(key, entry));
  }
  await database.write(writes, { durable: true });
}

export type Context = Awaited<ReturnType<typeof openContext>>;

/**
 * What the parts of the embedded store share: the database, and in memory what would be slow to look up
 * there.
 */
export async function openContext(options: {
  folder: string;
  now: () => number;
  monotonicNow: () => number;
  retentionMs: number;
  log: PassOverLog;
}) {
  const { folder, now, monotonicNow, retentionMs } = options;
  const database = await openDatabase(folder, options.log);
  const mutex = createMutex();
  const lines = Object.fromEntries(queueNames.map((queue) => [queue, createWaitingLine()])) as Record<
    QueueName,
    ReturnType<typeof createWaitingLine>
  >;
  /** By token. Leases are not written down: whoever opens the folder next knows that their holder is gone. */
  const leases = new Map<string, LeasedEntry>();
  /** Entries on disk, waiting or leased. */
  const entrySeqs = new Set<number>();
  /** Records of running jobs; progress changes here first. */
  const running = new Map<string, StoredJob>();
  const signals = new EventEmitter();
  signals.setMaxListeners(0);
  /**
   * When each queue was last found to hold nothing for its asker; work that came later must not be slept
   * through.
   */
  const foundEmpty = new Map<QueueName, { atMs: number; changes: number }>();
  let changes = 0;
  signals.on('work', () => {
    changes += 1;
  });
  let nextSeq = 1;

  const left: Write[] = [];
  const unread: number[] = [];
  for await (const key of database.entries.unreadable()) unread.push(Number(key));
  if (unread.length > 0) await mendEntries(database, unread);
  for await (const [, stored] of database.entries.entries()) {
    let entry = stored;
    const job =
      entry.dueMs === undefined || entry.jobId === '' ? undefined : await database.jobs.get(entry.jobId);
    // Whoever ran it is gone: it waits again.
    if (job?.record.status === 'processing' && job.entrySeq === entry.seq) {
      left.push(
        database.jobs.put(entry.jobId, {
          ...job,
          record: waitingRecord(
            job.record,
            {
              attempts: entry.attempts,
              outcome: 'lost',
              reason: `${job.record.workerId} ended while it ran`,
              dueMs: 0,
            },
            now(),
          ),
        }),
      );
      entry = { ...entry, dueMs: Math.min(entry.dueMs ?? 0, now()) };
    }
    lines[entry.queue].add(entry);
    entrySeqs.add(entry.seq);
    nextSeq = Math.max(nextSeq, entry.seq + 1);
  }
  await database.write(left, { durable: false });

  const loadJob = async (id: string): Promise<StoredJob | undefined> =>
    running.get(id) ?? (await database.jobs.get(id));

  const outbox = await createEmbeddedOutbox({
    database,
    mutex,
    now,
    monotonicNow,
    isFinished: async (jobId) => {
      const job = await loadJob(jobId);
      return job !== undefined && isTerminal(job.record);
    },
  });

  function saveJob(job: StoredJob): Write[] {
    const { record } = job;
    const writes = [database.jobs.put(record.id, job), database.listing.put(listingKey(record), 0)];
    if (record.finishedAtMs !== undefined)
      writes.push(database.finished.put(`${sortable(record.finishedAtMs)}:${record.id}`, listingKey(record)));
    return writes;
  }

  /** Creates an entry at the end of a queue. `enter` makes it visible once the writes are on disk. */
  function newEntry(queue: QueueName, payload: string) {
    const { id: jobId, writtenId, type, userId, identity } = readPayload(payload, queue);
    const read = { queue, jobId, writtenId, type, userId, identity };
    const entry: StoredEntry = { ...read, seq: nextSeq++, attempts: 0, queuedAtMs: now() };
    const key = sortable(entry.seq);
    return {
      entry,
      writes: [database.entries.put(key, entry), database.payloads.put(key, payload)],
      enter() {
        entrySeqs.add(entry.seq);
        lines[entry.queue].add(entry);
        signals.emit('work');
      },
    };
  }

  const deleteEntry = (seq: number): Write[] => [
    database.entries.del(sortable(seq)),
    database.payloads.del(sortable(seq)),
  ];

  /** Forgets a lease whose entry is gone from the disk. */
  function dropLease(token: string) {
    const held = leases.get(token);
    if (held === undefined) return;
    leases.delete(token);
    entrySeqs.delete(held.entry.seq);
  }

  /** Another entry stands for the job already. */
  const belongsElsewhere = (job: StoredJob, seq: number) =>
    job.entrySeq !== undefined && job.entrySeq !== seq && entrySeqs.has(job.entrySeq);

  /** Whether an entry stands for a job, or, without a record that says which does, has its id. */
  const standsFor = (jobId: string, stored: StoredJob | undefined) => (entry: StoredEntry) =>
    stored?.entrySeq === undefined ? entry.jobId === jobId : entry.seq === stored.entrySeq;

  const leaseOf = (jobId: string, stored?: StoredJob): LeasedEntry | undefined =>
    [...leases.values()].find(({ entry }) => standsFor(jobId, stored)(entry));

  return {
    database,
    mutex,
    now,
    monotonicNow,
    retentionMs,
    lines,
    leases,
    entrySeqs,
    running,
    signals,
    outbox,
    holds: await openHolds(database, now, () => signals.emit('work')),
    foundEmpty: {
      note: (queue: QueueName) => {
        foundEmpty.set(queue, { atMs: now(), changes });
      },
      /** Milliseconds until the queue may hold something it did not hold then; 0 when it may already. */
      untilChange(queue: QueueName): number {
        const then = foundEmpty.get(queue);
        if (then === undefined || then.changes !== changes) return 0;
        const due = lines[queue].nextDueAfter(then.atMs);
        return due === null ? Infinity : Math.max(0, due - now());
      },
    },
    loadJob,
    saveJob,
    newEntry,
    deleteEntry,
    dropLease,
    belongsElsewhere,
    standsFor,
    leaseOf,
  };
}
