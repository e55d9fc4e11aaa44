import { randomBytes, randomUUID } from 'node:crypto';
import { isJobType, queueNames, type QueueName } from '../../catalogue.js';
import type { Lease, LeaseCalls, ReserveRequest } from '../job-store.js';
import { callbackArguments, finishArguments, jobArguments } from './records.js';
import { goneRead, largestPayloadBytes, readPayload, type PayloadRead } from '../read-payload.js';
import type { RunScript } from './scripts.js';
import type { createSignals } from './waker.js';
import { createLookahead, lookAt, sha1Of, type createWaitingPayloads } from './waiting-payloads.js';

interface Options {
  run: RunScript;
  signals: ReturnType<typeof createSignals>;
  waiting: ReturnType<typeof createWaitingPayloads>;
  hasRecord: (id: string) => Promise<boolean>;
  retentionMs: number;
  /** Jobs leased by this process, by token. */
  held: Map<string, string>;
}

/** How many payloads of excluded types one reservation passes over. */
const scanLimit = 1000;
const progressIntervalMs = 1000;
const housekeepingIntervalMs = 60_000;
const batchSize = 200;

type Claim = 'begun' | 'claimed' | 'duplicate' | 'foreign' | 'lost';
interface Taken {
  token: string;
  payload: Buffer;
  read: PayloadRead;
  attempt: number;
  queuedAtMs: number;
  isCancelled: number;
  expiresAtMs: number;
  /** What became of it where it had been guessed. */
  claimed: Claim | '';
}

const begins = ({ begin = false, maxAttempts = Infinity }: ReserveRequest, type?: string, attempt = 1) =>
  begin && isJobType(type) && attempt <= maxAttempts;

