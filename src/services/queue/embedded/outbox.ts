import type { Outbox, OutboxEntry } from '../types.js';
import type { Database, Write } from './database.js';
import { sortable } from './database.js';
import type { createMutex } from './mutex.js';

interface Pending {
  seq: number;
  entry: OutboxEntry;
  /** A relay has it until then; claims do not outlive the process. */
  claimedUntilMs: number;
  /** A terminal callback of the job has been recorded: this one is dropped instead of sent again. */
  superseded: boolean;
  /** Replaced while a relay was sending the older body. */
  replaced: boolean;
}

interface Options {
  database: Database;
  mutex: ReturnType<typeof createMutex>;
  now: () => number;
  isFinished(jobId: string): Promise<boolean>;
}

const terminalEvents = new Set(['completed', 'failed']);

/**
 * Callbacks waiting to be delivered, one lane per job in the order they were recorded. Only the head of a lane is
 * ever handed out, and a terminal callback empties its lane of everything that no relay is sending at that moment.
 */
export async function createEmbeddedOutbox({ database, mutex, now, isFinished }: Options) {
  const pending = new Map<string, Pending>();
  const lanes = new Map<string, string[]>();
  let nextSeq = 1;

  function hold(entry: OutboxEntry, seq: number): Pending {
    const item: Pending = { seq, entry, claimedUntilMs: 0, superseded: false, replaced: false };
    pending.set(entry.id, item);
    const lane = lanes.get(entry.jobId);
    if (lane === undefined) lanes.set(entry.jobId, [entry.id]);
    else lane.push(entry.id);
    return item;
  }

  function drop(id: string): Write[] {
    const item = pending.get(id);
    if (item === undefined) return [];
    pending.delete(id);
    const lane = (lanes.get(item.entry.jobId) ?? []).filter((other) => other !== id);
    if (lane.length === 0) lanes.delete(item.entry.jobId);
    else lanes.set(item.entry.jobId, lane);
    return [database.callbacks.del(sortable(item.seq))];
  }

  const save = (item: Pending): Write => database.callbacks.put(sortable(item.seq), { seq: item.seq, entry: item.entry });

  function add(entry: OutboxEntry): Write[] {
    const item = pending.get(entry.id);
    if (item === undefined) return [save(hold(entry, nextSeq++))];
    item.entry = entry;
    item.replaced = item.claimedUntilMs > now();
    return [save(item)];
  }

  /** The writes of a terminal callback, to be part of the job's terminal batch. */
  function addTerminal(jobId: string, entry: OutboxEntry | undefined): Write[] {
    const writes: Write[] = [];
    for (const id of [...(lanes.get(jobId) ?? [])]) {
      const item = pending.get(id);
      if (item === undefined || id === entry?.id) continue;
      if (item.claimedUntilMs > now()) item.superseded = true;
      else writes.push(...drop(id));
    }
    return entry === undefined ? writes : [...writes, ...add(entry)];
  }

  for await (const [, { seq, entry }] of database.callbacks.entries()) {
    hold(entry, seq);
    nextSeq = Math.max(nextSeq, seq + 1);
  }
  const leftovers: Write[] = [];
  for (const ids of [...lanes.values()]) {
    const entries = ids.map((id) => pending.get(id)?.entry).filter((entry) => entry !== undefined);
    if (!entries.some((entry) => terminalEvents.has(entry.event))) continue;
    for (const entry of entries) if (!terminalEvents.has(entry.event)) leftovers.push(...drop(entry.id));
  }
  await database.write(leftovers, { durable: false });

  const outbox: Outbox = {
    add: (entry) => mutex.run(async () => {
      if (!terminalEvents.has(entry.event) && await isFinished(entry.jobId)) return;
      await database.write(add(entry), { durable: false });
    }),

    claimDue: (_workerId, limit, leaseMs) => mutex.run(async () => {
      const claimed: OutboxEntry[] = [];
      const dropped: Write[] = [];
      for (const jobId of [...lanes.keys()]) {
        if (claimed.length >= limit) break;
        for (const id of [...(lanes.get(jobId) ?? [])]) {
          const item = pending.get(id);
          if (item === undefined || item.claimedUntilMs > now()) break;
          if (item.superseded) {
            dropped.push(...drop(id));
            continue;
          }
          if (item.entry.nextAttemptAtMs <= now()) {
            item.claimedUntilMs = now() + leaseMs;
            item.replaced = false;
            claimed.push({ ...item.entry });
          }
          break;
        }
      }
      await database.write(dropped, { durable: false });
      return claimed;
    }),

    delivered: (id) => mutex.run(async () => {
      const item = pending.get(id);
      if (item?.replaced === true && !item.superseded) {
        item.claimedUntilMs = 0;
        item.replaced = false;
        return;
      }
      await database.write(drop(id), { durable: false });
    }),

    reschedule: (id, nextAttemptAtMs, error) => mutex.run(async () => {
      const item = pending.get(id);
      if (item === undefined) return;
      if (item.superseded) return database.write(drop(id), { durable: false });
      item.claimedUntilMs = 0;
      item.entry = { ...item.entry, attempts: item.entry.attempts + 1, nextAttemptAtMs, lastError: error };
      await database.write([save(item)], { durable: false });
    }),

    deadLetter: (id, reason) => mutex.run(async () => {
      const item = pending.get(id);
      if (item === undefined) return;
      const entry = { ...item.entry, attempts: item.entry.attempts + 1, lastError: reason };
      await database.write([...drop(id), database.deadCallbacks.put(id, entry)], { durable: true });
    }),

    pending: async () => pending.size,

    async listDead(limit) {
      const entries: OutboxEntry[] = [];
      for await (const [, entry] of database.deadCallbacks.entries({ limit })) entries.push(entry);
      return entries;
    },

    retryDead: (id) => mutex.run(async () => {
      const writes: Write[] = [];
      let retried = 0;
      for await (const [key, entry] of database.deadCallbacks.entries()) {
        if (id !== undefined && key !== id) continue;
        writes.push(database.deadCallbacks.del(key));
        if (!terminalEvents.has(entry.event) && await isFinished(entry.jobId)) continue;
        writes.push(...add({ ...entry, attempts: 0, nextAttemptAtMs: now() }));
        retried += 1;
      }
      await database.write(writes, { durable: true });
      return retried;
    }),
  };

  return {
    outbox,
    add,
    addTerminal,
    /** The writes that drop everything still to be sent for a job. */
    dropAll: (jobId: string): Write[] => [...(lanes.get(jobId) ?? [])].flatMap(drop),
  };
}
