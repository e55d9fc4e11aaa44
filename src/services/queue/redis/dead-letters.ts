import type { Redis } from 'ioredis';
import { queueNames, type QueueName } from '../../catalogue.js';
import type { InstanceInfo, JobRecord, JobStore } from '../job-store.js';
import { listingKey, matches, shownPayload, shownPayloadBytes } from '../records.js';
import type { Reader } from './records.js';
import type { RunScript } from './scripts.js';

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
      const key = `${prefix}deadletter:${id}`;
      const queue = (await reader.read(key, () => redis.hget(key, 'queue'))) as QueueName | null;
      if (queue === null) return 'unknown';
      return (await run('requeue-dead-letter', queue, id)) as 'requeued' | 'incomplete' | 'unknown';
    },

    dropDeadLetter: async (id) => (await run('drop-dead-letter', queueNames[0], id)) === 1,
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

/** Records, newest first. */
export function createListing({
  redis,
  prefix,
  readRecord,
}: {
  redis: Redis;
  prefix: string;
  readRecord: (id: string) => Promise<JobRecord | null>;
}): JobStore['list'] {
  return async (filter, limit, cursor) => {
    const jobs: JobRecord[] = [];
    let after = cursor;
    for (;;) {
      const members = await redis.zrangebylex(
        `${prefix}jobs`,
        after === undefined ? '-' : `(${after}`,
        '+',
        'LIMIT',
        0,
        100,
      );
      const records = await Promise.all(
        members.map((member) => readRecord(member.slice(member.indexOf(':') + 1))),
      );
      for (const record of records) {
        if (record === null || !matches(record, filter)) continue;
        if (jobs.length === limit) {
          const last = jobs.at(-1);
          return last === undefined ? { jobs } : { jobs, nextCursor: listingKey(last) };
        }
        jobs.push(record);
      }
      after = members.at(-1);
      if (members.length < 100) return { jobs };
    }
  };
}

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
}): Pick<JobStore, 'announce' | 'instances'> {
  const key = `${prefix}instances`;

  async function serverTimeMs(): Promise<number> {
    if (now !== undefined) return now();
    const [seconds, micros] = await redis.time();
    return Number(seconds) * 1000 + Math.floor(Number(micros) / 1000);
  }

  return {
    async announce(instance, ttlMs) {
      await run('announce', queueNames[0], instance.workerId, JSON.stringify(instance), ttlMs);
    },

    async instances() {
      const [hash, nowMs] = await Promise.all([redis.hgetall(key), serverTimeMs()]);
      const alive: InstanceInfo[] = [];
      for (const [workerId, text] of Object.entries(hash)) {
        const entry = parseInstance(text);
        if (entry === null) reader.passOver(`${key} ${workerId}`, new Error('it is no instance'));
        else if (entry.forgetAtMs > nowMs) alive.push(entry.instance);
        else await redis.hdel(key, workerId);
      }
      return alive;
    },
  };
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
