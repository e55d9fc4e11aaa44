import { queueNames, type JobType, type QueueName } from '../../catalogue.js';
import { createRecord, digestOf, isTerminal, listingKey, matches } from '../records.js';
import type { JobRecord, JobStore } from '../job-store.js';
import { createConnector, type StoreLog } from './connection.js';
import { createDeadLetters, createInstances } from './dead-letters.js';
import { createLeaseCalls } from './leases.js';
import { createRedisOutbox } from './outbox.js';
import { finishArguments, parseRecord } from './records.js';
import { createScriptRunner, type RunScript, type ScriptName } from './scripts.js';
import { createSignals } from './signals.js';
import { createWaker } from './waker.js';

export interface RedisStoreOptions {
  /** `redis://` or `rediss://` (TLS, as Upstash wants it). Redis 6.2 or later, no cluster. */
  url: string;
  /** Of all keys except the producers' lists. Default `ourvidz:`. */
  prefix?: string;
  /** How long finished jobs, idempotency keys and dead callbacks are kept. Default 7 days. */
  retentionMs?: number;
  /** Longest time one blocking command is held. Default 5. */
  blockSeconds?: number;
  /**
   * A connection that owes an answer and says nothing for so long is replaced. Default 5000; commands that
   * block on purpose have their own limit.
   */
  answerTimeoutMs?: number;
  /** How often a list is looked at where blocking says nothing. Default 500. */
  pollMs?: number;
  log?: StoreLog;
  /** A clock in place of the server's, for tests. */
  now?: () => number;
}

const defaultRetentionMs = 7 * 24 * 3600 * 1000;
/** How far into a list a job without a record is searched for. */
const searchLimit = 10_000;
/** Scripts after which no callback can be due that was not due before. */
const withoutCallbacks: ReadonlySet<ScriptName> = new Set([
  'reserve',
  'renew',
  'progress',
  'reclaim',
  'housekeep',
  'locate',
  'position',
  'depth',
  'callback-claim',
]);

/**
 * The queue that any number of processes share, on the lists the producers push to. Connects in the
 * background; calls fail while the server cannot be reached. Every transition is one Lua script:
 * `docs/queue.md` describes keys and cost.
 */
