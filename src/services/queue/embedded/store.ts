import { openContext } from './context.js';
import { sortable } from './database.js';
import { createDeadLetters, createPruner, isSameJob, newLetter } from './dead-letters.js';
import { largestPayloadBytes, readPayload, tooLarge } from '../read-payload.js';
import { createLeaseCalls } from './leases.js';
import type { JobRecord, JobStore } from '../job-store.js';
import { type InstanceInfo, withoutAssets } from '../store-parts.js';
import {
  createRecord,
  digestOf,
  finishedRecord,
  isTerminal,
  listingKey,
  matches,
  mostListed,
  type PassOverLog,
} from '../records.js';
import { untilWork } from '../../../lib/wait.js';
import { queueNames } from '../../catalogue.js';

export interface EmbeddedStoreOptions {
  /** Folder of the database; made when missing. One process at a time. */
  folder: string;
  /** How long finished jobs, idempotency keys and dead callbacks are kept. Default 7 days. */
  retentionMs?: number;
  now?: () => number;
  /**
   * Milliseconds of a clock that is never set and stands still while the machine sleeps; leases and claims
   * run on it. Default: the process's, or `now` where that is given.
   */
  monotonicNow?: () => number;
  /** What cannot be read is named here. */
  log?: PassOverLog;
}

const defaultRetentionMs = 7 * 24 * 3600 * 1000;

/**
 * The queue of a single process, on LevelDB: every transition is one atomic batch, and what has been promised
 * (accepted, finished, dead-lettered) is on the disk before the promise resolves.
 * Throws when the folder cannot be opened, or belongs to another process.
 */