/** Everything a runner does with a reservation; each call is one script. */
export function createLeaseCalls({
  run,
  signals,
  waiting,
  hasRecord,
  retentionMs,
  held,
}: Options): LeaseCalls {
  const progress = new Map<string, { stage: string; sentAtMs: number }>();
  // Short, for they are parts of keys and of everything that Redis writes to its log; unique by the random
  // start.
  const tokenStart = `${randomBytes(9).toString('base64url')}.`;
  let nextToken = 1;
  const lookahead = { sdxl_queue: createLookahead('sdxl_queue'), wan_queue: createLookahead('wan_queue') };
  let housekeepingAtMs = -Infinity;
  let sweptTo = '';

  /** One payload of the queue under a token of its own; null when there is none for this caller. */
  async function take(request: ReserveRequest): Promise<Taken | null> {
    const { queue, workerId, leaseMs, excludeTypes = [] } = request;
    for (;;) {
      const token = `${tokenStart}${(nextToken++).toString(36)}`;
      const meant = excludeTypes.length === 0 ? undefined : await firstNotOf(queue, excludeTypes);
      const source = excludeTypes.length === 0 ? 'next' : meant === undefined ? 'none' : 'this';
      const { guess, ask } = source === 'next' ? lookahead[queue].next() : { guess: undefined, ask: 0 };
      const behind: Buffer[] = [];
      try {
        const answer = (await run.raw(
          'reserve',
          queue,
          token,
          workerId,
          leaseMs,
          largestPayloadBytes,
          source,
          meant ?? '',
          guess?.read.id ? guess.sha1 : '',
          ...jobArguments(guess?.read ?? { id: '', type: '', userId: '', identity: '' }),
          begins(request, guess?.read.type) ? 1 : 0,
          ask,
          ...excludeTypes,
        )) as
          [0, number, number] | [1, Buffer | null, number, number, number, number, Buffer, ...Buffer[]] | [2];
        if (answer[0] === 2) continue;
        if (answer[0] === 0) {
          const isHeld = answer[2] === 2;
          const onlyExcluded = source !== 'next' && answer[2] === 1;
          signals.noteEmpty(queue, { retryInMs: answer[1], onlyExcluded, isHeld });
          return null;
        }
        const [, payload, attempt, queuedAtMs, isCancelled, expiresAtMs, outcome, ...rest] = answer;
        const facts = { token, attempt, queuedAtMs, isCancelled, expiresAtMs };
        if (payload === null) {
          const [id = '', type = '', userId = '', identity = '', written = ''] = rest.map(String);
          const read = goneRead({ id, writtenId: written || id, type, userId, identity });
          return { ...facts, payload: Buffer.alloc(0), read, claimed: '' };
        }
        behind.push(...rest);
        const isGuessed = guess !== undefined && guess.sha1 === sha1Of(payload);
        if (guess !== undefined && !isGuessed) lookahead[queue].missed();
        const read = isGuessed ? guess.read : readPayload(payload, queue);
        const claimed = outcome.toString() as Claim | '';
        return { ...facts, payload, read, claimed };
      } finally {
        if (ask > 0) lookahead[queue].brought(behind);
      }
    }
  }

  /** Tells whose a reserved payload is. */
  async function claim(
    { queue, workerId }: ReserveRequest,
    token: string,
    read: PayloadRead,
    isBegun: boolean,
  ) {
    const answer = await run('claim', queue, token, ...jobArguments(read), workerId, isBegun ? 1 : 0);
    return answer as [Claim, queuedAtMs: number, cancelRequested: number];
  }

  async function firstNotOf(queue: QueueName, excluded: readonly string[]): Promise<Buffer | undefined> {
    for (let skip: number | null = 0; skip !== null && skip < scanLimit;) {
      const { next, payloads } = await lookAt(run, queue, skip, 50);
      const found = payloads.find((payload) => !excluded.includes(readPayload(payload, queue).type));
      if (found !== undefined) return found;
      skip = next;
    }
    return undefined;
  }

  /** Ends a lease by a script that answers 1, or 0 when the lease was lost. */
  async function end(lease: Lease, call: Promise<unknown>): Promise<boolean> {
    const done = (await call) === 1;
    held.delete(lease.token);
    progress.delete(lease.token);
    return done;
  }

  /** Whether a job with this id, but not this one, waits and has no record yet. */
  async function waits(id: string, identity: string): Promise<boolean> {
    if (id === '' || (await hasRecord(id))) return false;
    return (await waiting.find(id, { now: true })).some(({ read }) => read.identity !== identity);
  }

  /** The same for one that puts the job back in line: it may be taken again. */
  async function handBack(lease: Lease, call: Promise<unknown>): Promise<boolean> {
    const done = await end(lease, call);
    signals.notice();
    return done;
  }

  return {
    async reserve(request) {
      const { queue, workerId, excludeTypes = [] } = request;
      for (;;) {
        const taken = await take(request);
        if (taken === null) return null;
        const { token, payload, read, attempt, expiresAtMs } = taken;
        const { id, identity, writtenId, type, request: kept } = read;
        const job = { jobId: id, identity, writtenId, request: kept };
        const lease: Lease = { queue, token, ...job, workerId, expiresAtMs };
        const reservation = { lease, payload: payload.toString(), read, attempt };
        held.set(token, id);
        const [outcome, queuedAtMs, cancel] =
          id === '' || taken.claimed === 'begun'
            ? [taken.claimed || 'claimed', taken.queuedAtMs, taken.isCancelled]
            : await claim(request, token, read, read.isGone !== true && begins(request, type, attempt));
        if (outcome === 'lost' || outcome === 'duplicate') held.delete(token);
        // Its holder died before it could say what it had taken.
        else if (id !== '' && outcome === 'claimed' && excludeTypes.some((excluded) => excluded === type)) {
          await run('release', queue, token, '');
          held.delete(token);
        } else
          return {
            ...reservation,
            queuedAtMs,
            cancelRequested: cancel === 1,
            begun: outcome === 'begun',
            isForeign: outcome === 'foreign',
          };
      }
    },

    async begin(lease, job, callback) {
      const outcome = (await run(
        'begin',
        lease.queue,
        lease.token,
        ...jobArguments({ ...lease, ...job }),
        lease.workerId,
        ...callbackArguments(callback),
      )) as 'begun' | 'duplicate' | 'foreign' | 'lost';
      if (outcome === 'begun') held.set(lease.token, job.id);
      else if (outcome !== 'foreign') held.delete(lease.token);
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
    release: (lease, reason = '') => handBack(lease, run('release', lease.queue, lease.token, reason)),
    async deadLetter(lease, reason, result) {
      const { queue, token, identity, writtenId, request } = lease;
      const isOther = result !== undefined && (await waits(result.job.id, identity));
      const meant = isOther ? undefined : result?.job;
      const job = { id: '', type: '', userId: '', ...meant, identity, writtenId, request };
      const terminal = finishArguments(isOther ? undefined : result, retentionMs);
      const told = [reason, result?.attempts ?? '', ...jobArguments(job), ...terminal];
      return end(lease, run('dead-letter', queue, token, randomUUID(), ...told));
    },

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
        sweptTo = (await run('housekeep', queueNames[0], retentionMs, batchSize, sweptTo)) as string;
      }
      return ids;
    },
  };
}
