import { randomUUID } from 'node:crypto';
import { isJobType, type JobType } from '../../catalogue.js';
import {
  begunRecord,
  createRecord,
  finishedRecord,
  type HandBack,
  isTerminal,
  waitingRecord,
} from '../records.js';
import type { FinishedJob, JobRecord, Lease, LeaseCalls } from '../job-store.js';
import type { Callback } from '../store-parts.js';
import type { Context, LeasedEntry } from './context.js';
import { goneRead, readPayload } from '../read-payload.js';
import { createDeadLetterWrite, isSameJob } from './dead-letters.js';
import { sortable, type Change, type StoredJob, type Write } from './database.js';
import { type StoredEntry, whoseIs } from './waiting-line.js';

/** Progress reaches the disk at most this often per job; readers see it at once. */
const progressWriteIntervalMs = 1000;

/** Everything a runner does with a reservation. */
export function createLeaseCalls(context: Context, prune: () => Promise<void>): LeaseCalls {
  const { database, mutex, now, monotonicNow, lines, leases, running, signals, outbox } = context;
  const progressWrittenAtMs = new Map<string, number>();

  /** Puts a leased entry back in line. The lease ends whatever happens to the process afterwards. */
  async function handBack(held: LeasedEntry, { durable, ...change }: HandBack & { durable: boolean }) {
    const { entry, lease } = held;
    const back = { ...entry, attempts: change.attempts, dueMs: change.dueMs };
    const writes: Write[] = [database.entries.put(sortable(entry.seq), back)];
    const job = entry.jobId === '' ? undefined : await context.loadJob(entry.jobId);
    const mine = job !== undefined && job.entrySeq === entry.seq && !isTerminal(job.record);
    if (mine) writes.push(...context.saveJob({ ...job, record: waitingRecord(job.record, change, now()) }));
    await database.write(writes, { durable });
    leases.delete(lease.token);
    if (mine) forgetRunning(entry.jobId);
    lines[entry.queue].add(back);
    signals.emit('work');
  }

  /** In front of what came later. A clock that was put back must not make it wait. */
  const dueAtOnce = (entry: StoredEntry) => Math.min(entry.queuedAtMs, now());

  function forgetRunning(jobId: string) {
    running.delete(jobId);
    progressWrittenAtMs.delete(jobId);
  }

  function finishedJob(job: StoredJob, token: string, result: FinishedJob): Change {
    const { identity } = job;
    const record = finishedRecord(job.record, result, now());
    const done: StoredJob = {
      record,
      finishedByToken: token,
      ...(identity === undefined ? {} : { identity }),
    };
    const callback = outbox.addTerminal(job.record.id, result.callback);
    return { writes: [...context.saveJob(done), ...callback.writes], apply: callback.apply };
  }

  /**
   * The beginning of a leased entry's job; null when the job has ended, or another entry stands for it;
   * `foreign` when the id is another job's.
   */
  async function beginning(
    { entry, lease }: LeasedEntry,
    job: { id: string; type: JobType; userId: string },
    callback?: Callback,
  ): Promise<Change | 'foreign' | null> {
    const stored = await context.loadJob(job.id);
    if (stored !== undefined && !isSameJob(stored, lease, job)) return 'foreign';
    if (stored !== undefined && (isTerminal(stored.record) || context.belongsElsewhere(stored, entry.seq)))
      return null;
    const { identity, writtenId, request } = lease;
    const known =
      stored?.record ?? createRecord({ ...job, writtenId, request }, lease.queue, entry.queuedAtMs);
    const base = { ...known, ...job };
    const record: JobRecord = {
      ...begunRecord(base, entry.attempts, lease.workerId, now()),
      cancelRequested: base.cancelRequested || entry.cancelRequested === true,
    };
    const next: StoredJob = { record, identity, entrySeq: entry.seq };
    const announced = callback === undefined ? undefined : outbox.add(callback);
    return {
      writes: [...context.saveJob(next), ...(announced?.writes ?? [])],
      apply() {
        running.set(job.id, next);
        announced?.apply();
      },
    };
  }

  const finishedBefore = async (lease: Lease) =>
    lease.jobId !== '' && (await context.loadJob(lease.jobId))?.finishedByToken === lease.token;

  return {
    deadLetter: createDeadLetterWrite(context, { finishedBefore, finishedJob, forgetRunning }),

    reserve: ({ queue, workerId, leaseMs, excludeTypes = [], begin = false, maxAttempts = Infinity }) =>
      mutex.run(async () => {
        for (;;) {
          const entry = lines[queue].next(now(), excludeTypes);
          if (entry === null || context.holds.isHeld(queue, workerId)) {
            context.foundEmpty.note(queue);
            return null;
          }
          const { seq, queuedAtMs } = entry;
          const payload = await database.payloads.get(sortable(seq));
          const read = payload === undefined ? goneRead(whoseIs(entry)) : readPayload(payload, queue);
          const { id: jobId, writtenId, identity, type, userId, request } = read;
          // Written as due at once: should the process die now, the entry is first in line and the attempt
          // has counted.
          const leased = { ...entry, jobId, attempts: entry.attempts + 1, dueMs: dueAtOnce(entry) };
          const expiresAtMs = now() + leaseMs;
          const token = randomUUID();
          const whose = { jobId, identity, writtenId, request };
          const lease: Lease = { queue, token, ...whose, workerId, expiresAtMs };
          const held: LeasedEntry = { entry: leased, lease, expiresAt: monotonicNow() + leaseMs };
          const job = jobId === '' ? undefined : await context.loadJob(jobId);
          const begun =
            begin &&
            payload !== undefined &&
            jobId !== '' &&
            isJobType(type) &&
            leased.attempts <= maxAttempts
              ? await beginning(held, { id: jobId, type, userId })
              : undefined;
          const change = begun === 'foreign' || begun === null ? undefined : begun;
          if (begun === null) {
            await database.write(context.deleteEntry(seq), { durable: false });
            lines[queue].remove(seq);
            context.entrySeqs.delete(seq);
            continue;
          }
          await database.write([database.entries.put(sortable(seq), leased), ...(change?.writes ?? [])], {
            durable: false,
          });
          lines[queue].remove(seq);
          if (begun === 'foreign') held.entry = { ...leased, jobId: '' };
          leases.set(lease.token, held);
          change?.apply();
          const cancelRequested =
            entry.cancelRequested === true ||
            (job !== undefined &&
              begun !== 'foreign' &&
              !isTerminal(job.record) &&
              job.record.cancelRequested);
          return {
            lease,
            payload: payload ?? '',
            read,
            attempt: leased.attempts,
            queuedAtMs,
            cancelRequested,
            begun: change !== undefined,
            isForeign: begun === 'foreign',
          };
        }
      }),

    begin: (lease, job, callback) =>
      mutex.run(async () => {
        const held = leases.get(lease.token);
        if (held === undefined) return 'lost';
        const begun = await beginning(held, job, callback);
        if (begun === 'foreign') return 'foreign';
        await database.write(begun?.writes ?? context.deleteEntry(held.entry.seq), {
          durable: begun !== null && callback !== undefined,
        });
        if (begun === null) context.dropLease(lease.token);
        else begun.apply();
        return begun === null ? 'duplicate' : 'begun';
      }),

    async renew(lease, leaseMs) {
      const held = leases.get(lease.token);
      if (held === undefined) return { held: false, cancelRequested: false };
      held.lease.expiresAtMs = now() + leaseMs;
      held.expiresAt = monotonicNow() + leaseMs;
      return {
        held: true,
        cancelRequested:
          running.get(lease.jobId)?.record.cancelRequested ?? held.entry.cancelRequested === true,
      };
    },

    updateProgress: (lease, progress) =>
      mutex.run(async () => {
        const job = running.get(lease.jobId);
        if (!leases.has(lease.token) || job === undefined) return;
        job.record = { ...job.record, progress };
        if (now() - (progressWrittenAtMs.get(lease.jobId) ?? 0) < progressWriteIntervalMs) return;
        progressWrittenAtMs.set(lease.jobId, now());
        await database.write([database.jobs.put(lease.jobId, job)], { durable: false });
      }),

    finish: (lease, result) =>
      mutex.run(async () => {
        const held = leases.get(lease.token);
        if (held === undefined) return finishedBefore(lease);
        const job = await context.loadJob(lease.jobId);
        const ended =
          job !== undefined
            ? finishedJob(job, lease.token, result)
            : result.callback === undefined
              ? undefined
              : outbox.add(result.callback);
        await database.write([...context.deleteEntry(held.entry.seq), ...(ended?.writes ?? [])], {
          durable: true,
        });
        ended?.apply();
        context.dropLease(lease.token);
        forgetRunning(lease.jobId);
        return true;
      }),

    retryLater: (lease, delayMs, reason) =>
      mutex.run(async () => {
        const held = leases.get(lease.token);
        if (held === undefined) return false;
        const { attempts } = held.entry;
        await handBack(held, { attempts, dueMs: now() + delayMs, outcome: 'retried', reason, durable: true });
        return true;
      }),

    release: (lease, reason = '') =>
      mutex.run(async () => {
        const held = leases.get(lease.token);
        if (held === undefined) return false;
        await handBack(held, {
          attempts: held.entry.attempts - 1,
          outcome: 'handed_back',
          reason,
          dueMs: dueAtOnce(held.entry),
          durable: true,
        });
        return true;
      }),

    reclaimExpired: () =>
      mutex.run(async () => {
        const jobIds: string[] = [];
        for (const held of [...leases.values()]) {
          if (held.expiresAt > monotonicNow()) continue;
          await handBack(held, {
            attempts: held.entry.attempts,
            dueMs: dueAtOnce(held.entry),
            outcome: 'lost',
            reason: `the lease of ${held.lease.workerId} ran out`,
            durable: false,
          });
          jobIds.push(held.entry.jobId);
        }
        await prune();
        return jobIds;
      }),
  };
}
