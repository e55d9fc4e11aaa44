import { randomUUID } from 'node:crypto';
import {
  createRecord,
  isTerminal,
  mostDeadCallbacks,
  mostDeadLetterBytes,
  mostDeadLetters,
  requeuedRecord,
  shownPayload,
} from '../records.js';
import { queueNames, type QueueName } from '../../catalogue.js';
import type { FinishedJob, JobRecord, JobStore, Lease } from '../job-store.js';
import type { DeadLetterCalls, Hold, Holds, HoldTarget } from '../store-parts.js';
import type { Context } from './context.js';
import { type Database, sortable, type Change, type StoredJob, type Write } from './database.js';

/** What operators look at and put back. */
export function createDeadLetters({ database, mutex, outbox, ...context }: Context): DeadLetterCalls {
  return {
    async deadLetterIndex() {
      const index = [];
      for await (const [, { letter }] of database.deadLetters.entries({ reverse: true })) {
        const { id, queue, reason, atMs } = letter;
        index.push({ id, queue, reason, atMs });
      }
      return index;
    },

    async deadLetters(queue, limit) {
      const letters = [];
      for await (const [, { letter, bytes }] of database.deadLetters.entries({ reverse: true })) {
        if (letters.length >= limit) break;
        if (queue !== undefined && letter.queue !== queue) continue;
        const payload = Buffer.from(letter.payload);
        letters.push({ ...letter, ...shownPayload(payload, bytes ?? payload.length) });
      }
      return letters;
    },

    requeueDeadLetter: (id) =>
      mutex.run(async () => {
        const found = await database.deadLetters.get(id);
        if (found === undefined) return 'unknown';
        const { letter, token, bytes } = found;
        if (bytes !== undefined) return 'incomplete';
        const added = context.newEntry(letter.queue, letter.payload);
        const writes: Write[] = [...added.writes, database.deadLetters.del(id)];
        const stored = letter.jobId === undefined ? undefined : await context.loadJob(letter.jobId);
        let unsaid: Change | undefined;
        // A job that ended otherwise stays as it is.
        if (stored !== undefined && isTerminal(stored.record) && stored.finishedByToken === token) {
          const { finishedAtMs } = stored.record;
          if (finishedAtMs !== undefined)
            writes.push(database.finished.del(`${sortable(finishedAtMs)}:${stored.record.id}`));
          unsaid = await outbox.dropAll(stored.record.id);
          writes.push(
            ...unsaid.writes,
            ...context.saveJob({
              ...stored,
              record: requeuedRecord(stored.record, context.now()),
              entrySeq: added.entry.seq,
            }),
          );
        }
        await database.write(writes, { durable: true });
        unsaid?.apply();
        added.enter();
        return 'requeued';
      }),

    dropDeadLetter: (id) =>
      mutex.run(async () => {
        if (!(await database.deadLetters.has(id))) return false;
        await database.write([database.deadLetters.del(id)], { durable: true });
        return true;
      }),
  };
}

/** A new letter; its id sorts by time. */
export function newLetter(queue: QueueName, payload: string, reason: string, nowMs: number) {
  return { id: `${sortable(nowMs)}-${randomUUID()}`, queue, payload, reason, attempts: 0, atMs: nowMs };
}

/** An id alone proves nothing. Records of older versions know no identity. */
export function isSameJob(
  { identity, record }: StoredJob,
  lease: Pick<Lease, 'identity'>,
  job: { type: string; userId: string },
): boolean {
  return identity === undefined
    ? record.type === job.type && record.userId === job.userId
    : identity === lease.identity;
}

interface LeaseParts {
  finishedBefore: (lease: Lease) => Promise<boolean>;
  finishedJob: (job: StoredJob, token: string, result: FinishedJob) => Change;
  forgetRunning: (jobId: string) => void;
}

