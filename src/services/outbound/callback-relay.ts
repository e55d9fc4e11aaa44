import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { Trouble } from '../../lib/errors.js';
import { backoffDelayMs, type BackoffOptions } from '../../lib/retry.js';
import { withinTrace } from '../../lib/trace.js';
import type { Outbox, OutboxEntry } from '../queue/store-parts.js';
import type { CallbackSender, Delivery } from './sender.js';

export interface RelayOptions {
  outbox: Outbox;
  sender: CallbackSender;
  workerId: string;
  log: Logger;
  backoff?: BackoffOptions;
  /** After this long an entry is given up and kept for inspection. */
  giveUpAfterMs?: number;
  /** Longest wait between two looks at the outbox; a look costs nothing while nothing can be due. */
  idleMs?: number;
  /** Deliveries at a time. */
  concurrency?: number;
  /**
   * Where callbacks go. One that waits since this setting was another one goes here as well: who corrects the
   * address means what has not arrived. Without it, the address that the entry has.
   */
  receiver?: string | undefined;
  /** A receiver that refuses the worker is asked again so often, with what is due anyway. */
  probeMs?: number;
  /** Without news for so long nothing is known of the receiver any more. */
  forgetMs?: number;
  /** How long an entry is this relay's alone; a third of it more than the sender's timeout. */
  claimMs?: number;
  now?: () => number;
}

export type CallbackRelay = ReturnType<typeof createCallbackRelay>;

const hour = 3_600_000;
/** An old entry that somebody put back in line gets a fair number of attempts, too. */
const fewestAttempts = 10;

/**
 * Delivers the outbox at least once. An entry stays in it until a receiver has answered 2xx: a crash between
 * sending and noting that repeats the delivery under the same id. Order within one job is the outbox's
 * promise.
 */
export function createCallbackRelay(options: RelayOptions) {
  const {
    outbox,
    sender,
    workerId,
    log,
    backoff = { baseMs: 1000, maxMs: hour / 6, jitter: 0.3 },
    giveUpAfterMs = 24 * hour,
    idleMs = 250,
    concurrency = 8,
    claimMs = 30_000,
    receiver,
    probeMs = 15_000,
    forgetMs = 60_000,
    now = Date.now,
  } = options;
  const reception = createReception({ forgetMs, now });
  let probedAtMs = -Infinity;
  let stopped = false;
  const sending = new Set<Promise<void>>();
  let wake = () => {};
  let loop: Promise<void> | undefined;

  async function deliver(kept: OutboxEntry): Promise<void> {
    const entry = receiver === undefined ? kept : { ...kept, url: receiver };
    const fields = { job_id: entry.jobId, event: entry.event, attempt: entry.attempts + 1 };
    const delivery = await withinTrace(entry, `callback ${entry.event}`, () => sender.send(entry));
    reception.note(entry.jobId, delivery);
    if (delivery.outcome === 'accepted') {
      await outbox.delivered(entry.id);
      log.debug(fields, 'callback delivered');
    } else if (delivery.outcome === 'refused') {
      await outbox.deadLetter(entry.id, delivery.reason);
      log.error({ ...fields, reason: delivery.reason }, 'callback refused for good; kept for inspection');
    } else if (now() - entry.createdAtMs > giveUpAfterMs && entry.attempts + 1 >= fewestAttempts) {
      await outbox.deadLetter(entry.id, delivery.reason);
      log.error({ ...fields, reason: delivery.reason }, 'callback given up; kept for inspection');
    } else {
      const waitMs = Math.max(delivery.afterMs ?? 0, ownDelayMs(entry, delivery));
      await outbox.reschedule(entry.id, waitMs, delivery.reason);
      log.warn(
        { ...fields, reason: delivery.reason, again_in_ms: Math.round(waitMs) },
        'callback not delivered',
      );
    }
  }

  /** One entry is tried sooner while the receiver refuses: the worker waits for its answer. */
  function ownDelayMs(entry: OutboxEntry, { doubt }: Extract<Delivery, { outcome: 'again' }>): number {
    const plainMs = backoffDelayMs(entry.attempts + 1, backoff);
    if (doubt === undefined || reception.refusal() === null || now() - probedAtMs < probeMs) return plainMs;
    probedAtMs = now();
    return Math.min(plainMs, probeMs);
  }

  /**
   * Takes as many due entries as there are free places and sends them; returns how many. A receiver that
   * hangs holds one place, not the others.
   */
  async function sendDue(): Promise<number> {
    const free = concurrency - sending.size;
    if (free === 0) return 0;
    const claimedAtMs = now();
    const entries = await outbox.claimDue(workerId, free, claimMs);
    // A process that was suspended meanwhile must not send what others may have sent since, and gone beyond.
    if (now() - claimedAtMs > claimMs / 3) return entries.length;
    for (const entry of entries) {
      const delivery = deliver(entry)
        .catch((error: unknown) => {
          log.warn(
            { err: error, job_id: entry.jobId },
            'the outcome of a callback could not be noted; it will be sent again',
          );
        })
        .finally(() => sending.delete(delivery));
      sending.add(delivery);
    }
    return entries.length;
  }

  async function run(): Promise<void> {
    while (!stopped) {
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      const sent = await sendDue().catch((error: unknown) => {
        log.warn({ err: error }, 'the outbox does not answer');
        return 0;
      });
      if (sent === 0) await pause(idleMs, woken, ...sending);
    }
  }

  /** Until the time is over, or one of the promises is settled. */
  async function pause(ms: number, ...promises: Promise<unknown>[]): Promise<void> {
    const timer = new AbortController();
    await Promise.race([...promises, delay(ms, undefined, { signal: timer.signal }).catch(() => undefined)]);
    timer.abort();
  }

  return {
    start(): void {
      loop ??= run();
    },
    /**
     * Why the receiver refuses whatever this worker sends; null while it accepts, or when nothing
     * has been heard of it for a while.
     */
    refusal: reception.refusal,
    /** Called when an entry was added: it is sent at once. */
    wake: () => wake(),
    /** Ends the loop, then delivers what is due within `graceMs`. What is left stays in the outbox. */
    async stop(graceMs: number): Promise<void> {
      stopped = true;
      wake();
      await loop;
      const deadline = Date.now() + graceMs;
      const left = () => Math.max(0, deadline - Date.now());
      do {
        await Promise.race([Promise.all(sending), delay(left(), undefined, { ref: false })]);
      } while (
        left() > 0 &&
        (await Promise.race([sendDue().catch(() => 0), delay(left(), 0, { ref: false })])) > 0
      );
      await sender.close();
      await Promise.race([Promise.all(sending), delay(1000, undefined, { ref: false })]);
    },
  };
}

