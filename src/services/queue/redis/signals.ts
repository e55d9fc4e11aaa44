import { EventEmitter } from 'node:events';
import { queueNames, type QueueName } from '../../catalogue.js';
import { untilWork } from '../../../lib/wait.js';
import type { createWaker } from './waker.js';

interface Options {
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
}

/**
 * Brings together what can end a wait for work: the lists, due retries, and changes made by this process or
 * told by others.
 */
export function createSignals({ wakers, pollMs }: Options) {
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

  return {
    emitter,
    /** Something changed that may let a waiting runner take a job. */
    notice,
    noteEmpty(queue: QueueName, look: { retryInMs: number; onlyExcluded: boolean }) {
      looks.set(queue, { ...look, atMs: Date.now(), changes });
    },
    waitForWork(queues: readonly QueueName[], timeoutMs: number, signal: AbortSignal) {
      const delays = queues.map((queue) => untilNextLook(queue, timeoutMs));
      return untilWork(emitter, Math.min(timeoutMs, ...delays), signal, (end) =>
        queues
          .filter((queue) => looks.get(queue)?.onlyExcluded !== true)
          .map((queue) => wakers[queue].wait(end)),
      );
    },
    close() {
      for (const queue of queueNames) wakers[queue].close();
    },
  };
}
