import type { EngineMethod, EngineMethods } from '../../inference/engine-protocol.js';
import { noGate } from '../card/device-memory.js';
import { EngineError } from './engine-error.js';
import { createEngineLifecycle } from './engine-lifecycle.js';
import type { EngineProcess } from './engine-process.js';
import type { CallOptions } from './engine-requests.js';
import { describeState, type EngineStatus } from './engine-status.js';
import { settingsOf, type SupervisorOptions } from './engine-options.js';
import { createMemoryWatch, createWorkRecord, isJob } from './work-record.js';

/**
 * One engine for the rest of the service: lets requests in once its process is ready and has room, and has
 * the process replaced when what it does shows that it should be.
 */
export function createSupervisor(options: SupervisorOptions) {
  const { kind, log } = options;
  const settings = settingsOf(options);
  const memoryGate = options.memory ?? noGate;
  const record = createWorkRecord();
  const memory = createMemoryWatch({ growthLimitBytes: settings.recycleGrowthBytes });
  let activeCalls = 0;
  const lifecycle = createEngineLifecycle(options, {
    record,
    memory,
    isIdle: () => activeCalls === 0,
    onReady(process) {
      void measureMemory(process);
      const timer = setInterval(() => {
        if (activeCalls === 0) void measureMemory(process);
      }, settings.memoryIntervalMs).unref();
      void process.exited.then(() => clearInterval(timer));
    },
  });
  const { changes, usable, resting } = lifecycle;
  const isStarting = () => ['starting', 'warming'].includes(lifecycle.state());

  async function measureMemory(process: EngineProcess): Promise<void> {
    const why = await memory.measure(process).catch((error: unknown) => {
      log.debug({ engine: kind, err: error }, 'no memory report');
      return null;
    });
    changes.emit();
    if (why !== null && usable()) lifecycle.replace(why);
  }

  /** Waits for the condition; rejects when the engine does not come to it by itself. */
  const untilOrOut = (condition: () => boolean, signal: AbortSignal | undefined): Promise<void> =>
    changes.until(() => {
      if (condition()) return true;
      if (!lifecycle.isOut()) return false;
      const { state, reason } = lifecycle.view();
      throw new EngineError(
        'engine_unavailable',
        `The ${describeState({ kind, state })}: ${reason ?? 'no reason known'}`,
      );
    }, signal);

  /**
   * Room on the card and a process that is ready, together: neither is held while the other may be long in
   * coming.
   */
  async function enter(method: EngineMethod, signal: AbortSignal | undefined): Promise<() => void> {
    for (;;) {
      await untilOrOut(() => usable() || resting(), signal);
      if (usable() && !isJob(method)) return () => {};
      const leave = await memoryGate.use(signal);
      try {
        if (resting()) lifecycle.start();
        await changes.until(() => usable() || !isStarting(), signal);
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
    const process = lifecycle.process();
    if (process === null) {
      leave();
      throw new EngineError('engine_unavailable', `The ${kind} engine has stopped`);
    }
    return occupy(process, leave, null, async () => {
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
          lifecycle.policy.succeeded();
        }
        return result;
      } catch (error) {
        if (error instanceof EngineError) {
          record.requestFailed(method, error);
          if (error.code === 'out_of_memory') memoryGate.ranOutOfMemory();
          if (error.code === 'device_lost') process.kill('it lost its device');
        }
        throw error;
      }
    });
  }

  /** The engine is busy for as long as `work` takes. */
  async function occupy<T>(
    process: EngineProcess,
    leave: () => void,
    why: string | null,
    work: () => Promise<T>,
  ): Promise<T> {
    activeCalls += 1;
    lifecycle.setState('busy', why);
    try {
      return await work();
    } finally {
      leave();
      activeCalls -= 1;
      if (process === lifecycle.process() && process.alive()) afterCall(process);
    }
  }

  function afterCall(process: EngineProcess): void {
    if (lifecycle.isEnding()) return lifecycle.endWhenIdle();
    if (lifecycle.state() !== 'busy') return;
    if (settings.recycleAfterJobs > 0 && record.jobsOfProcess() >= settings.recycleAfterJobs)
      return lifecycle.replace(`${record.jobsOfProcess()} jobs since its start`);
    if (settings.recycleAfterFailures > 0 && record.failuresInRow() >= settings.recycleAfterFailures)
      return lifecycle.replace(`${record.failuresInRow()} jobs in a row failed`);
    if (activeCalls > 0) return memory.pauseIfGrown();
    lifecycle.setState('ready');
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
    if (process !== lifecycle.process() || !usable() || activeCalls > 0 || record.works()) return leave();
    await occupy(process, leave, 'checks whether its device still works', async () => {
      try {
        await process.call('warmUp', {});
        record.warmedUp();
      } catch (error) {
        if (error instanceof EngineError && error.code === 'out_of_memory')
          lifecycle.replace('there is no memory left even for a small picture');
        else
          process.kill(
            `its device no longer works: ${error instanceof Error ? error.message : String(error)}`,
          );
      }
    });
  }

  return {
    kind,
    lazy: settings.lazy,
    start: lifecycle.start,
    /** Resolves once its start has succeeded or failed. */
    whenStarted: (signal: AbortSignal): Promise<void> => changes.until(() => !isStarting(), signal),
    /**
     * Resolves once a request can be sent; starts an engine that rests. Rejects when the engine is `failed`
     * or stopped, unless `patient`, which waits for its recovery; rejects with the signal's reason on abort.
     */
    async whenReady({
      signal,
      patient = false,
    }: { signal?: AbortSignal | undefined; patient?: boolean } = {}): Promise<void> {
      lifecycle.wake();
      await (patient ? changes.until : untilOrOut)(usable, signal);
    },
    /**
     * Resolves once it is ready, or at rest: then it starts with the next request. Waits for its recovery,
     * however long that takes.
     */
    whenServing: (signal: AbortSignal): Promise<void> => changes.until(() => usable() || resting(), signal),
    call,
    restart: lifecycle.restart,
    stop: lifecycle.stop,
    status: (): EngineStatus => ({ kind, ...lifecycle.view(), memory: memory.report(), ...record.view() }),
    logs: lifecycle.logs,
    /** Called on every change of state or memory. Returns the unsubscribe function. */
    onChange: changes.subscribe,
  };
}
export type Supervisor = ReturnType<typeof createSupervisor>;
