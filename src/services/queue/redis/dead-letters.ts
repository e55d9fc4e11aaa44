import type { Redis } from 'ioredis';
import type { QueueName } from '../../catalogue.js';
import type { DeadLetter, InstanceInfo, JobStore } from '../job-store.js';
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
      const letters: DeadLetter[] = [];
      for (let start = 0; letters.length < limit; start += 100) {
        const ids = await redis.zrevrange(`${prefix}deadletters`, start, start + 99);
        const hashes = await Promise.all(ids.map((id) => redis.hgetall(`${prefix}deadletter:${id}`)));
        hashes.forEach((hash, index) => {
          const letter = parseDeadLetter(ids[index] ?? '', hash);
          if (letter !== null && letters.length < limit && (queue === undefined || letter.queue === queue))
            letters.push(letter);
        });
        if (ids.length < 100) break;
      }
      return letters;
    },

    async requeueDeadLetter(id) {
      const queue = (await redis.hget(`${prefix}deadletter:${id}`, 'queue')) as QueueName | null;
      return queue !== null && (await run('requeue-dead-letter', queue, id)) === 1;
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

function parseDeadLetter(id: string, hash: Record<string, string>): DeadLetter | null {
  const { payload, queue, reason, job, attempts, at } = hash;
  if (payload === undefined || queue === undefined) return null;
  return {
    id,
    queue: queue as QueueName,
    payload,
    reason: reason ?? '',
    attempts: Number(attempts ?? 0),
    atMs: Number(at ?? 0),
    ...(job === undefined || job === '' ? {} : { jobId: job }),
  };
}

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
