import { setTimeout as sleep } from 'node:timers/promises';
import type { LoadResult } from '../../inference/engine-protocol.js';
import { createChanges } from '../../lib/wait.js';
import { noGate } from '../card/device-memory.js';
import { describeExit, EngineError, isHopeless, neverStarted, type EngineExit } from './engine-error.js';
import { createLogRing, startEngineProcess, type EngineProcess } from './engine-process.js';
import type { EngineEnd, EngineState } from './engine-status.js';
import { createRestartPolicy } from './restart-policy.js';
import { settingsOf, type SupervisorOptions } from './engine-options.js';
import type { MemoryWatch, WorkRecord } from './work-record.js';

/** The longest a timer can be set to. */
const longestTimeoutMs = 2 ** 31 - 1;
const onFirstRequest = 'starts with its first request';

interface LifecycleParts {
  record: WorkRecord;
  memory: MemoryWatch;
  /** No request is being worked on: the process may be ended. */
  isIdle: () => boolean;
  onReady: (process: EngineProcess) => void;
}

/** How one process went. */
interface ProcessLife {
  exit: EngineExit;
  /** What failed while it started. */
  problem: EngineError | null;
  /** Null: it never became ready. */
  readyMs: number | null;
}

/**
 * Keeps one engine process alive: start → load → warm up → ready, and again after every end of it
 * (`restart-policy.ts` says when).
 */
