import type { Redis } from 'ioredis';
import { queueNames } from '../../jobs/catalogue.js';
import type { Outbox } from '../types.js';
import { callbackArguments, parseCallback } from './records.js';
import type { RunScript } from './scripts.js';

/** Callbacks in Redis; any instance's relay may deliver any of them. */
export function createRedisOutbox(redis: Redis, run: RunScript, prefix: string): Outbox {
  // Callbacks belong to no queue; the scripts want one all the same.
  const [queue] = queueNames;
  return {
    async add(entry) {
      await run('callback-add', queue, entry.jobId, ...callbackArguments(entry));
    },
    async claimDue(_workerId, limit, leaseMs) {
      const claimed = await run('callback-claim', queue, limit, leaseMs) as [string, string, string, string][];
      return claimed.map((fields) => parseCallback(...fields));
    },
    async delivered(id) {
      await run('callback-delivered', queue, id);
    },
    async reschedule(id, nextAttemptAtMs, error) {
      await run('callback-reschedule', queue, id, nextAttemptAtMs, error);
    },
    async deadLetter(id, reason) {
      await run('callback-dead-letter', queue, id, reason);
    },
    pending: () => redis.zcard(`${prefix}callbacks:due`),
    async listDead(limit) {
      const ids = await redis.zrange(`${prefix}callbacks:dead`, 0, String(limit - 1));
      const hashes = await Promise.all(ids.map((id) => redis.hmget(`${prefix}callback:${id}`, 'entry', 'attempts', 'next', 'error')));
      return hashes.flatMap(([entry, attempts, next, error]) => (typeof entry !== 'string' ? [] : [parseCallback(entry, attempts ?? '0', next ?? '0', error ?? '')]));
    },
    retryDead: async (id = '') => await run('callback-retry-dead', queue, id) as number,
  };
}
