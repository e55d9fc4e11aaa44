import type { Reservation } from '../queue/job-store.js';
import { LRUCache } from 'lru-cache';
import { runAttempt, type Attempt } from './attempt.js';
import type { HandBackCounts } from './job-outcome.js';
import type { QueueName } from '../catalogue.js';
import { endUnbegun, JobInterrupt } from './failure.js';
import { createPipeline, type Permits } from './pipeline-permits.js';
import { createStoreWriter, type RunnerContext } from './runner-context.js';
import { createSemaphore } from '../../lib/semaphore.js';
import { linkSignal, wait } from '../../lib/wait.js';

export interface RunnerOptions {
  queue: QueueName;
  engine: 'sdxl' | 'wan';
  context: RunnerContext;
  /** Jobs in the pipeline at most: one prepared, one computing, the rest being encoded and uploaded. */
  maxInFlight?: number;
  /**
   * Take the next job when the running one is expected to need no more than this, seconds. Infinity with a
   * queue that nobody else takes from; with a shared one, a job waiting here is a job another worker could
   * have run.
   */
  prepareAheadSeconds: number;
  /** Longest wait for work in one go. */
  pollMs?: number;
  /** A job that waits this long for its reference pictures lets the next one pass. */
  patienceMs?: number;
}

/**
 * Takes the jobs of one queue through one engine: a pipeline, not a loop. While the engine computes job B,
 * job A is encoded and uploaded and job C has its references fetched and its prompt enhanced.
 */