export function createEngineLifecycle(
  options: SupervisorOptions,
  { record, memory, isIdle, onReady }: LifecycleParts,
) {
  const { kind, log } = options;
  const settings = settingsOf(options);
  const memoryGate = options.memory ?? noGate;
  const logRing = createLogRing();
  const policy = createRestartPolicy(settings);
  const changes = createChanges();

  let state: EngineState = 'stopped';
  let engine: EngineProcess | null = null;
  let loaded: LoadResult | null = null;
  /** Monotonic. */
  let readySinceMs: number | null = null;
  let lastExit: EngineEnd | null = null;
  let recovering = false;
  let restarts = 0;
  let wanted = false;
  /** Why it sleeps until a request comes; null when a request does not start it. */
  let rest: string | null = settings.lazy ? onFirstRequest : null;
  let reason: string | null = rest ?? 'not started yet';
  let looping: Promise<void> | null = null;
  /** Set while the running process is to be replaced or ended on purpose. */
  let plan: 'restart' | 'stop' | null = null;
  let pause: AbortController | null = null;

  function setState(next: EngineState, why: string | null = null): void {
    if (state === next && reason === why) return;
    state = next;
    reason = why;
    changes.emit();
  }

  /** A request can be sent to the process now. */
  const usable = () =>
    plan === null && !memory.paused() && (state === 'ready' || state === 'busy') && engine?.alive() === true;
  /** Sleeps until a request comes. */
  const resting = () => !wanted && rest !== null && looping === null;

  function start(): void {
    wanted = true;
    looping ??= loop().finally(() => {
      looping = null;
      if (wanted) start();
      else changes.emit();
    });
  }

  async function loop(): Promise<void> {
    while (wanted) {
      setState('starting');
      if (!(await memoryGate.reserve())) {
        rest = 'not enough GPU memory is free now; starts when a request needs it';
        wanted = false;
      }
      if (!wanted) break;
      const life = await runProcess();
      const planned = plan;
      plan = null;
      if (planned === 'stop' || !wanted) break;
      restarts += 1;
      if (planned === 'restart') setState('restarting', reason);
      else await recover(life);
    }
    recovering = false;
    memoryGate.left();
    setState('stopped', rest ?? 'stopped');
  }

  /** From its start to its end. */
  async function runProcess(): Promise<ProcessLife> {
    let problem: EngineError | null = null;
    try {
      engine = startEngineProcess({ ...settings, logRing, onRss: memory.beat });
      record.processStarted();
      await bringUp(engine);
    } catch (error) {
      problem = error instanceof EngineError ? error : new EngineError('engine_failed', String(error));
      engine?.kill(`start failed: ${problem.message}`);
    }
    const exit = (await engine?.exited) ?? neverStarted(problem?.message ?? '');
    const readyMs = readySinceMs === null ? null : performance.now() - readySinceMs;
    engine = null;
    loaded = null;
    readySinceMs = null;
    memory.processEnded();
    return { exit, problem, readyMs };
  }

  async function bringUp(process: EngineProcess): Promise<void> {
    await process.hello;
    loaded = await process.call('load', {
      ...options.load,
      deviceMemoryBytes: await memoryGate.capacityBytes(),
    });
    memoryGate.loadedOn(loaded.device);
    if (settings.warmUp) {
      setState('warming');
      await process.call('warmUp', {});
      record.warmedUp();
    }
    policy.ready();
    recovering = false;
    record.becameReady();
    readySinceMs = performance.now();
    setState('ready');
    log.info(
      { engine: kind, pid: process.pid, device: loaded.device, load_seconds: loaded.loadSeconds },
      `${kind} engine is ready`,
    );
    onReady(process);
  }

  /** After an end nobody asked for: tells it and waits for as long as the policy says. */
  async function recover({ exit, problem, readyMs }: ProcessLife): Promise<void> {
    const said = problem !== null && problem.code !== 'engine_died' ? problem.message : null;
    const why = said ?? describeExit(exit);
    const { code, signal, lastStage: stage, jobId, atMs } = exit;
    record.died(why, readyMs === null ? said : null);
    recovering = true;
    lastExit = { atMs, reason: why, exitCode: code, signal, stage };
    logRing.push(`${new Date(atMs).toISOString()} supervisor ${why}`);
    const facts = { engine: kind, exit_code: code, signal, stage, reason: exit.reason };
    log.error(jobId === null ? facts : { ...facts, job_id: jobId }, `${kind} engine: ${why}`);
    const hopeless = isHopeless(problem);
    const decision = readyMs === null ? policy.diedStarting({ hopeless }) : policy.diedAtWork({ readyMs });
    if (decision.action === 'now') return setState('restarting', why);
    memoryGate.left();
    record.waitsUntil(decision.delayMs === null ? null : Date.now() + decision.delayMs);
    if (decision.action === 'fail')
      setState(
        'failed',
        decision.failedStarts >= settings.maxFailedStarts
          ? `${decision.failedStarts} starts in a row failed; the last one ${why}`
          : why,
      );
    else
      setState('backing_off', `${why}; next start in ${Math.max(1, Math.round(decision.delayMs / 1000))} s`);
    pause = new AbortController();
    await sleep(decision.delayMs ?? longestTimeoutMs, undefined, { signal: pause.signal }).catch(() => {});
    pause = null;
    record.waitsUntil(null);
  }

  function endWhenIdle(): void {
    if (plan !== null && isIdle()) engine?.kill(plan, { ordered: true });
  }

  return {
    start,
    policy,
    changes,
    logs: logRing.lines,
    process: () => engine,
    state: () => state,
    setState,
    usable,
    resting,
    /** No request can be sent until somebody restarts it, or it is tried again. */
    isOut: () => state === 'failed' || (!wanted && looping === null),
    /** The running process is to be replaced or ended; it is as soon as `endWhenIdle` finds it idle. */
    isEnding: () => plan !== null,
    endWhenIdle,
    /** For an engine that sleeps until a request comes, or is about to. */
    wake(): void {
      if (!wanted && rest !== null) start();
    },

    /** A fresh process, once the running one is idle. */
    replace(why: string): void {
      log.info({ engine: kind }, `${kind} engine is recycled: ${why}`);
      plan = 'restart';
      setState('draining', why);
      endWhenIdle();
    },

    restart({ force }: { force: boolean }): void {
      policy.reset();
      if (engine === null) {
        start();
        pause?.abort();
        return;
      }
      wanted = true;
      // one that is being ended ends, for whoever waits for its memory, and begins anew
      plan ??= 'restart';
      setState('draining', 'restart requested');
      if (force || readySinceMs === null || isIdle()) engine.kill('restart', { ordered: true });
    },

    /**
     * Ends the process, after its requests unless forced. With `rest`, which says why, or when lazy, it
     * starts again with its next request.
     */
    async stop({ force, rest: why }: { force: boolean; rest?: string | undefined }): Promise<void> {
      wanted = false;
      rest = why ?? (settings.lazy ? onFirstRequest : null);
      pause?.abort();
      if (engine !== null) {
        plan = 'stop';
        setState('draining', why ?? 'stop requested');
        if (force || readySinceMs === null) engine.kill('stop', { ordered: true });
        else endWhenIdle();
      }
      await looping;
    },

    view: () => ({
      state,
      reason,
      pid: engine?.pid ?? null,
      uptimeSeconds: readySinceMs === null ? 0 : Math.round(performance.now() - readySinceMs) / 1000,
      restarts,
      loaded,
      resting: resting(),
      recovering,
      lastExit,
      silentMs: engine?.silentMs() ?? null,
    }),
  };
}