export async function createEmbeddedStore(options: EmbeddedStoreOptions): Promise<JobStore> {
  const {
    folder,
    retentionMs = defaultRetentionMs,
    now = Date.now,
    log,
    monotonicNow = options.now ?? (() => performance.now()),
  } = options;
  const context = await openContext({ folder, now, monotonicNow, retentionMs, log });
  const { database, mutex, lines, signals, outbox } = context;
  const instances = new Map<string, InstanceInfo & { forgetAtMs: number }>();
  const prune = createPruner(context);

  /** A pushed payload that no runner has looked at yet has no record: this is what can be said of it. */
  async function pushedRecord(id: string): Promise<JobRecord | null> {
    const waiting = queueNames.map((queue) => lines[queue].find((other) => other.jobId === id));
    const entry = waiting.find((found) => found !== null) ?? context.leaseOf(id)?.entry;
    if (entry === undefined) return null;
    const { writtenId = id, type, userId, queue, queuedAtMs, seq } = entry;
    const { request } = readPayload((await database.payloads.get(sortable(seq))) ?? '', queue);
    const job = { id, writtenId, type: type as JobRecord['type'], userId, request };
    return createRecord(job, queue, queuedAtMs);
  }

  function positionOf(id: string, seq: number | undefined): number | null {
    for (const queue of queueNames) {
      const wanted = seq ?? lines[queue].find((entry) => entry.jobId === id)?.seq;
      const position = wanted === undefined ? null : lines[queue].position(wanted);
      if (position !== null) return position;
    }
    return null;
  }

  async function position(id: string): Promise<number | null> {
    const stored = await context.loadJob(id);
    if (stored !== undefined && stored.record.status !== 'queued') return null;
    return positionOf(id, stored?.entrySeq);
  }

  return {
    kind: 'embedded',
    outbox: outbox.outbox,
    holds: context.holds.holds,
    changes: database.changes,
    ...createLeaseCalls(context, prune),
    ...createDeadLetters(context),

    submit: ({ queue, payload, job, idempotencyKey, fingerprint = digestOf(payload), maxWaiting = 0 }) =>
      mutex.run(async () => {
        const key =
          idempotencyKey === undefined ? undefined : await database.idempotencyKeys.get(idempotencyKey);
        const known = key !== undefined && key.atMs + retentionMs > now() ? key : undefined;
        if (known !== undefined && known.fingerprint !== fingerprint) return { outcome: 'key_reused' };
        const stored = await context.loadJob(known?.jobId ?? job.id);
        const { identity, request } = readPayload(payload, queue);
        if (stored?.record.id === job.id && !isSameJob(stored, { identity }, job))
          return { outcome: 'conflict' };
        if (stored !== undefined)
          return {
            outcome: 'exists',
            record: stored.record,
            queuePosition: positionOf(stored.record.id, stored.entrySeq) ?? 0,
          };
        const queuePosition = lines[queue].size();
        if (maxWaiting > 0 && queuePosition >= maxWaiting) return { outcome: 'full' };
        const created = createRecord({ ...job, request }, queue, now());
        const added = context.newEntry(queue, payload);
        const writes = [
          ...added.writes,
          ...context.saveJob({ record: created, identity, entrySeq: added.entry.seq }),
        ];
        if (idempotencyKey !== undefined)
          writes.push(
            database.idempotencyKeys.put(idempotencyKey, { jobId: job.id, fingerprint, atMs: now() }),
          );
        await database.write(writes, { durable: true });
        added.enter();
        return { outcome: 'created', record: created, queuePosition };
      }),

    push: (queue, payload) =>
      mutex.run(async () => {
        const bytes = Buffer.byteLength(payload);
        if (bytes > largestPayloadBytes) {
          const letter = newLetter(queue, payload.slice(0, 4096), tooLarge(bytes), now());
          await database.write([database.deadLetters.put(letter.id, { letter, bytes, token: '' })], {
            durable: true,
          });
          return;
        }
        const added = context.newEntry(queue, payload);
        await database.write(added.writes, { durable: true });
        added.enter();
      }),

    waitForWork: (queues, timeoutMs, signal) =>
      untilWork(signals, Math.min(timeoutMs, ...queues.map(context.foundEmpty.untilChange)), signal),

    cancel: (id, resultFor) =>
      mutex.run(async () => {
        const stored = await context.loadJob(id);
        const record = stored?.record ?? (await pushedRecord(id));
        if (record === null) return { outcome: 'unknown' };
        if (isTerminal(record)) return { outcome: 'already_finished', record };
        const held = context.leaseOf(id, stored);
        if (held !== undefined && (record.status === 'processing' || stored === undefined)) {
          const next = { ...record, cancelRequested: true };
          if (stored === undefined) {
            const entry = { ...held.entry, cancelRequested: true as const };
            await database.write([database.entries.put(sortable(entry.seq), entry)], { durable: true });
            held.entry = entry;
          } else {
            await database.write(context.saveJob({ ...stored, record: next }), { durable: true });
            stored.record = next;
          }
          signals.emit('cancel', id);
          return { outcome: 'requested', record: next };
        }
        const waiting =
          held === undefined
            ? queueNames
                .map((queue) => lines[queue].find(context.standsFor(id, stored)))
                .find((entry) => entry !== null)
            : undefined;
        const payload =
          waiting === undefined ? undefined : await database.payloads.get(sortable(waiting.seq));
        const result = resultFor(record, payload === undefined ? null : readPayload(payload, record.queue));
        const done = finishedRecord({ ...record, cancelRequested: true }, result, now());
        const callback = outbox.addTerminal(id, result.callback);
        const writes = [...context.saveJob({ record: done }), ...callback.writes];
        if (waiting !== undefined) writes.push(...context.deleteEntry(waiting.seq));
        await database.write(writes, { durable: true });
        callback.apply();
        context.running.delete(id);
        if (waiting !== undefined) {
          lines[waiting.queue].remove(waiting.seq);
          context.entrySeqs.delete(waiting.seq);
        }
        return { outcome: 'cancelled', record: done };
      }),

    get: async (id) => (await context.loadJob(id))?.record ?? (await pushedRecord(id)),

    position,

    async positions(ids) {
      const places = await Promise.all(ids.map(async (id) => [id, await position(id)] as const));
      return new Map(places.filter((place): place is [string, number] => place[1] !== null));
    },

    forgetAssets: (id) =>
      mutex.run(async () => {
        const stored = await context.loadJob(id);
        if (stored === undefined || !isTerminal(stored.record)) return null;
        const metadata = withoutAssets(stored.record.metadata, now());
        const record = { ...stored.record, assets: [], metadata };
        await database.write(context.saveJob({ ...stored, record }), { durable: true });
        return record;
      }),

    async list(filter, limit, cursor) {
      const jobs: JobRecord[] = [];
      let looked = 0;
      for await (const [key] of database.listing.entries(cursor === undefined ? {} : { after: cursor })) {
        const id = key.slice(key.indexOf(':') + 1);
        if (!id.startsWith(filter.idPrefix?.toLowerCase() ?? '')) continue;
        const record = (await context.loadJob(id))?.record;
        looked += 1;
        if (record === undefined || !matches(record, filter)) {
          if (looked >= mostListed) return { jobs, nextCursor: key };
          continue;
        }
        // One more than the page holds: there is a next page.
        if (jobs.length === limit) {
          const last = jobs.at(-1);
          return last === undefined ? { jobs } : { jobs, nextCursor: listingKey(last) };
        }
        jobs.push(record);
      }
      return { jobs };
    },

    async depth(queue) {
      const oldest = lines[queue].oldestQueuedAtMs();
      const running = [...context.leases.values()].filter((held) => held.lease.queue === queue).length;
      return {
        ...lines[queue].counts(now()),
        running,
        oldestAgeSeconds: oldest === null ? null : Math.max(0, (now() - oldest) / 1000),
      };
    },

    async announce(instance, ttlMs) {
      instances.set(instance.workerId, { ...instance, forgetAtMs: now() + ttlMs });
    },
    async instances() {
      for (const [workerId, { forgetAtMs }] of instances) if (forgetAtMs <= now()) instances.delete(workerId);
      return [...instances.values()].map(({ forgetAtMs: _, ...instance }) => instance);
    },

    onCancel(listener) {
      signals.on('cancel', listener);
      return () => signals.off('cancel', listener);
    },

    ping: database.ping,
    async close() {
      await mutex.idle();
      await database.close();
    },
  };
}
