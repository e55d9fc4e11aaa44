import { EventEmitter, once } from 'node:events';
import type { Logger } from 'pino';
import type { EngineKind, EngineMethod, EngineMethods, LoadParams, LoadResult, MemoryReport } from '../../inference/engine-protocol.js';
import type { EngineState, EngineStatus } from '../types.js';
import { EngineError, describeExit } from './engine-error.js';
import { startEngineProcess, type CallOptions, type EngineProcess } from './engine-process.js';
import { createLogRing } from './log-ring.js';
import { createRestartPolicy, type RestartDecision } from './restart-policy.js';
import { defaultStageLimitsMs, type StageLimits } from './stage-limits.js';

export interface SupervisorOptions {
  kind: EngineKind;
  entry: string;
  env: NodeJS.ProcessEnv;
  execArgv?: string[];
  log: Logger;
  load: LoadParams;
  /** Lazy engines start with their first request. */
  lazy?: boolean;
  warmUp?: boolean;
  /** First delay after a failure; doubles up to the cap. Defaults: 10 s for sdxl, 15 s for wan and qwen. */
  restartBaseMs?: number;
  restartMaxMs?: number;
  /** Share of the delay that is random. */
  restartJitter?: number;
  /** Ready for this long, or one request answered: the failures before are forgotten. */
  stablePeriodMs?: number;
  /** Failed starts in a row after which the engine is `failed`. */
  maxFailedStarts?: number;
  /** A `failed` engine is tried again after this long without anyone asking; 0 for never. */
  failedRetryMs?: number;
  /** Fresh process after this many jobs, 0 for never; it frees what native code leaked. */
  recycleAfterJobs?: number;
  /** Fresh process once its resident memory is above this, 0 for never. */
  recycleAboveRssBytes?: number;
  memoryIntervalMs?: number;
  helloTimeoutMs?: number;
  heartbeatTimeoutMs?: number;
  cancelGraceMs?: number;
  stageLimitsMs?: Partial<StageLimits>;
}

const defaults = {
  lazy: false, warmUp: true, restartMaxMs: 300_000, restartJitter: 0.2, stablePeriodMs: 120_000, maxFailedStarts: 5, failedRetryMs: 600_000,
  recycleAfterJobs: 0, recycleAboveRssBytes: 0, memoryIntervalMs: 30_000, helloTimeoutMs: 60_000, heartbeatTimeoutMs: 20_000, cancelGraceMs: 60_000,
};

/** The longest a timer can be set to. */
const longestTimeoutMs = 2 ** 31 - 1;

const jobMethods: ReadonlySet<EngineMethod> = new Set<EngineMethod>(['sdxl.generate', 'wan.generate', 'qwen.generate']);

