import { type QueueName, queueNames } from '../../catalogue.js';
import type { JobRecord, JobStore } from '../job-store.js';
import { largestPayloadBytes, type PayloadRead, readPayload } from '../read-payload.js';
import { digestOf, isTerminal } from '../records.js';
import { createChanges } from './changes.js';
import { createConnector, createOutages, type StoreLog } from './connection.js';
import { createDeadLetters, createInstances, serverTimeMs } from './dead-letters.js';
import { createLeaseCalls } from './leases.js';
import { createListing, recordOf } from './listing.js';
import { createReader, createRedisOutbox, finishArguments, jobArguments, parseRecord } from './records.js';
import { withoutAssets } from '../store-parts.js';
import { createScriptRunner } from './scripts.js';
import { createWaitingPayloads } from './waiting-payloads.js';
import { createSignals, createWaker } from './waker.js';

export interface RedisStoreOptions {
  /** As `ConnectorOptions` says. Redis 6.2 or later, no cluster. */
  url: string;
  ca?: string | undefined;
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

/** So long one write proves that the server takes writes. */
const provenForMs = 5000;
const defaultRetentionMs = 7 * 24 * 3600 * 1000;
/**
 * The queue that any number of processes share, on the lists the producers push to. Connects in the
 * background; calls fail while the server cannot be reached. Every transition is one Lua script:
 * `docs/queue.md` describes keys and cost.
 */
export function createRedisStore(options: RedisStoreOptions): JobStore {
  const {
    url,
    ca,
    prefix = 'ourvidz:',
    retentionMs = defaultRetentionMs,
    blockSeconds = 5,
    answerTimeoutMs,
    pollMs = 500,
    log,
    now,
  } = options;
  const outages = createOutages(log);
  const reader = createReader(log);
  const connector = createConnector({ url, ca, outages, answerTimeoutMs });
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

  const subscriber = connector.connect('signals', { maxRetriesPerRequest: null, enableReadyCheck: true });
  subscriber.on('message', (channel: string, message: string) => {
    if (channel === `${prefix}wake`) signals.notice();
    else if (channel === `${prefix}cancel` && [...held.values()].includes(message))
      signals.emitter.emit('cancel', message);
  });
  subscriber
    .subscribe(`${prefix}cancel`, `${prefix}wake`)
    .catch((error: unknown) =>
      log?.warn({ err: error }, 'Redis refuses subscriptions; cancellation waits for the next lease renewal'),
    );

  const readRecord = (id: string) => {
    const key = `${prefix}job:${id}`;
    return reader.read(key, async () => parseRecord(id, await redis.hgetall(key)));
  };

  /** Of a job with a record that waits: it came over HTTP, or is an entry. */
  async function payloadOf({ id, queue }: JobRecord): Promise<PayloadRead | null> {
    const key = `${prefix}job:${id}`;
    const [payload, entry] = await redis.hmget(key, 'payload', 'entry');
    const text = payload || (entry ? await redis.get(`${prefix}payload:${entry}`) : null);
    return text ? readPayload(text, queue) : null;
  }

  const waiting = createWaitingPayloads(run);
  let writtenAtMs = -Infinity;

  const listing = createListing({ redis, run, prefix, readRecord, waiting });
  const changes = createChanges({
    redis,
    connectBlocking,
    subscriber,
    prefix,
    blockSeconds,
    isOwn: (id) => [...held.values()].includes(id),
    log,
  });
  const { holds, ...instances } = createInstances({ redis, run, reader, prefix, now });

  const outbox = createRedisOutbox({
    redis,
    reader,
    run,
    prefix,
    now: now ?? (() => performance.now()),
    changes: callbackChanges,
  });
  const calls: Omit<
    JobStore,
    'kind' | 'outbox' | 'holds' | 'changes' | 'waitForWork' | 'onCancel' | 'close'
  > = {
    ...createLeaseCalls({
      run,
      signals,
      waiting,
      hasRecord: async (id) => (await redis.exists(`${prefix}job:${id}`)) === 1,
      retentionMs,
      held,
    }),
    ...createDeadLetters({ redis, run, reader, prefix }),
    ...instances,

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
        queuePosition: outcome === 'created' ? before : ((await listing.position(id)) ?? 0),
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
        const read = found?.read ?? (await reader.read(id, () => payloadOf(known)));
        const outcome = (await run(
          'cancel',
          known.queue,
          ...jobArguments({ ...known, identity: '', ...found?.read }),
          found === undefined || found.token !== '' ? '' : found.payload,
          found?.token ?? '',
          known.createdAtMs,
          ...finishArguments(resultFor(known, read), retentionMs),
        )) as 'cancelled' | 'requested' | 'finished' | 'unknown' | 'moved';
        if (outcome === 'unknown') return { outcome };
        if (outcome === 'moved') continue;
        const after = (await readRecord(id)) ?? { ...known, cancelRequested: true };
        return { outcome: outcome === 'finished' ? 'already_finished' : outcome, record: after };
      }
    },

    ...listing,

    async forgetAssets(id) {
      const record = await readRecord(id);
      if (record === null || !isTerminal(record)) return null;
      const metadata = withoutAssets(record.metadata, Date.now());
      await run('forget-assets', record.queue, id, JSON.stringify(metadata));
      return { ...record, assets: [], metadata };
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

    async ping() {
      // A demoted or a full server answers as well: what counts is that it can be written to.
      const isProven = performance.now() - writtenAtMs < provenForMs && outages.lastFailureMs() < writtenAtMs;
      // Another program may have put something else where the lists are.
      await Promise.all(queueNames.map((list) => redis.llen(list)));
      if (isProven) return;
      await redis.set(`${prefix}written`, '1', 'PX', 3 * provenForMs);
      writtenAtMs = performance.now();
    },

    clock: () => serverTimeMs(redis),
  };

  return {
    kind: 'redis',
    ...outages.naming(calls),
    outbox: outages.naming(outbox),
    holds: outages.naming(holds),
    changes: outages.naming(changes),
    waitForWork: signals.waitForWork,
    onCancel(listener) {
      signals.emitter.on('cancel', listener);
      return () => signals.emitter.off('cancel', listener);
    },
    async close() {
      signals.close();
      changes.close();
      // What has been called is still answered when the server is there; otherwise nothing is waited for.
      if (redis.status === 'ready') await redis.quit().catch(() => undefined);
      connector.disconnectAll();
    },
  };
}