export function createRedisStore(options: RedisStoreOptions): JobStore {
  const {
    url,
    prefix = 'ourvidz:',
    retentionMs = defaultRetentionMs,
    blockSeconds = 5,
    answerTimeoutMs,
    pollMs = 500,
    log,
    now,
  } = options;
  const connector = createConnector(url, log, answerTimeoutMs);
  const redis = connector.connect('main');
  const runScript = createScriptRunner(redis, { prefix, now });
  let callbackChanges = 0;
  const run: RunScript = async (name, ...args) => {
    if (withoutCallbacks.has(name)) return runScript(name, ...args);
    // Also afterwards: a script that the server did not know ran later than what was sent behind it.
    callbackChanges += 1;
    return runScript(name, ...args).finally(() => {
      callbackChanges += 1;
    });
  };
  const connectBlocking = () =>
    connector.connect('wait', {
      autoResendUnfulfilledCommands: false,
      maxRetriesPerRequest: 0,
      socketTimeout: undefined,
    });
  const wakers = Object.fromEntries(
    queueNames.map((list) => [
      list,
      createWaker({ connect: connectBlocking, list, blockSeconds, pollMs, log }),
    ]),
  ) as Record<QueueName, ReturnType<typeof createWaker>>;
  const signals = createSignals({ wakers, pollMs });
  const held = new Map<string, string>();

  const subscriber = connector.connect('signals', { maxRetriesPerRequest: null });
  subscriber.on('message', (channel: string, message: string) => {
    if (channel === `${prefix}wake`) signals.notice();
    else if ([...held.values()].includes(message)) signals.emitter.emit('cancel', message);
  });
  subscriber
    .subscribe(`${prefix}cancel`, `${prefix}wake`)
    .catch((error: unknown) =>
      log?.warn({ err: error }, 'Redis refuses subscriptions; cancellation waits for the next lease renewal'),
    );

  const readRecord = async (id: string) => parseRecord(id, await redis.hgetall(`${prefix}job:${id}`));

  /** A pushed payload that no runner has begun yet has no record: this is what can be said of it. */
  async function locate(id: string): Promise<{ record: JobRecord; position: number | null } | null> {
    for (const queue of queueNames) {
      const found = (await run('locate', queue, id, searchLimit)) as
        [] | [string, string, string, number, number];
      if (found.length === 0) continue;
      const [, type, userId, queuedAtMs, position] = found;
      return {
        record: createRecord({ id, type: type as JobType, userId }, queue, queuedAtMs),
        position: position < 0 ? null : position,
      };
    }
    return null;
  }

  async function positionOf(record: JobRecord): Promise<number | null> {
    const position = (await run('position', record.queue, record.id)) as number;
    return position < 0 ? null : position;
  }

  return {
    kind: 'redis',
    outbox: createRedisOutbox({
      redis,
      run,
      prefix,
      now: now ?? (() => performance.now()),
      changes: () => callbackChanges,
    }),
    ...createLeaseCalls({ run, signals, retentionMs, held }),
    ...createDeadLetters({ redis, run, prefix }),
    ...createInstances({ redis, prefix, now }),
    waitForWork: signals.waitForWork,

    async submit({
      queue,
      payload,
      job,
      idempotencyKey = '',
      fingerprint = digestOf(payload),
      maxWaiting = 0,
    }) {
      const [outcome, id, before] = (await run(
        'submit',
        queue,
        job.id,
        job.type,
        job.userId,
        queue,
        payload,
        idempotencyKey,
        fingerprint,
        retentionMs,
        maxWaiting,
      )) as ['created' | 'exists' | 'key_reused' | 'full', string, number];
      if (outcome === 'key_reused' || outcome === 'full') return { outcome };
      const record = await readRecord(id);
      if (record === null)
        throw new Error(`The record of job ${id} is gone from Redis; is the server evicting keys?`);
      return {
        outcome,
        record,
        queuePosition: outcome === 'created' ? before : ((await positionOf(record)) ?? 0),
      };
    },

    async push(queue, payload) {
      await redis.lpush(queue, payload);
    },

    async cancel(id, resultFor) {
      const record = (await readRecord(id)) ?? (await locate(id))?.record;
      if (record === undefined) return { outcome: 'unknown' };
      if (isTerminal(record)) return { outcome: 'already_finished', record };
      const outcome = (await run(
        'cancel',
        record.queue,
        id,
        record.queue,
        searchLimit,
        ...finishArguments(resultFor(record), retentionMs),
      )) as 'cancelled' | 'requested' | 'finished' | 'unknown';
      if (outcome === 'unknown') return { outcome };
      const after = (await readRecord(id)) ?? { ...record, cancelRequested: true };
      return { outcome: outcome === 'finished' ? 'already_finished' : outcome, record: after };
    },

    get: async (id) => (await readRecord(id)) ?? (await locate(id))?.record ?? null,

    async position(id) {
      const record = await readRecord(id);
      return record === null ? ((await locate(id))?.position ?? null) : positionOf(record);
    },

    async list(filter, limit, cursor) {
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
    },

    async depth(queue) {
      const [waiting, delayed, running, ageMs] = (await run('depth', queue)) as [
        number,
        number,
        number,
        number,
      ];
      return { waiting, delayed, running, oldestAgeSeconds: ageMs < 0 ? null : ageMs / 1000 };
    },

    onCancel(listener) {
      signals.emitter.on('cancel', listener);
      return () => signals.emitter.off('cancel', listener);
    },

    async ping() {
      await redis.ping();
    },

    async close() {
      signals.close();
      // What has been called is still answered when the server is there; otherwise nothing is waited for.
      if (redis.status === 'ready') await redis.quit().catch(() => undefined);
      connector.disconnectAll();
    },
  };
}