/** Keeps a payload that will not be tried again, and ends its job where there is one to end. */
export function createDeadLetterWrite(
  context: Context,
  { finishedBefore, finishedJob, forgetRunning }: LeaseParts,
): JobStore['deadLetter'] {
  const { database, mutex, now, leases, running, lines } = context;
  /** A job with this id, but not this one, waits and has no record yet. */
  const waitsAsAnother = ({ jobId, identity }: Lease) =>
    queueNames.some((queue) =>
      lines[queue].find((other) => other.jobId === jobId && other.identity !== identity),
    );
  return (lease, reason, result) =>
    mutex.run(async () => {
      const held = leases.get(lease.token);
      if (held === undefined) return finishedBefore(lease);
      const { entry } = held;
      const { attempts = entry.attempts } = result ?? {};
      const payload = (await database.payloads.get(sortable(entry.seq))) ?? '';
      const letter = {
        ...newLetter(entry.queue, payload, reason, now()),
        attempts,
        ...(entry.jobId === '' ? {} : { jobId: entry.jobId }),
      };
      const writes = [
        ...context.deleteEntry(entry.seq),
        database.deadLetters.put(letter.id, { letter, token: lease.token }),
      ];
      let ended: Change | undefined;
      if (result !== undefined) {
        const stored = await context.loadJob(result.job.id);
        if (
          stored === undefined
            ? !waitsAsAnother(lease)
            : isSameJob(stored, lease, entry) &&
              !isTerminal(stored.record) &&
              !context.belongsElsewhere(stored, entry.seq)
        ) {
          const type = (result.job.type ?? entry.type) as JobRecord['type'];
          const { id, userId = entry.userId } = result.job;
          const job = stored ?? {
            identity: lease.identity,
            record: createRecord(
              { id, writtenId: lease.writtenId, type, userId, request: lease.request },
              entry.queue,
              entry.queuedAtMs,
            ),
          };
          ended = finishedJob({ ...job, record: { ...job.record, attempts } }, lease.token, result);
        }
      }
      await database.write([...writes, ...(ended?.writes ?? [])], { durable: true });
      ended?.apply();
      context.dropLease(lease.token);
      if (running.get(lease.jobId)?.entrySeq === entry.seq) forgetRunning(lease.jobId);
      return true;
    });
}

const pruneIntervalMs = 60_000;

/**
 * Forgets finished jobs, idempotency keys, dead letters and callbacks older than the retention; looks once a
 * minute at most.
 */
export function createPruner({ database, now, retentionMs }: Context) {
  let nextAtMs = 0;
  return async () => {
    if (now() < nextAtMs) return;
    nextAtMs = now() + pruneIntervalMs;
    const writes: Write[] = [];
    for await (const [key, listing] of database.finished.entries()) {
      if (Number(key.slice(0, 16)) + retentionMs > now()) break;
      writes.push(
        database.finished.del(key),
        database.listing.del(listing),
        database.jobs.del(key.slice(17)),
      );
    }
    for await (const [key, { atMs }] of database.idempotencyKeys.entries()) {
      if (atMs + retentionMs <= now()) writes.push(database.idempotencyKeys.del(key));
    }
    let [letters, bytes] = [0, 0];
    for await (const [key, { letter }] of database.deadLetters.entries({ reverse: true })) {
      letters += 1;
      bytes += Buffer.byteLength(letter.payload);
      const isBeyond = letters > mostDeadLetters || bytes > mostDeadLetterBytes;
      if (isBeyond || letter.atMs + retentionMs <= now()) writes.push(database.deadLetters.del(key));
    }
    const dead: Array<{ key: string; atMs: number }> = [];
    for await (const [key, { atMs }] of database.deadCallbacks.entries()) dead.push({ key, atMs });
    dead.sort((a, b) => b.atMs - a.atMs);
    for (const [index, { key, atMs }] of dead.entries())
      if (index >= mostDeadCallbacks || atMs + retentionMs <= now())
        writes.push(database.deadCallbacks.del(key));
    await database.write(writes, { durable: false });
  };
}

/** Holds in memory and on the disk. */
export async function openHolds(database: Database, now: () => number, onRelease: () => void) {
  const held = new Map<string, Hold>();
  for await (const [key, hold] of database.holds.entries()) held.set(key, hold);
  const keyOf = (target: HoldTarget) => ('queue' in target ? target.queue : `worker:${target.workerId}`);
  const holds: Holds = {
    async hold(target, asked) {
      const key = keyOf(target);
      if (held.has(key)) return;
      const hold = { sinceMs: now(), ...asked };
      held.set(key, hold);
      await database.write([database.holds.put(key, hold)], { durable: true });
    },
    async release(target) {
      await database.write([database.holds.del(keyOf(target))], { durable: true });
      held.delete(keyOf(target));
      onRelease();
    },
    async list() {
      const workers = [...held].filter(([key]) => key.startsWith('worker:'));
      const queues = [...held].filter(([key]) => !key.startsWith('worker:'));
      return {
        queues: Object.fromEntries(queues),
        workers: new Map(workers.map(([key, hold]) => [key.slice('worker:'.length), hold])),
      };
    },
  };
  return {
    holds,
    isHeld: (queue: QueueName, workerId: string) => held.has(queue) || held.has(`worker:${workerId}`),
  };
}
