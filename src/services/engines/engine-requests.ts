import type {
  EngineEvent,
  EngineMethod,
  EngineMethods,
  EngineStage,
  FromEngine,
  ToEngine,
} from '../../inference/engine-protocol.js';
import { EngineError, engineErrorFrom } from './engine-error.js';
import type { StageLimits } from './watchdog.js';

export interface CallOptions {
  /** Aborting sends `cancel`; the call then ends with the engine's own `cancelled`. */
  signal?: AbortSignal | undefined;
  onEvent?: ((event: EngineEvent) => void) | undefined;
  /**
   * How long the stages of such a request usually take, seconds; a hang is then noticed sooner than by the
   * defaults.
   */
  expectedStageSeconds?: Partial<Record<EngineStage, number>> | undefined;
}

/** A request the process has not answered yet. Times are monotonic, milliseconds. */
export interface PendingRequest {
  method: EngineMethod;
  jobId: string | null;
  stage: keyof StageLimits;
  step: number;
  steps: number;
  /** Of its last event. */
  sinceMs: number;
  /** Longest time between two progress events so far: a cancellation cannot take effect sooner than that. */
  longestStepMs: number;
  cancelledAtMs: number | null;
  computeDone: boolean;
  onEvent: ((event: EngineEvent) => void) | undefined;
  expectedStageSeconds: Partial<Record<string, number>>;
  resolve: (result: unknown) => void;
  reject: (error: Error) => void;
}

/** This side of the protocol: the requests an engine process works on, with what it has told of each. */
export function createEngineRequests(send: (message: ToEngine) => void) {
  const pending = new Map<string, PendingRequest>();
  let nextId = 1;

  function noteEvent(request: PendingRequest, event: EngineEvent): void {
    const now = performance.now();
    if (event.kind === 'computeDone') request.computeDone = true;
    else if (request.stage !== 'waiting')
      request.longestStepMs = Math.max(request.longestStepMs, now - request.sinceMs);
    request.sinceMs = now;
    if (event.kind !== 'progress') return;
    request.stage = event.stage;
    request.step = event.step;
    request.steps = event.steps;
  }

  return {
    /** Oldest first. */
    pending: (): PendingRequest[] => [...pending.values()],

    async call<M extends EngineMethod>(
      method: M,
      params: EngineMethods[M]['params'],
      { signal, onEvent, expectedStageSeconds = {} }: CallOptions = {},
    ): Promise<EngineMethods[M]['result']> {
      if (signal?.aborted) throw new EngineError('cancelled', 'Cancelled before it was sent to the engine');
      const id = String(nextId++);
      let cancel = () => {};
      try {
        return await new Promise<EngineMethods[M]['result']>((resolve, reject) => {
          const request: PendingRequest = {
            method,
            jobId: 'jobId' in params ? params.jobId : null,
            stage: method === 'load' ? 'load' : method === 'warmUp' ? 'warmUp' : 'waiting',
            step: 0,
            steps: 0,
            sinceMs: performance.now(),
            longestStepMs: 0,
            cancelledAtMs: null,
            computeDone: false,
            onEvent,
            expectedStageSeconds,
            resolve: (result) => resolve(result as EngineMethods[M]['result']),
            reject,
          };
          pending.set(id, request);
          cancel = () => {
            request.cancelledAtMs ??= performance.now();
            send({ type: 'cancel', id });
          };
          signal?.addEventListener('abort', cancel, { once: true });
          send({ type: 'request', id, method, params } as ToEngine);
        });
      } finally {
        signal?.removeEventListener('abort', cancel);
      }
    },

    receive(message: Extract<FromEngine, { id: string }>): void {
      const request = pending.get(message.id);
      if (request === undefined) return;
      if (message.type === 'event') {
        noteEvent(request, message.event);
        request.onEvent?.(message.event);
        return;
      }
      pending.delete(message.id);
      if (message.type === 'result') request.resolve(message.result);
      else request.reject(engineErrorFrom(message.error));
    },

    /** The process has ended. */
    rejectAll(errorFor: (request: PendingRequest) => EngineError): void {
      for (const request of pending.values()) request.reject(errorFor(request));
      pending.clear();
    },
  };
}
