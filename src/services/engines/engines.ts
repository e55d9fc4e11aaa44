import type { EngineKind, EngineMethod, EngineMethods } from '../../inference/engine-protocol.js';
import type { DescribePromptParams } from '../../inference/generation.js';
import type { EnginesView, EngineStatus } from './engine-status.js';
import { errors } from '../../lib/errors.js';
import type { DeviceMemory } from '../card/device-memory.js';
import { EngineError } from './engine-error.js';
import type { CallOptions } from './engine-requests.js';
import type { SupervisorOptions } from './engine-options.js';
import { createSupervisor, type Supervisor } from './supervisor.js';

interface EnginesOptions {
  /** In start order; an engine that loads while another one does would only make both slower. */
  engines: SupervisorOptions[];
  /** Engines this service does not have, with the reason shown for them. */
  absent?: Partial<Record<EngineKind, string>>;
  /** Room on the GPU; absent: there is room for everybody. */
  memory?: Pick<DeviceMemory, 'gate' | 'deviceBytes'>;
}

/** What the runner and the enhancement use, beside what routes see. */
export interface Engines extends EnginesView {
  has(kind: EngineKind): boolean;
  whenReady(kind: EngineKind, options: { signal?: AbortSignal; patient?: boolean }): Promise<void>;
  /**
   * Resolves once requests may be sent: the engine is ready, or starts with the next one. Waits for its
   * recovery.
   */
  whenServing(kind: EngineKind, signal: AbortSignal): Promise<void>;
  call<M extends EngineMethod>(
    kind: EngineKind,
    method: M,
    params: EngineMethods[M]['params'],
    options?: CallOptions,
  ): Promise<EngineMethods[M]['result']>;
  /** Ends a process to give its memory back; the engine starts again with its next request. */
  release(kind: EngineKind, options: { force: boolean; why?: string }): Promise<void>;
  onChange(listener: (kind: EngineKind) => void): () => void;
  start(): void;
  stop(options: { force: boolean }): Promise<void>;
}

export function createEngines({ engines, absent = {}, memory }: EnginesOptions): Engines {
  const supervisors = new Map<EngineKind, Supervisor>(
    engines.map((options) => [
      options.kind,
      createSupervisor(memory === undefined ? options : { memory: memory.gate(options.kind), ...options }),
    ]),
  );
  const stopping = new AbortController();

  function supervisor(kind: EngineKind): Supervisor {
    const found = supervisors.get(kind);
    if (found === undefined)
      throw new EngineError(
        'engine_unavailable',
        `There is no ${kind} engine: ${absent[kind] ?? 'it is not configured'}`,
      );
    return found;
  }

  function statusOfAbsent(kind: EngineKind): EngineStatus {
    return {
      kind,
      state: 'stopped',
      pid: null,
      uptimeSeconds: 0,
      jobsProcessed: 0,
      lastJobAtMs: null,
      errorCount: 0,
      restarts: 0,
      loaded: null,
      memory: null,
      reason: absent[kind] ?? 'it is not configured',
      resting: false,
      lastOperation: null,
      failuresInRow: 0,
      silentMs: null,
      recovering: false,
      nextStartAtMs: null,
      loadProblem: null,
      lastExit: null,
    };
  }

  function status(kind: EngineKind): EngineStatus {
    const known = supervisors.get(kind)?.status() ?? statusOfAbsent(kind);
    const deviceBytes = known.pid === null ? undefined : memory?.deviceBytes(kind);
    return known.memory === null || deviceBytes === undefined
      ? known
      : { ...known, memory: { ...known.memory, deviceBytes } };
  }

  async function startInOrder(): Promise<void> {
    for (const each of supervisors.values()) {
      if (each.lazy || stopping.signal.aborted) continue;
      each.start();
      await each.whenStarted(stopping.signal).catch(() => {});
    }
  }

  return {
    status,
    statuses: () => (['sdxl', 'wan', 'qwen'] as const).map(status),
    has: (kind) => supervisors.has(kind),
    whenReady: (kind, options) => supervisor(kind).whenReady(options),
    call: async (kind, method, params, options) => supervisor(kind).call(method, params, options),
    async restart(kind, options) {
      if (!supervisors.has(kind))
        throw errors.unavailable(`The ${kind} worker cannot be restarted: ${status(kind).reason}`);
      supervisor(kind).restart(options);
    },
    whenServing: (kind, signal) => supervisor(kind).whenServing(signal),
    release: (kind, { force, why }) =>
      supervisor(kind).stop({
        force,
        rest: why ?? 'stopped to free its memory; starts with its next request',
      }),
    async describePrompt(params: DescribePromptParams, signal) {
      try {
        return await supervisor('sdxl').call('sdxl.describePrompt', params, { signal });
      } catch (error) {
        if (error instanceof EngineError && error.code === 'engine_unavailable')
          throw errors.unavailable(error.message);
        throw error;
      }
    },
    logs: (kind) => supervisors.get(kind)?.logs() ?? [],
    onChange(listener) {
      const offs = [...supervisors.values()].map((each) => each.onChange(() => listener(each.kind)));
      return () => offs.forEach((off) => off());
    },
    start: () => void startInOrder(),
    async stop(options) {
      stopping.abort();
      await Promise.all([...supervisors.values()].map((each) => each.stop(options)));
    },
  };
}
