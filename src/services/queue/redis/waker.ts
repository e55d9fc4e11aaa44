import { EventEmitter } from 'node:events';
import type { Redis } from 'ioredis';
import { untilWork } from '../../../lib/wait.js';
import { type QueueName, queueNames } from '../../catalogue.js';
import type { StoreLog } from './connection.js';

interface Options {
  /** Opens the dedicated connection; called on the first wait. */
  connect(): Redis;
  list: string;
  blockSeconds: number;
  pollMs: number;
  log: StoreLog | undefined;
}

/** A server that cannot block, or does not let us. One that is full refuses for now, and is asked again. */
const withoutBlocking = /unknown command|not supported|NOPERM/i;
const askAgainMs = 60_000;
/** Past its own timeout a blocked command gets this long before its connection is given up. */
const graceMs = 2000;

/**
 * Tells when a producers' list holds something. It waits by moving the right end of the list onto the right
 * end of the same list: the server blocks like a pop, but nothing leaves the list. A command that outlives
 * its connection, or is sent twice, therefore does no harm. Servers without BLMOVE are polled.
 */
export function createWaker({ connect, list, blockSeconds, pollMs, log }: Options) {
  const waiters = new Set<() => void>();
  let redis: Redis | undefined;
  let pollUntilMs = -Infinity;
  let armed = false;
  let closed = false;

  function wakeAll() {
    for (const wake of [...waiters]) wake();
  }

  const pause = (ms: number) =>
    new Promise<void>((resolve) => {
      setTimeout(resolve, ms).unref();
    });

  async function block(): Promise<boolean> {
    redis ??= connect();
    const connection = redis;
    let timer: NodeJS.Timeout | undefined;
    const deadline = new Promise<'late'>((resolve) => {
      timer = setTimeout(() => resolve('late'), blockSeconds * 1000 + graceMs);
      timer.unref();
    });
    try {
      const answer = await Promise.race([
        connection.blmove(list, list, 'RIGHT', 'RIGHT', blockSeconds),
        deadline,
      ]);
      if (answer !== 'late') return answer !== null;
      connection.disconnect(true);
      return true;
    } finally {
      clearTimeout(timer);
    }
  }

  async function arm() {
    if (armed) return;
    armed = true;
    while (waiters.size > 0 && !closed) {
      try {
        const polls = performance.now() < pollUntilMs;
        if (polls) await pause(pollMs);
        if (polls || (await block())) wakeAll();
      } catch (error) {
        if (closed) break;
        if (withoutBlocking.test(String(error))) {
          if (pollUntilMs === -Infinity)
            log?.warn({ err: error, list }, 'Redis has no BLMOVE; the list is polled');
          // The address may lead to another server by then.
          pollUntilMs = performance.now() + askAgainMs;
        } else {
          await pause(pollMs);
          wakeAll();
        }
      }
    }
    armed = false;
  }

  return {
    /** Calls `wake` when there may be something on the list. Returns the function that stops waiting. */
    wait(wake: () => void): () => void {
      waiters.add(wake);
      void arm();
      return () => waiters.delete(wake);
    },
    close() {
      closed = true;
      wakeAll();
      redis?.disconnect();
    },
  };
}

interface SignalsOptions {
  wakers: Record<QueueName, ReturnType<typeof createWaker>>;
  /** How long to leave a list alone on which only excluded types wait. */
  pollMs: number;
}

interface Look {
  atMs: number;
  changes: number;
  /** Milliseconds from then until the next retry is due; -1 for none. */
  retryInMs: number;
  /**
   * Something waits, but nothing this process may take: the list itself says nothing about when to look
   * again.
   */
  onlyExcluded: boolean;
  /** Nothing may be taken; the end of that is told. */
  isHeld: boolean;
}

/**
 * Brings together what can end a wait for work: the lists, due retries, and changes made by this process or
 * told by others.
 */
export function createSignals({ wakers, pollMs }: SignalsOptions) {
  const emitter = new EventEmitter();
  emitter.setMaxListeners(0);
  const looks = new Map<QueueName, Look>();
  let changes = 0;

  function notice() {
    changes += 1;
    emitter.emit('work');
  }

  function untilNextLook(queue: QueueName, timeoutMs: number): number {
    const look = looks.get(queue);
    if (look === undefined || look.changes !== changes) return 0;
    const sinceMs = Date.now() - look.atMs;
    const retry = look.retryInMs < 0 ? timeoutMs : look.retryInMs - sinceMs;
    return Math.max(0, Math.min(timeoutMs, retry, look.onlyExcluded ? pollMs : timeoutMs));
  }

  /** Its list says nothing of when there is something to take. */
  const leavesAlone = (look: Look | undefined) => look !== undefined && (look.onlyExcluded || look.isHeld);

  return {
    emitter,
    /** Something changed that may let a waiting runner take a job. */
    notice,
    noteEmpty(queue: QueueName, look: Pick<Look, 'retryInMs' | 'onlyExcluded' | 'isHeld'>) {
      looks.set(queue, { ...look, atMs: Date.now(), changes });
    },
    waitForWork(queues: readonly QueueName[], timeoutMs: number, signal: AbortSignal) {
      const delays = queues.map((queue) => untilNextLook(queue, timeoutMs));
      return untilWork(emitter, Math.min(timeoutMs, ...delays), signal, (end) =>
        queues.filter((queue) => !leavesAlone(looks.get(queue))).map((queue) => wakers[queue].wait(end)),
      );
    },
    close() {
      for (const queue of queueNames) wakers[queue].close();
    },
  };
}
