import { type Change, type Database, sortable, type Write } from './database.js';
import type { Callback, Outbox, OutboxEntry } from '../store-parts.js';
import type { createMutex } from '../../../lib/semaphore.js';

interface Pending {
  seq: number;
  entry: OutboxEntry;
  /** A relay has it until then (monotonic); claims do not outlive the process. */
  claimedUntil: number;
  /** A terminal callback of the job has been recorded: this one is dropped instead of sent again. */
  superseded: boolean;
  /** Replaced while a relay was sending the older body. */
  replaced: boolean;
}

interface Options {
  database: Database;
  mutex: ReturnType<typeof createMutex>;
  now: () => number;
  monotonicNow: () => number;
  isFinished(jobId: string): Promise<boolean>;
}

const terminalEvents = new Set(['completed', 'failed']);

/**
 * Callbacks waiting to be delivered, one lane per job in the order they were recorded. Only the head of a
 * lane is ever handed out, and a terminal callback empties its lane of everything that no relay is sending at
 * that moment.
 */
export async function createEmbeddedOutbox({ database, mutex, now, monotonicNow, isFinished }: Options) {
  const pending = new Map<string, Pending>();
  const lanes = new Map<string, string[]>();
  let nextSeq = 1;

  function hold(entry: OutboxEntry, seq: number): Pending {
    const item: Pending = { seq, entry, claimedUntil: 0, superseded: false, replaced: false };
    pending.set(entry.id, item);
    const lane = lanes.get(entry.jobId);
    if (lane === undefined) lanes.set(entry.jobId, [entry.id]);
    else lane.push(entry.id);
    return item;
  }

  const nothing: Change = { writes: [], apply: () => {} };
  const together = (changes: Change[]): Change => ({
    writes: changes.flatMap(({ writes }) => writes),
    apply: () => {
      for (const change of changes) change.apply();
    },
  });
  async function commit(change: Change, options: { durable: boolean }) {
    await database.write(change.writes, options);
    change.apply();
  }

  function drop(id: string): Change {
    const item = pending.get(id);
    if (item === undefined) return nothing;
    return {
      writes: [database.callbacks.del(sortable(item.seq))],
      apply() {
        pending.delete(id);
        const lane = (lanes.get(item.entry.jobId) ?? []).filter((other) => other !== id);
        if (lane.length === 0) lanes.delete(item.entry.jobId);
        else lanes.set(item.entry.jobId, lane);
      },
    };
  }

  const save = (seq: number, entry: OutboxEntry): Write =>
    database.callbacks.put(sortable(seq), { seq, entry });

  function add(callback: Callback): Change {
    const entry: OutboxEntry = { ...callback, nextAttemptAtMs: now(), attempts: 0 };
    const item = pending.get(entry.id);
    if (item === undefined) {
      const seq = nextSeq++;
      return { writes: [save(seq, entry)], apply: () => hold(entry, seq) };
    }
    return {
      writes: [save(item.seq, entry)],
      apply() {
        item.entry = entry;
        item.replaced = item.claimedUntil > monotonicNow();
      },
    };
  }

  /** A terminal callback, to be part of the step that ends the job. */
  function addTerminal(jobId: string, entry: Callback | undefined): Change {
    const changes: Change[] = [];
    for (const id of lanes.get(jobId) ?? []) {
      const item = pending.get(id);
      if (item === undefined || id === entry?.id) continue;
      if (item.claimedUntil > monotonicNow())
        changes.push({
          writes: [],
          apply: () => {
            item.superseded = true;
          },
        });
      else changes.push(drop(id));
    }
    return together(entry === undefined ? changes : [...changes, add(entry)]);
  }

  for await (const [, { seq, entry }] of database.callbacks.entries()) {
    hold(entry, seq);
    nextSeq = Math.max(nextSeq, seq + 1);
  }
  const leftovers: Change[] = [];
  for (const ids of [...lanes.values()]) {
    const entries = ids.map((id) => pending.get(id)?.entry).filter((entry) => entry !== undefined);
    if (!entries.some((entry) => terminalEvents.has(entry.event))) continue;
    for (const entry of entries) if (!terminalEvents.has(entry.event)) leftovers.push(drop(entry.id));
  }
  await commit(together(leftovers), { durable: false });

  const outbox: Outbox = {
    add: (callback) =>
      mutex.run(async () => {
        if (!terminalEvents.has(callback.event) && (await isFinished(callback.jobId))) return;
        await commit(add(callback), { durable: false });
      }),

    claimDue: (_workerId, limit, leaseMs) =>
      mutex.run(async () => {
        const due: Pending[] = [];
        const dropped: Change[] = [];
        for (const lane of lanes.values()) {
          if (due.length >= limit) break;
          for (const id of lane) {
            const item = pending.get(id);
            if (item === undefined || item.claimedUntil > monotonicNow()) break;
            if (item.superseded) {
              dropped.push(drop(id));
              continue;
            }
            if (item.entry.nextAttemptAtMs <= now()) due.push(item);
            break;
          }
        }
        await commit(together(dropped), { durable: false });
        return due.map((item) => {
          item.claimedUntil = monotonicNow() + leaseMs;
          item.replaced = false;
          return { ...item.entry };
        });
      }),

    delivered: (id) =>
      mutex.run(async () => {
        const item = pending.get(id);
        if (item?.replaced === true && !item.superseded) {
          item.claimedUntil = 0;
          item.replaced = false;
          return;
        }
        await commit(drop(id), { durable: false });
      }),

    reschedule: (id, delayMs, error) =>
      mutex.run(async () => {
        const item = pending.get(id);
        if (item === undefined) return;
        if (item.superseded) return commit(drop(id), { durable: false });
        const entry = {
          ...item.entry,
          attempts: item.entry.attempts + 1,
          nextAttemptAtMs: now() + delayMs,
          lastError: error,
        };
        await commit(
          {
            writes: [save(item.seq, entry)],
            apply() {
              item.claimedUntil = 0;
              item.entry = entry;
            },
          },
          { durable: false },
        );
      }),

    deadLetter: (id, reason) =>
      mutex.run(async () => {
        const item = pending.get(id);
        if (item === undefined) return;
        const entry = { ...item.entry, attempts: item.entry.attempts + 1, lastError: reason };
        await commit(
          together([
            drop(id),
            { ...nothing, writes: [database.deadCallbacks.put(id, { entry, atMs: now() })] },
          ]),
          { durable: true },
        );
      }),

    pending: async () => pending.size,

    async listDead(limit) {
      const entries: OutboxEntry[] = [];
      for await (const [, { entry }] of database.deadCallbacks.entries({ limit })) entries.push(entry);
      return entries;
    },

    retryDead: (id) =>
      mutex.run(async () => {
        const changes: Change[] = [];
        let retried = 0;
        for await (const [key, { entry }] of database.deadCallbacks.entries()) {
          if (id !== undefined && key !== id) continue;
          changes.push({ ...nothing, writes: [database.deadCallbacks.del(key)] });
          if (!terminalEvents.has(entry.event) && (await isFinished(entry.jobId))) continue;
          const { lastError: _, ...callback } = entry;
          changes.push(add(callback));
          retried += 1;
        }
        await commit(together(changes), { durable: true });
        return retried;
      }),
  };

  return {
    outbox,
    add,
    addTerminal,
    /** Drops everything still to be sent for a job, and what was given up. */
    async dropAll(jobId: string): Promise<Change> {
      const changes = (lanes.get(jobId) ?? []).map(drop);
      for await (const [id, { entry }] of database.deadCallbacks.entries({ after: `${jobId}:` })) {
        if (!id.startsWith(`${jobId}:`)) break;
        if (entry.jobId === jobId) changes.push({ ...nothing, writes: [database.deadCallbacks.del(id)] });
      }
      return together(changes);
    },
  };
}