/** Keeps one engine process alive: start → load → warm up → ready, and again after every end of it (`restart-policy.ts` says when). */
export function createSupervisor(options: SupervisorOptions) {
  const { kind, log } = options;
  const settings = { ...defaults, restartBaseMs: kind === 'sdxl' ? 10_000 : 15_000, ...options };
  const stageLimitsMs = { ...defaultStageLimitsMs, ...options.stageLimitsMs };
  const logRing = createLogRing();
  const policy = createRestartPolicy({
    baseMs: settings.restartBaseMs, maxMs: settings.restartMaxMs, jitter: settings.restartJitter,
    stablePeriodMs: settings.stablePeriodMs, maxFailedStarts: settings.maxFailedStarts, failedRetryMs: settings.failedRetryMs,
  });
  const changes = new EventEmitter();
  changes.setMaxListeners(0);

  let state: EngineState = 'stopped';
  let reason: string | null = settings.lazy ? 'starts with its first request' : 'not started yet';
  let engine: EngineProcess | null = null;
  let loaded: LoadResult | null = null;
  let memory: MemoryReport | null = null;
  let readySinceMs: number | null = null;
  let lastJobAtMs: number | null = null;
  let jobsProcessed = 0;
  let jobsOfProcess = 0;
  let errorCount = 0;
  let restarts = 0;
  let activeCalls = 0;
  let wanted = false;
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

  const usable = () => plan === null && (state === 'ready' || state === 'busy');

  async function loop(): Promise<void> {
    while (wanted) {
      setState('starting');
      const process = startEngineProcess({
        kind, entry: options.entry, env: options.env, ...(options.execArgv ? { execArgv: options.execArgv } : {}), log, logRing,
        helloTimeoutMs: settings.helloTimeoutMs, heartbeatTimeoutMs: settings.heartbeatTimeoutMs, cancelGraceMs: settings.cancelGraceMs, stageLimitsMs,
        onRss: (rssBytes) => { if (memory !== null) memory = { ...memory, rssBytes }; },
      });
      engine = process;
      jobsOfProcess = 0;
      let wasReady = false;
      let problem: EngineError | null = null;
      try {
        await process.hello;
        loaded = await process.call('load', options.load);
        if (settings.warmUp) {
          setState('warming');
          await process.call('warmUp', {});
        }
        wasReady = true;
        becomeReady(process);
      } catch (error) {
        problem = error instanceof EngineError ? error : new EngineError('engine_failed', String(error));
        process.kill(`start failed: ${problem.message}`);
      }
      const exit = await process.exited;
      engine = null;
      loaded = null;
      memory = null;
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
      errorCount += 1;
      restarts += 1;
      const why = problem !== null && problem.code !== 'engine_died' ? problem.message : describeExit(exit);
      log.error({ engine: kind, exit_code: exit.code, signal: exit.signal, stage: exit.lastStage, reason: exit.reason }, `${kind} engine: ${why}`);
      await waitForRestart(wasReady ? policy.diedAtWork({ readyMs }) : policy.diedStarting({ hopeless: isHopeless(problem) }), why);
    }
    setState('stopped', settings.lazy ? 'starts with its first request' : 'stopped');
  }

  async function waitForRestart(decision: RestartDecision, why: string): Promise<void> {
    if (decision.action === 'now') return setState('restarting', why);
    if (decision.action === 'fail') setState('failed', decision.failedStarts >= settings.maxFailedStarts ? `${decision.failedStarts} starts in a row failed; the last one ${why}` : why);
    else setState('backing_off', `${why}; next start in ${Math.max(1, Math.round(decision.delayMs / 1000))} s`);
    wake = new AbortController();
    await sleep(decision.delayMs ?? longestTimeoutMs, wake.signal);
    wake = null;
  }

  function becomeReady(process: EngineProcess): void {
    policy.ready();
    readySinceMs = Date.now();
    setState('ready');
    log.info({ engine: kind, pid: process.pid, device: loaded?.device, load_seconds: loaded?.loadSeconds }, `${kind} engine is ready`);
    void measureMemory(process);
    const timer = setInterval(() => { if (activeCalls === 0) void measureMemory(process); }, settings.memoryIntervalMs);
    timer.unref();
    void process.exited.then(() => clearInterval(timer));
  }

  async function measureMemory(process: EngineProcess): Promise<void> {
    try {
      memory = await process.call('memory', {});
      changes.emit('change');
      if (settings.recycleAboveRssBytes > 0 && memory.rssBytes > settings.recycleAboveRssBytes && usable()) {
        recycle(`its memory grew to ${Math.round(memory.rssBytes / 2 ** 20)} MiB`);
      }
    } catch (error) {
      log.debug({ engine: kind, err: error }, 'no memory report');
    }
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
    looping ??= loop().finally(() => { looping = null; if (wanted) ensureRunning(); });
  }

  async function changed(signal: AbortSignal | undefined): Promise<void> {
    await once(changes, 'change', signal ? { signal } : {});
  }

  /**
   * Resolves once a request can be sent; starts a lazy engine. Rejects when the engine is `failed` or stopped, unless
   * `patient`, which waits for its recovery; rejects with the signal's reason on abort.
   */
  async function whenReady({ signal, patient = false }: { signal?: AbortSignal | undefined; patient?: boolean } = {}): Promise<void> {
    if (!wanted && settings.lazy) ensureRunning();
    while (!usable()) {
      signal?.throwIfAborted();
      if (!patient && (state === 'failed' || !wanted)) throw new EngineError('engine_unavailable', `The ${kind} engine is ${state}: ${reason ?? 'no reason known'}`);
      try {
        await changed(signal);
      } catch (error) {
        signal?.throwIfAborted();
        throw error;
      }
    }
  }

  /** Waits until the engine is ready, then asks it. Rejects with `EngineError`. */
  async function call<M extends EngineMethod>(method: M, params: EngineMethods[M]['params'], callOptions: CallOptions = {}): Promise<EngineMethods[M]['result']> {
    try {
      await whenReady({ signal: callOptions.signal });
    } catch (error) {
      if (callOptions.signal?.aborted) throw new EngineError('cancelled', 'Cancelled while waiting for the engine', { cause: error });
      throw error;
    }
    const process = engine;
    if (process === null) throw new EngineError('engine_unavailable', `The ${kind} engine went away`);
    activeCalls += 1;
    setState('busy');
    try {
      const result = await process.call(method, params, callOptions);
      if (jobMethods.has(method)) {
        jobsProcessed += 1;
        jobsOfProcess += 1;
        lastJobAtMs = Date.now();
        policy.succeeded();
      }
      return result;
    } catch (error) {
      if (error instanceof EngineError) {
        if (error.code !== 'cancelled' && error.code !== 'invalid_parameters' && error.code !== 'engine_died') errorCount += 1;
        if (error.code === 'device_lost') process.kill('it lost its device');
      }
      throw error;
    } finally {
      activeCalls -= 1;
      if (process === engine && process.alive()) afterCall(process);
    }
  }

  function afterCall(process: EngineProcess): void {
    if (activeCalls > 0) return;
    if (plan !== null) return endWhenIdle();
    if (state !== 'busy') return;
    if (settings.recycleAfterJobs > 0 && jobsOfProcess >= settings.recycleAfterJobs) return recycle(`${jobsOfProcess} jobs since its start`);
    setState('ready');
    void measureMemory(process);
  }

  async function restart({ force }: { force: boolean }): Promise<void> {
    policy.reset();
    if (engine === null) {
      ensureRunning();
      wake?.abort();
      return;
    }
    wanted = true;
    plan = 'restart';
    setState('draining', 'asked to restart');
    if (force || activeCalls === 0 || readySinceMs === null) engine.kill('restart', { ordered: true });
  }

  /** Ends the process, after its requests unless forced. A lazy engine starts again with its next request. */
  async function stop({ force }: { force: boolean }): Promise<void> {
    wanted = false;
    wake?.abort();
    if (engine !== null) {
      plan = 'stop';
      setState('draining', 'asked to stop');
      if (force || readySinceMs === null) engine.kill('stop', { ordered: true });
      else endWhenIdle();
    }
    await looping;
  }

  function status(): EngineStatus {
    return {
      kind, state, pid: engine?.pid ?? null,
      uptimeSeconds: readySinceMs === null ? 0 : (Date.now() - readySinceMs) / 1000,
      jobsProcessed, lastJobAtMs, errorCount, restarts, loaded, memory, reason,
    };
  }

  return {
    kind, lazy: settings.lazy, start: ensureRunning, whenReady, call, restart, stop, status,
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
  return problem?.code === 'model_missing' || problem?.code === 'model_invalid' || problem?.code === 'invalid_parameters';
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) return resolve();
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
