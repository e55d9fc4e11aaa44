import { randomBytes, randomUUID } from 'node:crypto';
import { jobTypes, queueNames } from '../../catalogue.js';
import { mostDeadLetters, type JobStore, type Lease } from '../job-store.js';
import { callbackArguments, finishArguments } from './records.js';
import type { RunScript } from './scripts.js';
import type { createSignals } from './signals.js';

type LeaseCalls = Pick<
  JobStore,
  | 'reserve'
  | 'begin'
  | 'renew'
  | 'updateProgress'
  | 'finish'
  | 'retryLater'
  | 'release'
  | 'deadLetter'
  | 'reclaimExpired'
>;

interface Options {
  run: RunScript;
  signals: ReturnType<typeof createSignals>;
  retentionMs: number;
  /** Jobs leased by this process, by token. */
  held: Map<string, string>;
}

/** How many payloads of excluded types one reservation passes over. */
const scanLimit = 1000;
const knownTypes = `,${jobTypes.join(',')},`;
const progressIntervalMs = 1000;
const housekeepingIntervalMs = 60_000;
const batchSize = 200;

/** Everything a runner does with a reservation; each call is one script. */
export function createLeaseCalls({ run, signals, retentionMs, held }: Options): LeaseCalls {
  const progress = new Map<string, { stage: string; sentAtMs: number }>();
  // Short, for they are parts of keys and of everything that Redis writes to its log; unique by the random
  // start.
  const tokenStart = `${randomBytes(9).toString('base64url')}.`;
  let nextToken = 1;
  let housekeepingAtMs = -Infinity;
  let sweptTo = '';

  /** Ends a lease by a script that answers 1, or 0 when the lease was lost. */
  async function end(lease: Lease, call: Promise<unknown>): Promise<boolean> {
    const done = (await call) === 1;
    held.delete(lease.token);
    progress.delete(lease.token);
    return done;
  }

  /** The same for one that puts the job back in line: it may be taken again. */
  async function handBack(lease: Lease, call: Promise<unknown>): Promise<boolean> {
    const done = await end(lease, call);
    signals.notice();
    return done;
  }

  return {
    async reserve({ queue, workerId, leaseMs, excludeTypes = [], begin = false }) {
      const token = `${tokenStart}${(nextToken++).toString(36)}`;
      const answer = (await run(
        'reserve',
        queue,
        token,
        workerId,
        leaseMs,
        scanLimit,
        begin ? knownTypes : '',
        ...excludeTypes,
      )) as [0, number, number] | [1, string, string, number, number, number, number, number];
      if (answer[0] === 0) {
        signals.noteEmpty(queue, { retryInMs: answer[1], onlyExcluded: answer[2] === 1 });
        return null;
      }
      const [, payload, jobId, attempt, queuedAtMs, cancelRequested, expiresAtMs, begun] = answer;
      held.set(token, jobId);
      return {
        lease: { queue, token, jobId, workerId, expiresAtMs },
        payload,
        attempt,
        queuedAtMs,
        cancelRequested: cancelRequested === 1,
        begun: begun === 1,
      };
    },

    async begin(lease, job, callback) {
      const outcome = (await run(
        'begin',
        lease.queue,
        lease.token,
        job.id,
        job.type,
        job.userId,
        lease.workerId,
        ...callbackArguments(callback),
      )) as 'begun' | 'duplicate' | 'lost';
      if (outcome === 'begun') held.set(lease.token, job.id);
      else held.delete(lease.token);
      return outcome;
    },

    async renew(lease, leaseMs) {
      const [isHeld, cancel] = (await run('renew', lease.queue, lease.token, leaseMs)) as [number, number];
      if (isHeld === 0) held.delete(lease.token);
      return { held: isHeld === 1, cancelRequested: cancel === 1 };
    },

    async updateProgress(lease, next) {
      const before = progress.get(lease.token);
      const nowMs = performance.now();
      if (before?.stage === next.stage && nowMs - before.sentAtMs < progressIntervalMs) return;
      progress.set(lease.token, { stage: next.stage, sentAtMs: nowMs });
      const written = await run('progress', lease.queue, lease.token, JSON.stringify(next));
      if (written !== 1) progress.delete(lease.token);
    },

    finish: (lease, result) =>
      end(
        lease,
        run(
          'finish',
          lease.queue,
          lease.token,
          held.get(lease.token) ?? lease.jobId,
          ...finishArguments(result, retentionMs),
        ),
      ),
    retryLater: (lease, delayMs, reason) =>
      handBack(lease, run('retry-later', lease.queue, lease.token, delayMs, reason)),
    release: (lease) => handBack(lease, run('release', lease.queue, lease.token)),
    deadLetter: (lease, reason, result) =>
      end(
        lease,
        run(
          'dead-letter',
          lease.queue,
          lease.token,
          randomUUID(),
          reason,
          lease.queue,
          result?.job.id ?? '',
          result?.job.type ?? '',
          result?.job.userId ?? '',
          ...finishArguments(result, retentionMs),
        ),
      ),

    async reclaimExpired() {
      const ids: string[] = [];
      for (const queue of queueNames) {
        let batch: string[];
        do {
          batch = (await run('reclaim', queue, batchSize)) as string[];
          ids.push(...batch);
        } while (batch.length === batchSize);
      }
      if (ids.length > 0) signals.notice();
      if (performance.now() >= housekeepingAtMs) {
        housekeepingAtMs = performance.now() + housekeepingIntervalMs;
        sweptTo = (await run(
          'housekeep',
          queueNames[0],
          retentionMs,
          batchSize,
          sweptTo,
          mostDeadLetters,
        )) as string;
      }
      return ids;
    },
  };
}
