import { type JobType, type QueueName, queueNames } from '../../catalogue.js';
import type { JobRecord, JobStore } from '../job-store.js';
import { largestPayloadBytes, readPayload } from '../read-payload.js';
import { createRecord, digestOf, isTerminal, listingKey, matches } from '../records.js';
import { createConnector, type StoreLog } from './connection.js';
import { createDeadLetters, createInstances } from './dead-letters.js';
import { createLeaseCalls } from './leases.js';
import { createRedisOutbox } from './outbox.js';
import { finishArguments, jobArguments, parseRecord } from './records.js';
import { createScriptRunner } from './scripts.js';
import { createWaitingPayloads, type WaitingPayload } from './waiting-payloads.js';
import { createSignals, createWaker } from './waker.js';

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
  const { run, callbackChanges } = createScriptRunner(redis, { prefix, now });
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

  const waiting = createWaitingPayloads(run);

  /** A record, or of a pushed payload that no runner has begun yet what can be said of it. */
  async function find(id: string): Promise<{ record: JobRecord; position?: number | null } | null> {
    const known = await readRecord(id);
    if (known !== null) return { record: known };
    const [found] = await waiting.find(id);
    if (found !== undefined) return { record: recordOf(found), position: found.position };
    // Begun while it was looked for.
    const begun = await readRecord(id);
    return begun === null ? null : { record: begun };
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
      changes: callbackChanges,
    }),
    ...createLeaseCalls({
      run,
      signals,
      waiting,
      hasRecord: async (id) => (await redis.exists(`${prefix}job:${id}`)) === 1,
      retentionMs,
      held,
    }),
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
        ...jobArguments({ ...readPayload(payload, queue), ...job }),
        payload,
        idempotencyKey,
        fingerprint,
        retentionMs,
        maxWaiting,
      )) as ['created' | 'exists' | 'conflict' | 'key_reused' | 'full', string, number];
      if (outcome !== 'created' && outcome !== 'exists') return { outcome };
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
      for (;;) {
        const record = await readRecord(id);
        const [found] = record === null ? await waiting.find(id, { now: true }) : [];
        const known = record ?? (found === undefined ? null : recordOf(found));
        if (known === null) {
          if ((await readRecord(id)) === null) return { outcome: 'unknown' };
          continue;
        }
        if (isTerminal(known)) return { outcome: 'already_finished', record: known };
        const outcome = (await run(
          'cancel',
          known.queue,
          ...jobArguments({ ...known, identity: '', ...found?.read }),
          found === undefined || found.token !== '' ? '' : found.payload,
          found?.token ?? '',
          known.createdAtMs,
          ...finishArguments(resultFor(known), retentionMs),
        )) as 'cancelled' | 'requested' | 'finished' | 'moved';
        if (outcome === 'moved') continue;
        const after = (await readRecord(id)) ?? { ...known, cancelRequested: true };
        return { outcome: outcome === 'finished' ? 'already_finished' : outcome, record: after };
      }
    },

    get: async (id) => (await find(id))?.record ?? null,

    async position(id) {
      const found = await find(id);
      if (found === null) return null;
      return found.position === undefined ? positionOf(found.record) : found.position;
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
      const answer = (await run.raw('depth', queue, largestPayloadBytes)) as [...number[], Buffer];
      const next = answer.pop() as Buffer;
      const [waiting = 0, delayed = 0, running = 0, oldestDelayed = -1, nowMs = 0] = answer as number[];
      const { id } = readPayload(next, queue);
      const created = id === '' ? null : await redis.hget(`${prefix}job:${id}`, 'created');
      const times = [oldestDelayed, Number(created ?? -1)].filter((ms) => ms >= 0);
      return {
        waiting,
        delayed,
        running,
        oldestAgeSeconds: times.length === 0 ? null : Math.max(0, nowMs - Math.min(...times)) / 1000,
      };
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

/** A raw push carries no time: it counts from now. */
function recordOf({ read, queue, queuedAtMs }: WaitingPayload): JobRecord {
  return createRecord({ ...read, type: read.type as JobType }, queue, queuedAtMs ?? Date.now());
}
