import { setTimeout as sleep } from 'node:timers/promises';
import type { Redis } from 'ioredis';
import { queueNames, type JobType, type QueueName } from '../../catalogue.js';
import type { JobProgress, JobStatus } from '../job-store.js';
import { type ChangeListener, type Changes, compareChanges, type JobChange } from '../store-parts.js';
import type { StoreLog } from './connection.js';

interface Options {
  redis: Redis;
  /** Opens a connection for commands that block; once there is somebody who follows. */
  connectBlocking: () => Redis;
  subscriber: Redis;
  prefix: string;
  blockSeconds: number;
  /** Jobs of this process: their progress is told here sooner. */
  isOwn: (jobId: string) => boolean;
  log: StoreLog | undefined;
}

const perRead = 500;
/** Past its own timeout a blocked command gets this long before its connection is opened anew. */
const graceMs = 2000;
const nothing = '0-0';

/**
 * What becomes of all jobs, from the stream that the scripts write (`tell` in common.lua). One reader, whose
 * connection is there while somebody follows, serves all followers of this process; progress comes over a channel,
 * and is kept nowhere.
 */
export function createChanges(options: Options): Changes & { close(): void } {
  const { redis, connectBlocking, subscriber, prefix, blockSeconds, isOwn, log } = options;
  const stream = `${prefix}changes`;
  const channel = `${prefix}progress`;
  const followers = new Set<ChangeListener>();
  /** The reader, and the id it has got to. */
  let reading: { connection: Redis; lastId: string; started: Promise<void> } | undefined;

  const latestId = async () => (await redis.xrevrange(stream, '+', '-', 'COUNT', 1))[0]?.[0] ?? nothing;

  subscriber.on('message', (from: string, message: string) => {
    if (from !== channel) return;
    const [id = '', written = '', userId = '', ...rest] = message.split('\n');
    if (isOwn(id)) return;
    const progress = JSON.parse(rest.join('\n')) as JobProgress;
    for (const { onProgress } of followers)
      onProgress({ id, userId, ...(written === '' ? {} : { writtenId: written }) }, progress);
  });

  function begin() {
    const connection = connectBlocking();
    const own: NonNullable<typeof reading> = { connection, lastId: nothing, started: Promise.resolve() };
    own.started = Promise.all([latestId(), subscriber.subscribe(channel)]).then(([id]) => {
      own.lastId = id;
      void readOn(own);
    });
    reading = own;
    return own;
  }

  /** Those after the last, or none after a while. A connection that says nothing at all is opened anew. */
  async function read({ connection, lastId }: NonNullable<typeof reading>) {
    const blockMs = blockSeconds * 1000;
    const timer = setTimeout(() => connection.disconnect(true), blockMs + graceMs).unref();
    try {
      return await connection.xread('COUNT', perRead, 'BLOCK', blockMs, 'STREAMS', stream, lastId);
    } finally {
      clearTimeout(timer);
    }
  }

  async function readOn(own: NonNullable<typeof reading>): Promise<void> {
    let isFailing = false;
    while (reading === own) {
      try {
        const answer = await read(own);
        isFailing = false;
        for (const [id, fields] of answer?.[0]?.[1] ?? []) {
          own.lastId = id;
          const change = changeOf(id, fields);
          for (const { onChange } of followers) onChange(change);
        }
      } catch (error) {
        if (reading !== own) return;
        if (!isFailing) log?.warn({ err: error }, 'changes of jobs cannot be read from Redis; trying again');
        isFailing = true;
        await sleep(1000, undefined, { ref: false });
      }
    }
  }

  function end(): void {
    reading?.connection.disconnect();
    reading = undefined;
    if (subscriber.status === 'ready') subscriber.unsubscribe(channel).catch(() => undefined);
  }

  return {
    close: end,
    async follow(listener) {
      followers.add(listener);
      const stop = () => {
        if (followers.delete(listener) && followers.size === 0) end();
      };
      const own = reading ?? begin();
      try {
        await own.started;
      } catch (error) {
        stop();
        throw error;
      }
      return { lastId: own.lastId, stop };
    },

    async since(id) {
      const [oldest] = await redis.xrange(stream, '-', '+', 'COUNT', 1);
      if (oldest === undefined || compareChanges(oldest[0], id) > 0) return null;
      const found: JobChange[] = [];
      for (let from = id; ;) {
        const entries = await redis.xrange(stream, `(${from}`, '+', 'COUNT', perRead);
        found.push(...entries.map(([entry, fields]) => changeOf(entry, fields)));
        const last = entries.at(-1);
        if (last === undefined || entries.length < perRead) return found;
        from = last[0];
      }
    },
  };
}

function changeOf(id: string, fields: string[]): JobChange {
  const entry = Object.fromEntries(
    fields.flatMap((name, index) => (index % 2 === 0 ? [[name, fields[index + 1] ?? '']] : [])),
  ) as Record<string, string | undefined>;
  const { job = '', type, user = '', queue, status, attempts, assets, error, written } = entry;
  return {
    id,
    job: {
      id: job,
      type: type as JobType,
      userId: user,
      queue: (queue || queueNames[0]) as QueueName,
      status: status as JobStatus,
      attempts: Number(attempts),
      assets: assets ? (JSON.parse(assets) as string[]) : [],
      ...(error ? { errorMessage: error } : {}),
      ...(written ? { writtenId: written } : {}),
    },
  };
}
