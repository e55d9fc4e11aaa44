import type { Redis } from 'ioredis';
import { isQueueName, queueNames, type QueueName } from '../../catalogue.js';
import type {
  DeadLetterCalls,
  Hold,
  Holds,
  HoldTarget,
  InstanceCalls,
  InstanceInfo,
} from '../store-parts.js';
import { shownPayload, shownPayloadBytes } from '../records.js';
import type { Reader } from './records.js';
import type { RunScript } from './scripts.js';

/** Milliseconds since 1970, by the server's clock. */
export async function serverTimeMs(redis: Redis): Promise<number> {
  const [seconds, micros] = await redis.time();
  return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
}

/** What operators look at and put back. */
export function createDeadLetters({
  redis,
  run,
  reader,
  prefix,
}: {
  redis: Redis;
  run: RunScript;
  reader: Reader;
  prefix: string;
}): DeadLetterCalls {
  const shown = async (queue: QueueName | undefined, limit: number, bytes: number, skip = 0) =>
    (await run.raw('dead-letters', queueNames[0], queue ?? '', limit, bytes, skip)) as ShownLetter[];

  return {
    async deadLetterIndex() {
      const found = new Map<string, Awaited<ReturnType<DeadLetterCalls['deadLetterIndex']>>[number]>();
      for (let skip = 0; ; skip += lettersPerCall) {
        const letters = await shown(undefined, lettersPerCall, 0, skip);
        for (const [id, , , reason, list, , , atMs] of letters)
          found.set(id.toString(), {
            id: id.toString(),
            queue: list.toString() as QueueName,
            reason: reason.toString(),
            atMs,
          });
        if (letters.length < lettersPerCall) return [...found.values()];
      }
    },

    async deadLetters(queue, limit) {
      return (await shown(queue, limit, shownPayloadBytes)).map(
        ([id, head, bytes, reason, list, job, attempts, atMs]) => ({
          id: id.toString(),
          queue: list.toString() as QueueName,
          ...shownPayload(head, bytes),
          reason: reason.toString(),
          attempts,
          atMs,
          ...(job.length === 0 ? {} : { jobId: job.toString() }),
        }),
      );
    },

    async requeueDeadLetter(id) {
      const key = `${prefix}deadletter:${id}`;
      const queue = (await reader.read(key, () => redis.hget(key, 'queue'))) as QueueName | null;
      if (queue === null) return 'unknown';
      return (await run('requeue-dead-letter', queue, id)) as 'requeued' | 'incomplete' | 'unknown';
    },

    dropDeadLetter: async (id) => (await run('drop-dead-letter', queueNames[0], id)) === 1,
  };
}

const lettersPerCall = 500;

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
  run,
  reader,
  prefix,
  now,
}: {
  redis: Redis;
  run: RunScript;
  reader: Reader;
  prefix: string;
  now: (() => number) | undefined;
}): InstanceCalls & { holds: Holds } {
  const key = `${prefix}instances`;
  const holdsKey = `${prefix}holds`;
  const fieldOf = (target: HoldTarget) => ('queue' in target ? target.queue : `worker:${target.workerId}`);

  const clock = async () => now?.() ?? serverTimeMs(redis);

  return {
    async announce(instance, ttlMs) {
      await run('announce', queueNames[0], instance.workerId, JSON.stringify(instance), ttlMs);
    },

    async instances() {
      const [hash, nowMs] = await Promise.all([redis.hgetall(key), clock()]);
      const alive: InstanceInfo[] = [];
      for (const [workerId, text] of Object.entries(hash)) {
        const entry = parseInstance(text);
        if (entry === null) reader.passOver(`${key} ${workerId}`, new Error('it is no instance'));
        else if (entry.forgetAtMs > nowMs) alive.push(entry.instance);
        else await redis.hdel(key, workerId);
      }
      return alive;
    },

    holds: {
      async hold(target, asked) {
        const held: Hold = { sinceMs: await clock(), ...asked };
        await redis.hsetnx(holdsKey, fieldOf(target), JSON.stringify(held));
      },
      async release(target) {
        await redis.hdel(holdsKey, fieldOf(target));
        // Whoever waits for work looks again.
        await redis.publish(`${prefix}wake`, 'queue' in target ? target.queue : '');
      },
      async list() {
        const queues: Partial<Record<QueueName, Hold>> = {};
        const workers = new Map<string, Hold>();
        for (const [field, text] of Object.entries(await redis.hgetall(holdsKey))) {
          const hold = parseHold(text);
          if (isQueueName(field)) queues[field] = hold;
          else if (field.startsWith('worker:')) workers.set(field.slice('worker:'.length), hold);
        }
        return { queues, workers };
      },
    },
  };
}

/** It holds whatever it says. */
function parseHold(text: string): Hold {
  try {
    const { sinceMs, by, reason } = JSON.parse(text) as Record<string, unknown>;
    return {
      sinceMs: typeof sinceMs === 'number' ? sinceMs : 0,
      by: typeof by === 'string' ? by : 'unknown',
      ...(typeof reason === 'string' ? { reason } : {}),
    };
  } catch {
    return { sinceMs: 0, by: 'unknown' };
  }
}

/** Null for what no service wrote. */
function parseInstance(text: string): { instance: InstanceInfo; forgetAtMs: number } | null {
  try {
    const { instance, forgetAtMs } = JSON.parse(text) as Record<string, Record<string, unknown> | number>;
    if (typeof instance !== 'object' || typeof forgetAtMs !== 'number') return null;
    const { workerId, host, status, pid, startedAtMs, seenAtMs } = instance;
    const isWhole =
      [workerId, host].every((each) => typeof each === 'string') &&
      [pid, startedAtMs, seenAtMs].every(
        (each) => Number.isInteger(each) && Math.abs(each as number) < 8e15,
      ) &&
      typeof status === 'object' &&
      status !== null;
    return isWhole ? { instance: instance as unknown as InstanceInfo, forgetAtMs } : null;
  } catch {
    return null;
  }
}
