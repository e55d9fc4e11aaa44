import type { Redis } from 'ioredis';
import { queueNames, type QueueName } from '../../catalogue.js';
import type { InstanceInfo, JobStore } from '../job-store.js';
import { shownPayload, shownPayloadBytes } from '../records.js';
import type { RunScript } from './scripts.js';

/** What operators look at and put back. */
export function createDeadLetters({
  redis,
  run,
  prefix,
}: {
  redis: Redis;
  run: RunScript;
  prefix: string;
}): Pick<JobStore, 'deadLetters' | 'requeueDeadLetter' | 'dropDeadLetter'> {
  return {
    async deadLetters(queue, limit) {
      const answer = await run.raw('dead-letters', queueNames[0], queue ?? '', limit, shownPayloadBytes);
      return (answer as ShownLetter[]).map(([id, head, bytes, reason, list, job, attempts, atMs]) => ({
        id: id.toString(),
        queue: list.toString() as QueueName,
        ...shownPayload(head, bytes),
        reason: reason.toString(),
        attempts,
        atMs,
        ...(job.length === 0 ? {} : { jobId: job.toString() }),
      }));
    },

    async requeueDeadLetter(id) {
      const queue = (await redis.hget(`${prefix}deadletter:${id}`, 'queue')) as QueueName | null;
      if (queue === null) return 'unknown';
      return (await run('requeue-dead-letter', queue, id)) as 'requeued' | 'incomplete' | 'unknown';
    },

    async dropDeadLetter(id) {
      const results = await redis
        .multi()
        .del(`${prefix}deadletter:${id}`)
        .zrem(`${prefix}deadletters`, id)
        .exec();
      return results?.[0]?.[1] === 1;
    },
  };
}

type ShownLetter = [
  id: Buffer,
  head: Buffer,
  bytes: number,
  reason: Buffer,
  queue: Buffer,
  job: Buffer,
  attempts: number,
  atMs: number,
];

/** Who shares the queue, by what each says of itself. */
export function createInstances({
  redis,
  prefix,
  now,
}: {
  redis: Redis;
  prefix: string;
  now: (() => number) | undefined;
}): Pick<JobStore, 'announce' | 'instances'> {
  async function serverTimeMs(): Promise<number> {
    if (now !== undefined) return now();
    const [seconds, micros] = await redis.time();
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  }

  return {
    async announce(instance, ttlMs) {
      await redis.hset(
        `${prefix}instances`,
        instance.workerId,
        JSON.stringify({ instance, forgetAtMs: (await serverTimeMs()) + ttlMs }),
      );
    },

    async instances() {
      const [hash, nowMs] = await Promise.all([redis.hgetall(`${prefix}instances`), serverTimeMs()]);
      const alive: InstanceInfo[] = [];
      for (const [workerId, text] of Object.entries(hash)) {
        const entry = parseInstance(text);
        if (entry !== null && entry.forgetAtMs > nowMs) alive.push(entry.instance);
        else await redis.hdel(`${prefix}instances`, workerId);
      }
      return alive;
    },
  };
}

/** Null for what no service wrote. */
function parseInstance(text: string): { instance: InstanceInfo; forgetAtMs: number } | null {
  try {
    const { instance, forgetAtMs } = JSON.parse(text) as Partial<{
      instance: InstanceInfo;
      forgetAtMs: number;
    }>;
    const isWhole = typeof instance?.workerId === 'string' && typeof instance.status === 'object';
    return isWhole && typeof forgetAtMs === 'number' ? { instance, forgetAtMs } : null;
  } catch {
    return null;
  }
}