/**
 * What the receiver thinks of this worker. A refusal that may be about one job counts from the second job on
 * that meets it with nothing accepted in between.
 */
function createReception({ forgetMs, now }: { forgetMs: number; now: () => number }) {
  let refused: { why: Trouble; atMs: number } | null = null;
  let doubtfulJob: string | null = null;
  return {
    note(jobId: string, delivery: Delivery): void {
      if (delivery.outcome === 'accepted') [refused, doubtfulJob] = [null, null];
      if (delivery.outcome !== 'again' || delivery.doubt === undefined) return;
      const { doubt, status = 0 } = delivery;
      const isCertain = doubt === 'sender' || refused !== null;
      if (isCertain || (doubtfulJob !== null && doubtfulJob !== jobId))
        refused = { why: refusalOf(status), atMs: now() };
      doubtfulJob = jobId;
    },
    refusal: (): Trouble | null =>
      refused !== null && now() - refused.atMs <= forgetMs ? refused.why : null,
  };
}

/** Why a receiver refuses what this worker sends, and what to do. */
const refusalOf = (status: number): Trouble => ({
  code: 'callbacks_refused',
  severity: 'critical',
  target: 'callbacks',
  what: 'The receiver of callbacks refuses this worker',
  ...(status === 404
    ? {
        cause: `it answers ${status}: the function is not deployed, or CALLBACK_URL is not its address`,
        cure: 'Deploy the function job-callback, or set CALLBACK_URL to where it is. Jobs wait meanwhile.',
      }
    : {
        cause: `it answers ${status}: SUPABASE_SERVICE_KEY or CALLBACK_SECRET is not what it expects`,
        cure: 'Set SUPABASE_SERVICE_KEY or CALLBACK_SECRET to what it expects. Jobs wait meanwhile.',
      }),
});
