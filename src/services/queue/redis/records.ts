import type { Redis } from 'ioredis';
import { catalogue, isJobType, queueNames, type JobType, type QueueName } from '../../catalogue.js';
import {
  createPassOver,
  createRecord,
  isCallback,
  isObject,
  isProgress,
  isTerminal,
  isTexts,
  statuses,
} from '../records.js';
import type { FinishedJob, JobRecord, JobStatus } from '../job-store.js';
import type { Callback, EndedAttempt, Outbox, OutboxEntry } from '../store-parts.js';
import type { StoreLog } from './connection.js';
import type { Argument, RunScript } from './scripts.js';

/** What is kept under a key is not what belongs there: another program wrote it, or half of it is gone. */
class Unreadable extends Error {}

/**
 * Reads, and passes over what cannot be read: one such key must not take all others along. It is named in the
 * log, once.
 */
export function createReader(log: StoreLog | undefined) {
  const passOver = createPassOver('Redis', log);
  return {
    passOver,
    /** Null, too, for what cannot be read. */
    async read<T>(key: string, reading: () => T | Promise<T>): Promise<T | null> {
      try {
        return await reading();
      } catch (error) {
        const isTheirs = error instanceof Unreadable || /^WRONGTYPE/.test(String((error as Error).message));
        if (!isTheirs) throw error;
        passOver(key, error);
        return null;
      }
    },
  };
}
export type Reader = ReturnType<typeof createReader>;

/** A field of JSON that has to be of a form. */
function parsed<T>(field: string, text: string, isRight: (value: unknown) => boolean): T {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    throw new Unreadable(`${field} is not JSON`);
  }
  if (!isRight(value)) throw new Unreadable(`${field} is not what it should be`);
  return value as T;
}

function number(field: string, text: string): number {
  const value = Number(text);
  if (text.trim() === '' || !Number.isFinite(value)) throw new Unreadable(`${field} is no number`);
  return value;
}

/** The hash of a job as a record; null when there is none. @throws Unreadable */
export function parseRecord(id: string, hash: Record<string, string>): JobRecord | null {
  const { type, user = '', created, status } = hash;
  if (type === undefined || created === undefined || status === undefined) return null;
  if (!statuses.has(status)) throw new Unreadable('status is none of those there are');
  // A job that a runner began is of a known type, which has its queue; others bring their queue.
  const queue = (hash['queue'] ?? (isJobType(type) ? catalogue[type].queue : queueNames[0])) as QueueName;
  const record: JobRecord = {
    ...createRecord({ id, type: type as JobType, userId: user }, queue, number('created', created)),
    status: status as JobStatus,
    attempts: number('attempts', hash['attempts'] ?? '0'),
    cancelRequested: hash['cancel'] === '1',
  };
  // An empty field is an absent one.
  const { assets, metadata, progress, error, started, finished, worker, lastError, since, retryAt } = hash;
  if (assets) record.assets = parsed('assets', assets, isTexts);
  if (metadata) record.metadata = parsed('metadata', metadata, isObject);
  if (progress) record.progress = parsed('progress', progress, isProgress);
  if (error) record.errorMessage = error;
  if (started) record.startedAtMs = number('started', started);
  if (finished) record.finishedAtMs = number('finished', finished);
  if (worker) record.workerId = worker;
  if (hash['written']) record.writtenId = hash['written'];
  if (lastError) record.lastError = lastError;
  if (since) record.sinceMs = number('since', since);
  if (retryAt) record.retryAtMs = number('retryAt', retryAt);
  if (hash['request']) {
    parsed('request', hash['request'], isObject);
    record.request = hash['request'];
  }
  if (hash['history']) record.history = hash['history'].split('\n').map(parseAttempt);
  if (isTerminal(record)) record.progress = { ...record.progress, etaSeconds: null };
  if (record.status === 'completed')
    record.progress = { ...record.progress, stage: 'done', step: record.progress.steps, fraction: 1 };
  return record;
}

/** A line of `end_attempt` in common.lua. */
function parseAttempt(line: string): EndedAttempt {
  const [attempt = '', outcome = '', workerId = '', started = '', ended = '', error = ''] = line.split('\t');
  return {
    attempt: number('history', attempt),
    outcome: outcome as EndedAttempt['outcome'],
    startedAtMs: number('history', started),
    endedAtMs: number('history', ended),
    ...(workerId === '' ? {} : { workerId }),
    ...(error === '' ? {} : { error }),
  };
}

