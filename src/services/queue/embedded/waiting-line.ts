import type { QueueName } from '../../catalogue.js';

/** One payload on a queue, waiting or leased; the payload itself stays on disk. */
export interface StoredEntry {
  seq: number;
  queue: QueueName;
  jobId: string;
  /** Absent in entries of older versions. */
  writtenId?: string;
  identity?: string;
  /** As the producer wrote it; empty when unreadable. */
  type: string;
  userId: string;
  attempts: number;
  queuedAtMs: number;
  /**
   * Set once the entry has been handed out: earliest time of the next attempt. Such entries go before new
   * ones.
   */
  dueMs?: number;
  /** Asked for before the job had a record to say so. */
  cancelRequested?: true;
}

/** What an entry says of its job, should its payload be gone. */
export const whoseIs = ({ jobId: id, writtenId = id, type, userId, identity = '' }: StoredEntry) => ({
  id,
  writtenId,
  type,
  userId,
  identity,
});

/** The order of one queue in memory: entries handed back first, by due time, then new ones by arrival. */
export function createWaitingLine() {
  // New entries are taken from the front: a head index makes that independent of how many wait.
  let fresh: (StoredEntry | undefined)[] = [];
  let head = 0;
  let freshCount = 0;
  const returned: StoredEntry[] = [];

  function trimHead() {
    while (head < fresh.length && fresh[head] === undefined) head += 1;
    if (head > 1024 && head * 2 > fresh.length) {
      fresh = fresh.slice(head);
      head = 0;
    }
  }

  function takeFresh(index: number): StoredEntry | null {
    const entry = fresh[index];
    if (entry === undefined) return null;
    fresh[index] = undefined;
    freshCount -= 1;
    trimHead();
    return entry;
  }

  function freshIndex(matches: (entry: StoredEntry) => boolean): number {
    for (let index = head; index < fresh.length; index += 1) {
      const entry = fresh[index];
      if (entry !== undefined && matches(entry)) return index;
    }
    return -1;
  }

  return {
    add(entry: StoredEntry) {
      if (entry.dueMs === undefined) {
        fresh.push(entry);
        freshCount += 1;
        return;
      }
      const due = entry.dueMs;
      const before = returned.findIndex((other) => (other.dueMs ?? 0) > due);
      returned.splice(before === -1 ? returned.length : before, 0, entry);
    },
    /** The next entry that may run now, or null. It stays where it is. */
    next(nowMs: number, excludeTypes: readonly string[]): StoredEntry | null {
      const allowed = (entry: StoredEntry) => !excludeTypes.includes(entry.type);
      return (
        returned.find((entry) => (entry.dueMs ?? 0) <= nowMs && allowed(entry)) ??
        fresh[freshIndex(allowed)] ??
        null
      );
    },
    find: (matches: (entry: StoredEntry) => boolean): StoredEntry | null =>
      returned.find(matches) ?? fresh[freshIndex(matches)] ?? null,
    remove(seq: number): StoredEntry | null {
      const index = returned.findIndex((entry) => entry.seq === seq);
      if (index !== -1) return returned.splice(index, 1)[0] ?? null;
      return takeFresh(freshIndex((entry) => entry.seq === seq));
    },
    /** How many are before it, or null when it does not wait here. */
    position(seq: number): number | null {
      const index = returned.findIndex((entry) => entry.seq === seq);
      if (index !== -1) return index;
      let before = returned.length;
      for (let i = head; i < fresh.length; i += 1) {
        const entry = fresh[i];
        if (entry === undefined) continue;
        if (entry.seq === seq) return before;
        before += 1;
      }
      return null;
    },
    counts(nowMs: number) {
      const delayed = returned.filter((entry) => (entry.dueMs ?? 0) > nowMs).length;
      return { waiting: freshCount + returned.length - delayed, delayed };
    },
    oldestQueuedAtMs(): number | null {
      const times = [...returned, fresh[head]]
        .filter((entry) => entry !== undefined)
        .map((entry) => entry.queuedAtMs);
      return times.length === 0 ? null : Math.min(...times);
    },
    /** When the next entry becomes due after that moment, or null. */
    nextDueAfter: (timeMs: number): number | null =>
      returned.find((entry) => (entry.dueMs ?? 0) > timeMs)?.dueMs ?? null,
    size: () => freshCount + returned.length,
  };
}