export function createRunner({
  queue,
  engine,
  context,
  maxInFlight = 4,
  prepareAheadSeconds,
  pollMs = 5000,
  patienceMs = 2000,
}: RunnerOptions) {
  const { store, engines } = context;
  const log = context.log.child({ worker: engine });
  const pipeline = createPipeline({ maxInFlight, running: context.running, patienceMs });
  const computing = createSemaphore(1);
  const running = new Map<string, Attempt>();
  const tasks = new Set<Promise<void>>();
  // What another runner finishes is forgotten here in time.
  const handBacks: HandBackCounts = new LRUCache<string, number>({ max: 1000 });
  const stopping = new AbortController();
  /** Woken by progress of the computing job and by permits that come free. */
  const wakers = new Set<() => void>();
  let etaSeconds: number | null = null;
  let loop: Promise<void> | null = null;
  let unsubscribes: Array<() => void> | null = null;

  const write = createStoreWriter(context.limits, log);
  const wake = () => {
    for (const waker of wakers) waker();
  };
  computing.onRelease(() => {
    etaSeconds = null;
    wake();
  });
  pipeline.onRelease(wake);

  async function run(): Promise<void> {
    const { signal } = stopping;
    let idleRounds = 0;
    let alone = false;
    while (!signal.aborted) {
      const permits = pipeline.permits();
      try {
        await permits.enter(signal);
        await engines.whenServing(engine, signal);
        await context.fitness.whenFit(signal);
        await nearlyFree(signal);
        await permits.run(alone, signal);
        const excludeTypes = await context.capabilities.leftToOthers(queue);
        const reservation = await store.reserve({
          queue,
          workerId: context.workerId,
          leaseMs: context.limits.leaseMs,
          begin: true,
          maxAttempts: context.limits.maxAttempts,
          ...(excludeTypes.length > 0 ? { excludeTypes } : {}),
        });
        if (reservation !== null && !alone && isLastAttempt(reservation)) {
          await write('hand the job back', () => store.release(reservation.lease));
          permits.leave();
          alone = true;
          continue;
        }
        alone = false;
        if (reservation !== null) {
          idleRounds = 0;
          const task = handle(reservation, permits).finally(() => {
            permits.leave();
            tasks.delete(task);
          });
          tasks.add(task);
          continue;
        }
        permits.leave();
        const sinceMs = performance.now();
        await store.waitForWork([queue], pollMs, signal);
        // The store may see work that this runner may not take now (only another instance can run it): then
        // wait, never spin.
        idleRounds = performance.now() - sinceMs < 50 ? idleRounds + 1 : 0;
        if (idleRounds > 1) await pause(Math.min(1000, 25 * 2 ** Math.min(idleRounds, 6)), signal);
      } catch (error) {
        permits.leave();
        if (signal.aborted) return;
        log.error({ err: error }, 'taking jobs failed; trying again');
        idleRounds += 1;
        await wait(Math.min(5000, 100 * 2 ** Math.min(idleRounds, 6)), signal).catch(() => {});
      }
    }
  }

  /**
   * A process that ends takes all its jobs along: on its last attempt a job is alone, so that it pays for
   * nobody's fault but its own. Until then it waits where waiting does not count.
   */
  function isLastAttempt({ attempt }: Reservation): boolean {
    return attempt > 1 && attempt === context.limits.maxAttempts;
  }

  /** Until the engine is free, or will be within `prepareAheadSeconds`. */
  async function nearlyFree(signal: AbortSignal): Promise<void> {
    while (
      computing.free() === 0 &&
      prepareAheadSeconds !== Infinity &&
      !(etaSeconds !== null && etaSeconds <= prepareAheadSeconds)
    )
      await pause(60_000, signal);
  }

  /** Waits for progress, a free place or the time, whatever comes first. */
  async function pause(ms: number, signal: AbortSignal): Promise<void> {
    const link = linkSignal(signal);
    const waker = () => link.abort();
    wakers.add(waker);
    try {
      await wait(ms, link.signal);
    } catch {
      signal.throwIfAborted();
    } finally {
      wakers.delete(waker);
      link.release();
    }
  }

  async function handle(reservation: Reservation, permits: Permits): Promise<void> {
    try {
      // Asked for before the stop, or before a fault of this worker, and answered after it: not begun here.
      if (stopping.signal.aborted || !context.fitness.isFit()) {
        await write('hand the job back', () => store.release(reservation.lease));
        return;
      }
      const checked = context.validate(reservation.read, queue);
      if (reservation.isForeign || !checked.ok || reservation.attempt > context.limits.maxAttempts)
        return await endUnbegun(reservation, checked, { ...context, log }, write);
      const attempt: Attempt = {
        reservation,
        job: checked.job,
        controller: new AbortController(),
        phase: 'preparing',
      };
      // The same id twice at a time is the store's to sort out (`begin`); here the first one keeps its place.
      const key = running.has(checked.job.id)
        ? `${checked.job.id} ${reservation.lease.token}`
        : checked.job.id;
      running.set(key, attempt);
      try {
        await runAttempt(
          attempt,
          {
            enterCompute: async (signal) => {
              const release = await computing.acquire(signal);
              permits.prepared();
              return release;
            },
            lettingOthersPass: permits.lettingOthersPass,
            onEngineProgress: (seconds) => {
              etaSeconds = seconds;
              if (seconds !== null && seconds <= prepareAheadSeconds) wake();
            },
          },
          context,
          handBacks,
        );
      } finally {
        running.delete(key);
      }
    } catch (error) {
      log.error(
        { err: error, job_id: reservation.lease.jobId },
        'a reservation could not be handled; its lease will run out',
      );
    }
  }

  /** From this moment on no job is begun; those still being prepared go back. */
  function stopTaking(): void {
    if (stopping.signal.aborted) return;
    stopping.abort(new JobInterrupt('shutdown'));
    for (const attempt of running.values())
      if (attempt.phase === 'preparing') attempt.controller.abort(new JobInterrupt('shutdown'));
  }

  /** What cannot be stored need not be drawn; what is being stored finds out by itself. */
  function giveBackUnstorable(): void {
    for (const attempt of running.values())
      if (attempt.phase !== 'finishing') attempt.controller.abort(new JobInterrupt('unfit'));
  }

  return {
    queue,
    engine,
    start(): void {
      unsubscribes ??= [
        store.onCancel((jobId) => running.get(jobId)?.controller.abort(new JobInterrupt('cancelled'))),
        context.fitness.onFault(giveBackUnstorable),
      ];
      loop ??= run();
    },
    /** Jobs in the pipeline now. */
    inFlight: () =>
      [...running.values()].map(({ job, phase, reservation }) => ({
        id: job.id,
        type: job.type,
        phase,
        attempt: reservation.attempt,
      })),
    stopTaking,
    /**
     * Takes no more jobs; those still being prepared go back at once, those in the engine or being uploaded
     * have until `graceMs` to finish and go back then. Resolves when every job has ended or is back on its
     * queue.
     */
    async stop(graceMs: number): Promise<void> {
      stopTaking();
      const timer = setTimeout(() => {
        for (const attempt of running.values()) attempt.controller.abort(new JobInterrupt('shutdown'));
      }, graceMs);
      await loop;
      while (tasks.size > 0) await Promise.all(tasks);
      clearTimeout(timer);
      for (const unsubscribe of unsubscribes ?? []) unsubscribe();
    },
  };
}
export type Runner = ReturnType<typeof createRunner>;