/** What a payload says of its job, as `job_at` in jobs.lua reads it. */
export const jobArguments = (job: {
  id: string;
  type: string;
  userId: string;
  identity: string;
  writtenId?: string;
  request?: string;
}): Argument[] => [job.id, job.type, job.userId, job.identity, job.writtenId ?? job.id, job.request ?? ''];

/** The three arguments of a callback, as `callback_at` in callbacks.lua reads them. */
export function callbackArguments(callback: Callback | undefined): Argument[] {
  return callback === undefined ? ['', '', ''] : [callback.id, callback.event, JSON.stringify(callback)];
}

/** @throws Unreadable */
function parseCallback(entry: string, attempts: string, nextAttemptAtMs: string, error: string): OutboxEntry {
  return {
    ...parsed<Callback>('entry', entry, isCallback),
    nextAttemptAtMs: number('next', nextAttemptAtMs),
    attempts: number('attempts', attempts),
    ...(error === '' ? {} : { lastError: error }),
  };
}

/** JSON; empty for what is empty. */
const textOf = (value: object) => (Object.keys(value).length === 0 ? '' : JSON.stringify(value));

/** The terminal state, as `finish_job` in jobs.lua reads it. */
export function finishArguments(result: FinishedJob | undefined, retentionMs: number): Argument[] {
  if (result === undefined) return ['', '', '', '', 0, ...callbackArguments(undefined)];
  return [
    result.status,
    textOf(result.assets),
    result.errorMessage ?? '',
    textOf(result.metadata),
    retentionMs,
    ...callbackArguments(result.callback),
  ];
}

interface OutboxOptions {
  redis: Redis;
  reader: Reader;
  run: RunScript;
  prefix: string;
  /** Milliseconds of any clock; only differences count. */
  now: () => number;
  /** Counts what this process has done that may have made a callback due. */
  changes: () => number;
}

/**
 * Callbacks of other processes are theirs to deliver; what they leave behind is noticed this late at most.
 */
const longestQuietMs = 5000;

/**
 * Callbacks in Redis; any instance's relay may deliver any of them. A relay may ask as often as it likes:
 * while nothing can have become due, the answer needs no command.
 */
export function createRedisOutbox({ redis, reader, run, prefix, now, changes }: OutboxOptions): Outbox {
  // Callbacks belong to no queue; the scripts want one all the same.
  const [queue] = queueNames;
  let quiet = { untilMs: 0, changes: -1 };
  return {
    async add(callback) {
      await run('callback-add', queue, callback.jobId, ...callbackArguments(callback));
    },
    async claimDue(_workerId, limit, leaseMs) {
      const before = changes();
      if (quiet.changes === before && now() < quiet.untilMs) return [];
      const [waitMs, ...claimed] = (await run('callback-claim', queue, limit, leaseMs)) as [
        number,
        ...[id: string, entry: string, attempts: string, next: string, error: string][],
      ];
      if (claimed.length === 0)
        quiet = {
          untilMs: now() + (waitMs < 0 ? longestQuietMs : Math.min(waitMs, longestQuietMs)),
          changes: before,
        };
      const entries: OutboxEntry[] = [];
      for (const [id, ...fields] of claimed) {
        const entry = await reader.read(`${prefix}callback:${id}`, () => parseCallback(...fields));
        if (entry === null) await run('callback-dead-letter', queue, id, 'it cannot be read');
        else entries.push(entry);
      }
      return entries;
    },
    async delivered(id) {
      await run('callback-delivered', queue, id);
    },
    async reschedule(id, delayMs, error) {
      await run('callback-reschedule', queue, id, Math.round(delayMs), error);
    },
    async deadLetter(id, reason) {
      await run('callback-dead-letter', queue, id, reason);
    },
    pending: () => redis.zcard(`${prefix}callbacks:due`),
    async listDead(limit) {
      const ids = await redis.zrange(`${prefix}callbacks:dead`, 0, String(limit - 1));
      const entries = await Promise.all(
        ids.map((id) => {
          const key = `${prefix}callback:${id}`;
          return reader.read(key, async () => {
            const [entry, attempts, next, error] = await redis.hmget(
              key,
              'entry',
              'attempts',
              'next',
              'error',
            );
            return typeof entry === 'string'
              ? parseCallback(entry, attempts ?? '0', next ?? '0', error ?? '')
              : null;
          });
        }),
      );
      return entries.filter((entry) => entry !== null);
    },
    retryDead: async (id = '') => (await run('callback-retry-dead', queue, id)) as number,
  };
}
