import { setTimeout as delay } from 'node:timers/promises';
import type { Logger } from 'pino';
import { backoffDelayMs, type BackoffOptions } from '../backoff.js';
import type { Outbox, OutboxEntry } from '../queue/types.js';
import type { CallbackSender } from './sender.js';

export interface RelayOptions {
  outbox: Outbox;
  sender: CallbackSender;
  workerId: string;
  log: Logger;
  backoff?: BackoffOptions;
  /** After this long an entry is given up and kept for inspection. */
  giveUpAfterMs?: number;
  /** Longest wait between two looks at the outbox. */
  idleMs?: number;
  /** Deliveries at a time. */
  concurrency?: number;
  claimMs?: number;
  now?: () => number;
}

export type CallbackRelay = ReturnType<typeof createCallbackRelay>;

const hour = 3_600_000;

/**
 * Delivers the outbox at least once. An entry stays in it until a receiver has answered 2xx: a crash between sending and
 * noting that repeats the delivery under the same id. Order within one job is the outbox's promise.
 */
export function createCallbackRelay(options: RelayOptions) {
  const { outbox, sender, workerId, log, backoff = { baseMs: 1000, maxMs: hour, jitter: 0.3 }, giveUpAfterMs = 24 * hour, idleMs = 1000, concurrency = 8, claimMs = 60_000, now = Date.now } = options;
  const stopping = new AbortController();
  let wake = () => {};
  let loop: Promise<void> | undefined;

  async function deliver(entry: OutboxEntry): Promise<void> {
    const fields = { job_id: entry.jobId, event: entry.event, attempt: entry.attempts + 1 };
    const delivery = await sender.send(entry);
    if (delivery.outcome === 'accepted') {
      await outbox.delivered(entry.id);
      log.debug(fields, 'callback delivered');
    } else if (delivery.outcome === 'refused') {
      await outbox.deadLetter(entry.id, delivery.reason);
      log.error({ ...fields, reason: delivery.reason }, 'callback refused for good; kept for inspection');
    } else if (now() - entry.createdAtMs > giveUpAfterMs) {
      await outbox.deadLetter(entry.id, delivery.reason);
      log.error({ ...fields, reason: delivery.reason }, 'callback given up; kept for inspection');
    } else {
      const waitMs = Math.max(delivery.afterMs ?? 0, backoffDelayMs(entry.attempts + 1, backoff));
      await outbox.reschedule(entry.id, now() + waitMs, delivery.reason);
      log.warn({ ...fields, reason: delivery.reason, again_in_ms: Math.round(waitMs) }, 'callback not delivered');
    }
  }

  /** Everything that is due now; returns how many were tried. */
  async function round(): Promise<number> {
    const entries = await outbox.claimDue(workerId, concurrency, claimMs);
    await Promise.all(entries.map((entry) => deliver(entry).catch((error: unknown) => { log.warn({ err: error, job_id: entry.jobId }, 'the outcome of a callback could not be noted; it will be sent again'); })));
    return entries.length;
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      const woken = new Promise<void>((resolve) => { wake = resolve; });
      const tried = await round().catch((error: unknown) => {
        log.warn({ err: error }, 'the outbox does not answer');
        return 0;
      });
      if (tried === 0) await Promise.race([woken, delay(idleMs, undefined, { signal: stopping.signal }).catch(() => undefined)]);
    }
  }

  return {
    start(): void {
      loop ??= run();
    },
    /** Called when an entry was added: it is sent at once. */
    wake: () => wake(),
    /** Ends the loop, then delivers what is due within `graceMs`. What is left stays in the outbox. */
    async stop(graceMs: number): Promise<void> {
      stopping.abort();
      await loop;
      const deadline = now() + graceMs;
      while (now() < deadline && (await Promise.race([round().catch(() => 0), delay(Math.max(0, deadline - now()), 0)])) > 0);
      await Promise.race([sender.close(), delay(1000)]);
    },
  };
}
