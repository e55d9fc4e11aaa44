import type { Redis } from 'ioredis';
import { queueNames } from '../../catalogue.js';
import type { Outbox } from '../outbox.js';
import { callbackArguments, parseCallback } from './records.js';
import type { RunScript } from './scripts.js';

interface Options {
  redis: Redis;
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
export function createRedisOutbox({ redis, run, prefix, now, changes }: Options): Outbox {
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
        ...[string, string, string, string][],
      ];
      if (claimed.length === 0)
        quiet = {
          untilMs: now() + (waitMs < 0 ? longestQuietMs : Math.min(waitMs, longestQuietMs)),
          changes: before,
        };
      return claimed.map((fields) => parseCallback(...fields));
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
      const hashes = await Promise.all(
        ids.map((id) => redis.hmget(`${prefix}callback:${id}`, 'entry', 'attempts', 'next', 'error')),
      );
      return hashes.flatMap(([entry, attempts, next, error]) =>
        typeof entry !== 'string' ? [] : [parseCallback(entry, attempts ?? '0', next ?? '0', error ?? '')],
      );
    },
    retryDead: async (id = '') => (await run('callback-retry-dead', queue, id)) as number,
  };
}
