import { EventEmitter, once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { createLogRing } from './child-environment.js';
import { type CallOptions, type EngineProcess, startEngineProcess } from './engine-child.js';
import { describeExit, EngineError, type EngineExit } from './engine-error.js';
import type { EngineEnd, EngineState, EngineStatus } from './engine-status.js';
import { createMemoryWatch } from './memory-watch.js';
import { createRestartPolicy, type RestartDecision } from './restart-policy.js';
import { defaultStageLimitsMs, supervisorDefaults, type SupervisorOptions } from './supervisor-options.js';
import { createWorkRecord, isJob } from './work-record.js';
import { noGate } from '../card/memory-gate.js';
import type { EngineMethod, EngineMethods, LoadResult } from '../../inference/engine-protocol.js';

export type { SupervisorOptions } from './supervisor-options.js';

/** The longest a timer can be set to. */
const longestTimeoutMs = 2 ** 31 - 1;

const onFirstRequest = 'starts with its first request';

/**
 * Keeps one engine process alive: start → load → warm up → ready, and again after every end of it
 * (`restart-policy.ts` says when).
 */
export function createSupervisor(options: SupervisorOptions) {
  const { kind, log } = options;
  const settings = { ...supervisorDefaults, restartBaseMs: kind === 'sdxl' ? 10_000 : 15_000, ...options };
  const stageLimitsMs = { ...defaultStageLimitsMs, ...options.stageLimitsMs };
  const memoryGate = options.memory ?? noGate;
  const logRing = createLogRing();
  const record = createWorkRecord();
  const policy = createRestartPolicy({
    baseMs: settings.restartBaseMs,
    maxMs: settings.restartMaxMs,
    jitter: settings.restartJitter,
    stablePeriodMs: settings.stablePeriodMs,
    maxFailedStarts: settings.maxFailedStarts,
    failedRetryMs: settings.failedRetryMs,
  });
  const memory = createMemoryWatch({ growthLimitBytes: settings.recycleGrowthBytes });
  const changes = new EventEmitter();
  changes.setMaxListeners(0);

  let state: EngineState = 'stopped';
  let reason: string | null = settings.lazy ? onFirstRequest : 'not started yet';
  let engine: EngineProcess | null = null;
  let loaded: LoadResult | null = null;
  let readySinceMs: number | null = null;
  let lastExit: EngineEnd | null = null;
  let recovering = false;
  let restarts = 0;
  let activeCalls = 0;
  let wanted = false;
  /** Why it sleeps until a request comes; null when a request does not start it. */
  let rest: string | null = settings.lazy ? onFirstRequest : null;
  let looping: Promise<void> | null = null;
  /** Set while the running process is to be replaced or ended on purpose. */
  let plan: 'restart' | 'stop' | null = null;
  let wake: AbortController | null = null;

  function setState(next: EngineState, why: string | null = null): void {
    if (state === next && reason === why) return;
    state = next;
    reason = why;
    changes.emit('change');
  }

  const usable = () =>
    plan === null && !memory.paused() && (state === 'ready' || state === 'busy') && engine?.alive() === true;

  async function loop(): Promise<void> {
    while (wanted) {
      setState('starting');
      let process: EngineProcess | null = null;
      let wasReady = false;
      let problem: EngineError | null = null;
      try {
        if (!(await memoryGate.reserve())) {
          rest = 'there is no room for its model on the GPU now; starts when a request needs it';
          wanted = false;
        }
        if (!wanted) break;
        process = startProcess();
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
        wasReady = true;
        becomeReady(process);
      } catch (error) {
        problem = error instanceof EngineError ? error : new EngineError('engine_failed', String(error));
        process?.kill(`start failed: ${problem.message}`);
      }
      // fork itself fails where memory or descriptors are short: a failed start like others
      const exit: EngineExit = (await process?.exited) ?? {
        code: null,
        signal: null,
        reason: problem?.message ?? null,
        lastStage: null,
        jobId: null,
        atMs: Date.now(),
      };
      engine = null;
      loaded = null;
      memory.processEnded();
      const readyMs = readySinceMs === null ? 0 : exit.atMs - readySinceMs;
      readySinceMs = null;
      if (plan !== null) {
        const planned = plan;
        plan = null;
        if (planned === 'stop' || !wanted) break;
        restarts += 1;
        setState('restarting', 'asked to');
        continue;
      }
      if (!wanted) break;
      restarts += 1;
      const why = problem !== null && problem.code !== 'engine_died' ? problem.message : describeExit(exit);
      record.died(why);
      recovering = true;
      lastExit = {
        atMs: exit.atMs,
        reason: why,
        exitCode: exit.code,
        signal: exit.signal,
        stage: exit.lastStage,
      };
      logRing.push(`${new Date(exit.atMs).toISOString()} supervisor ${why}`);
      log.error(
        {
          engine: kind,
          ...(exit.jobId === null ? {} : { job_id: exit.jobId }),
          exit_code: exit.code,
          signal: exit.signal,
          stage: exit.lastStage,
          reason: exit.reason,
        },
        `${kind} engine: ${why}`,
      );
      await waitForRestart(
        wasReady ? policy.diedAtWork({ readyMs }) : policy.diedStarting({ hopeless: isHopeless(problem) }),
        why,
      );
    }
    recovering = false;
    memoryGate.left();
    setState('stopped', rest ?? 'stopped');
  }

  function startProcess(): EngineProcess {
    engine = startEngineProcess({
      kind,
      entry: options.entry,
      env: options.env,
      ...(options.execArgv ? { execArgv: options.execArgv } : {}),
      log,
      logRing,
      helloTimeoutMs: settings.helloTimeoutMs,
      heartbeatTimeoutMs: settings.heartbeatTimeoutMs,
      cancelGraceMs: settings.cancelGraceMs,
      stageLimitsMs,
      onRss: memory.beat,
    });
    record.processStarted();
    return engine;
  }

  async function waitForRestart(decision: RestartDecision, why: string): Promise<void> {
    if (decision.action === 'now') return setState('restarting', why);
    memoryGate.left();
    if (decision.action === 'fail')
      setState(
        'failed',
        decision.failedStarts >= settings.maxFailedStarts
          ? `${decision.failedStarts} starts in a row failed; the last one ${why}`
          : why,
      );
    else
      setState('backing_off', `${why}; next start in ${Math.max(1, Math.round(decision.delayMs / 1000))} s`);
    wake = new AbortController();
    await sleep(decision.delayMs ?? longestTimeoutMs, undefined, { signal: wake.signal }).catch(() => {});
    wake = null;
  }

  function becomeReady(process: EngineProcess): void {
    policy.ready();
    recovering = false;
    readySinceMs = Date.now();
    setState('ready');
    log.info(
      { engine: kind, pid: process.pid, device: loaded?.device, load_seconds: loaded?.loadSeconds },
      `${kind} engine is ready`,
    );
    void measureMemory(process);
    const timer = setInterval(() => {
      if (activeCalls === 0) void measureMemory(process);
    }, settings.memoryIntervalMs);
    timer.unref();
    void process.exited.then(() => clearInterval(timer));
  }

  async function measureMemory(process: EngineProcess): Promise<void> {
    const why = await memory.measure(process).catch((error: unknown) => {
      log.debug({ engine: kind, err: error }, 'no memory report');
      return null;
    });
    changes.emit('change');
    if (why !== null && usable()) recycle(why);
  }

  function recycle(why: string): void {
    log.info({ engine: kind }, `${kind} engine is recycled: ${why}`);
    plan = 'restart';
    setState('draining', why);
    endWhenIdle();
  }

  function endWhenIdle(): void {
    if (plan !== null && activeCalls === 0) engine?.kill(plan, { ordered: true });
  }

  function ensureRunning(): void {
    wanted = true;
    looping ??= loop().finally(() => {
      looping = null;
      if (wanted) ensureRunning();
      else changes.emit('change');
    });
  }

  async function changed(signal: AbortSignal | undefined): Promise<void> {
    await once(changes, 'change', signal ? { signal } : {});
  }

  /**
   * Resolves once a request can be sent; starts an engine that rests. Rejects when the engine is `failed` or
   * stopped, unless `patient`, which waits for its recovery; rejects with the signal's reason on abort.
   */
  async function whenReady({
    signal,
    patient = false,
  }: { signal?: AbortSignal | undefined; patient?: boolean } = {}): Promise<void> {
    if (!wanted && rest !== null) ensureRunning();
    await until(usable, { signal, patient });
  }

  /**
   * Resolves once it is ready, or at rest: then it starts with the next request. Waits for its recovery,
   * however long that takes.
   */
  const whenServing = (signal: AbortSignal): Promise<void> =>
    until(() => usable() || resting(), { signal, patient: true });
  const resting = () => !wanted && rest !== null && looping === null;

  async function until(
    condition: () => boolean,
    { signal, patient }: { signal: AbortSignal | undefined; patient: boolean },
  ): Promise<void> {
    while (!condition()) {
      signal?.throwIfAborted();
      if (!patient && (state === 'failed' || (!wanted && looping === null)))
        throw new EngineError(
          'engine_unavailable',
          `The ${kind} engine is ${state}: ${reason ?? 'no reason known'}`,
        );
      try {
        await changed(signal);
      } catch (error) {
        signal?.throwIfAborted();
        throw error;
      }
    }
  }

  /**
   * Room on the card and a process that is ready, together: neither is held while the other may be long in
   * coming.
   */
  async function enter(method: EngineMethod, signal: AbortSignal | undefined): Promise<() => void> {
    for (;;) {
      await until(() => usable() || resting(), { signal, patient: false });
      if (usable() && !isJob(method)) return () => {};
      const leave = await memoryGate.use(signal);
      try {
        if (resting()) ensureRunning();
        await until(() => usable() || !['starting', 'warming'].includes(state), { signal, patient: true });
      } catch (error) {
        leave();
        throw error;
      }
      if (usable()) return leave;
      leave();
    }
  }

  /** Waits until the engine is ready and has room, then asks it. Rejects with `EngineError`. */
  async function call<M extends EngineMethod>(
    method: M,
    params: EngineMethods[M]['params'],
    callOptions: CallOptions = {},
  ): Promise<EngineMethods[M]['result']> {
    let leave: () => void;
    try {
      leave = await enter(method, callOptions.signal);
    } catch (error) {
      if (callOptions.signal?.aborted)
        throw new EngineError('cancelled', 'Cancelled while waiting for the engine', { cause: error });
      throw error;
    }
    const process = engine;
    if (process === null) {
      leave();
      throw new EngineError('engine_unavailable', `The ${kind} engine went away`);
    }
    activeCalls += 1;
    setState('busy');
    try {
      const result = await process.call(method, params, {
        ...callOptions,
        onEvent: (event) => {
          if (event.kind === 'computeDone') leave();
          callOptions.onEvent?.(event);
        },
      });
      if (isJob(method)) {
        record.jobSucceeded();
        policy.succeeded();
      }
      return result;
    } catch (error) {
      if (error instanceof EngineError) {
        record.requestFailed(method, error);
        if (error.code === 'out_of_memory') memoryGate.ranOutOfMemory();
        if (error.code === 'device_lost') process.kill('it lost its device');
      }
      throw error;
    } finally {
      leave();
      activeCalls -= 1;
      if (process === engine && process.alive()) afterCall(process);
    }
  }

  function afterCall(process: EngineProcess): void {
    if (plan !== null) return endWhenIdle();
    if (state !== 'busy') return;
    if (settings.recycleAfterJobs > 0 && record.jobsOfProcess() >= settings.recycleAfterJobs)
      return recycle(`${record.jobsOfProcess()} jobs since its start`);
    if (settings.recycleAfterFailures > 0 && record.failuresInRow() >= settings.recycleAfterFailures)
      return recycle(`${record.failuresInRow()} jobs in a row failed`);
    if (activeCalls > 0) return memory.pauseIfGrown();
    setState('ready');
    void measureMemory(process);
    if (settings.warmUp && !record.works()) void probe(process);
  }

  /**
   * A job failed: was it the job, or does the device work no more? Some faults of a GPU last until its
   * process ends.
   */
  async function probe(process: EngineProcess): Promise<void> {
    const leave = await memoryGate.useIfFree();
    if (leave === null) return;
    if (process !== engine || !usable() || activeCalls > 0 || record.works()) return leave();
    activeCalls += 1;
    setState('busy', 'looks whether its device still works');
    try {
      await process.call('warmUp', {});
      record.warmedUp();
    } catch (error) {
      if (error instanceof EngineError && error.code === 'out_of_memory')
        recycle('there is no memory left even for a small picture');
      else
        process.kill(`its device works no more: ${error instanceof Error ? error.message : String(error)}`);
    } finally {
      leave();
      activeCalls -= 1;
      if (process === engine && process.alive()) afterCall(process);
    }
  }

  async function restart({ force }: { force: boolean }): Promise<void> {
    policy.reset();
    if (engine === null) {
      ensureRunning();
      wake?.abort();
      return;
    }
    wanted = true;
    // one that is being ended ends, for whoever waits for its memory, and begins anew
    plan ??= 'restart';
    setState('draining', 'asked to restart');
    if (force || activeCalls === 0 || readySinceMs === null) engine.kill('restart', { ordered: true });
  }

  /**
   * Ends the process, after its requests unless forced. With `rest`, which says why, or when lazy, it starts
   * again with its next request.
   */
  async function stop({ force, rest: why }: { force: boolean; rest?: string | undefined }): Promise<void> {
    wanted = false;
    rest = why ?? (settings.lazy ? onFirstRequest : null);
    wake?.abort();
    if (engine !== null) {
      plan = 'stop';
      setState('draining', why ?? 'asked to stop');
      if (force || readySinceMs === null) engine.kill('stop', { ordered: true });
      else endWhenIdle();
    }
    await looping;
  }

  function status(): EngineStatus {
    return {
      kind,
      state,
      pid: engine?.pid ?? null,
      uptimeSeconds: readySinceMs === null ? 0 : (Date.now() - readySinceMs) / 1000,
      restarts,
      loaded,
      memory: memory.report(),
      reason,
      resting: resting(),
      recovering,
      lastExit,
      silentMs: engine?.silentMs() ?? null,
      ...record.view(),
    };
  }

  return {
    kind,
    lazy: settings.lazy,
    start: ensureRunning,
    whenReady,
    whenServing,
    call,
    restart,
    stop,
    status,
    logs: () => logRing.lines(),
    /** Called on every change of state or memory. Returns the unsubscribe function. */
    onChange(listener: () => void): () => void {
      changes.on('change', listener);
      return () => changes.off('change', listener);
    },
  };
}
export type Supervisor = ReturnType<typeof createSupervisor>;

/** A missing or invalid model folder: trying again changes nothing. */
function isHopeless(problem: EngineError | null): boolean {
  return (
    problem?.code === 'model_missing' ||
    problem?.code === 'model_invalid' ||
    problem?.code === 'invalid_parameters'
  );
}
