import { fork, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Logger } from 'pino';
import type {
  EngineEvent,
  EngineKind,
  EngineMethod,
  EngineMethods,
  EngineStage,
  FromEngine,
  ToEngine,
} from '../../inference/engine-protocol.js';
import { EngineError, engineDied, engineErrorFrom, type EngineExit } from './engine-error.js';
import type { LogRing } from './child-environment.js';
import { ownLoader } from '../../lib/processes.js';
import { measuredLimitMs, type StageLimits } from './supervisor-options.js';

export interface EngineProcessOptions {
  kind: EngineKind;
  /** Compiled entry, forked with the engine kind as its argument. */
  entry: string;
  /** The child's whole environment; secrets have no business in it. */
  env: NodeJS.ProcessEnv;
  execArgv?: string[];
  log: Logger;
  logRing: LogRing;
  helloTimeoutMs: number;
  /** Silence on the heartbeat channel after which the process is taken for stopped or dead. */
  heartbeatTimeoutMs: number;
  /**
   * How long a cancelled request may go on (or three of its longest steps, if that is more); then the process
   * is killed.
   */
  cancelGraceMs: number;
  stageLimitsMs: StageLimits;
  /** Resident memory as the heartbeat reports it, bytes. */
  onRss?: (rssBytes: number) => void;
}

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

interface PendingCall {
  method: EngineMethod;
  jobId: string | null;
  stage: keyof StageLimits;
  step: number;
  steps: number;
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

/**
 * One engine child process and the requests it works on. Its death, for whatever reason, rejects every
 * pending call with a retryable `engine_died` that says how it ended; nothing of the caller is ever left
 * hanging.
 */
export function startEngineProcess(options: EngineProcessOptions) {
  const { kind, log, logRing } = options;
  const child: ChildProcess = fork(options.entry, [kind], {
    env: options.env,
    execArgv: options.execArgv ?? [...ownLoader],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc', 'pipe'],
  });
  const pending = new Map<string, PendingCall>();
  let nextId = 1;
  let exit: EngineExit | null = null;
  let killReason: string | null = null;
  let killOrdered = false;
  /** The call whose watchdog had the process killed. */
  let accused: PendingCall | null = null;
  let saidHello = false;
  let lastBeatMs = Date.now();
  let lastTickMs = Date.now();

  let resolveHello!: () => void;
  let rejectHello!: (error: Error) => void;
  const hello = new Promise<void>((resolve, reject) => {
    resolveHello = resolve;
    rejectHello = reject;
  });
  hello.catch(() => {});
  let resolveExited!: (exit: EngineExit) => void;
  const exited = new Promise<EngineExit>((resolve) => {
    resolveExited = resolve;
  });

  const stamp = () => new Date().toISOString();
  for (const [name, stream] of [
    ['stdout', child.stdout],
    ['stderr', child.stderr],
  ] as const) {
    if (!stream) continue;
    stream.on('error', () => {});
    createInterface({ input: stream }).on('line', (line) => {
      logRing.push(`${stamp()} ${name} ${line}`);
      log.debug({ stream: name }, line);
    });
  }
  // undefined, whatever its type says, when the process could not be started
  const heartbeat = (child.stdio as ChildProcess['stdio'] | undefined)?.[4];
  if (heartbeat && 'on' in heartbeat) {
    heartbeat.on('error', () => {});
    heartbeat.on('data', (chunk: Buffer) => {
      lastBeatMs = Date.now();
      noteRss(chunk.toString('utf8'));
    });
  }

  child.on('message', (message) => receive(message as FromEngine));
  child.on('error', (error) => {
    logRing.push(`${stamp()} process ${error.message}`);
    if (child.pid !== undefined) return;
    rejectHello(
      new EngineError('engine_failed', `The ${kind} engine could not be started: ${error.message}`),
    );
    ended(null, null);
  });
  child.on('exit', ended);

  const watchIntervalMs = Math.max(
    20,
    Math.min(
      1000,
      options.heartbeatTimeoutMs / 4,
      options.cancelGraceMs / 4,
      ...Object.values(options.stageLimitsMs).map((limit) => limit / 4),
    ),
  );
  const watch = setInterval(tick, watchIntervalMs);
  watch.unref();
  const startedAtMs = Date.now();

  function receive(message: FromEngine): void {
    if (message.type === 'hello') {
      saidHello = true;
      lastBeatMs = Date.now();
      resolveHello();
    } else if (message.type === 'log') {
      logRing.push(
        `${stamp()} ${message.level} ${message.message}${message.fields ? ` ${JSON.stringify(message.fields)}` : ''}`,
      );
      log[message.level]({ ...message.fields }, message.message);
    } else {
      const call = pending.get(message.id);
      if (call === undefined) return;
      if (message.type === 'event') {
        noteEvent(call, message.event);
        call.onEvent?.(message.event);
      } else {
        pending.delete(message.id);
        if (message.type === 'result') call.resolve(message.result);
        else call.reject(engineErrorFrom(message.error));
      }
    }
  }

  /**
   * A beat may carry the process's resident memory: known even while its main thread is inside a native call.
   */
  function noteRss(text: string): void {
    const rssBytes = Number(/"rssBytes":(\d+)/.exec(text)?.[1] ?? 0);
    if (rssBytes > 0) options.onRss?.(rssBytes);
  }

  function noteEvent(call: PendingCall, event: EngineEvent): void {
    const now = Date.now();
    if (event.kind === 'computeDone') call.computeDone = true;
    else if (call.stage !== 'waiting') call.longestStepMs = Math.max(call.longestStepMs, now - call.sinceMs);
    call.sinceMs = now;
    if (event.kind !== 'progress') return;
    call.stage = event.stage;
    call.step = event.step;
    call.steps = event.steps;
  }

  function oldestCall(): PendingCall | undefined {
    for (const call of pending.values()) if (!call.computeDone) return call;
    return pending.values().next().value;
  }

  /** What the process was doing for somebody; asking it for its memory is nothing. */
  function suspect(): PendingCall | undefined {
    if (accused !== null) return accused;
    const calls = [...pending.values()].filter(({ method }) => method !== 'memory');
    return calls.find(({ computeDone }) => !computeDone) ?? calls[0];
  }

  function lastStage(): string | null {
    const call = suspect();
    if (call === undefined) return null;
    return call.steps > 0 ? `${call.stage} ${call.step}/${call.steps}` : call.stage;
  }

  function tick(): void {
    const now = Date.now();
    // A tick that comes late means this process itself was stopped or starved; beats wait unread in the pipe.
    if (now - lastTickMs > watchIntervalMs + Math.min(1000, options.heartbeatTimeoutMs / 2)) {
      lastBeatMs = Math.max(lastBeatMs, now - watchIntervalMs);
      for (const call of pending.values()) call.sinceMs += now - lastTickMs;
    }
    lastTickMs = now;
    if (!saidHello) {
      if (now - startedAtMs > options.helloTimeoutMs)
        kill(`said nothing for ${seconds(options.helloTimeoutMs)} after its start`);
      return;
    }
    if (now - lastBeatMs > options.heartbeatTimeoutMs)
      return kill(`no heartbeat for ${seconds(options.heartbeatTimeoutMs)}`);
    const first = oldestCall();
    for (const call of pending.values()) {
      // Waiting behind another request is no hang, however long that one takes.
      if (call.stage === 'waiting' && call !== first) {
        call.sinceMs = now;
        if (call.cancelledAtMs !== null) call.cancelledAtMs = now;
        continue;
      }
      // One thread serves all requests: beside long native steps the others go on, and are heard, between two
      // of them.
      const besideMs =
        first === undefined || first === call || first.computeDone
          ? 0
          : 3 * Math.max(first.longestStepMs, now - first.sinceMs);
      const usualStepMs = ((call.expectedStageSeconds[call.stage] ?? 0) * 1000) / Math.max(1, call.steps);
      // a load cannot be interrupted, and others may wait for it
      const leastMs = call.stage === 'load' ? options.stageLimitsMs.load : options.cancelGraceMs;
      const graceMs = besideMs + Math.max(leastMs, 3 * call.longestStepMs, 3 * usualStepMs);
      if (call.cancelledAtMs !== null && now - call.cancelledAtMs > graceMs)
        return accuse(call, `did not stop within ${seconds(graceMs)} of a cancellation`);
      const limitMs =
        besideMs +
        measuredLimitMs(
          call.stage,
          options.stageLimitsMs[call.stage],
          call.expectedStageSeconds[call.stage],
          call.steps,
        );
      if (now - call.sinceMs > limitMs)
        return accuse(call, `no progress in stage ${call.stage} for ${seconds(limitMs)}`);
    }
  }

  function accuse(call: PendingCall, reason: string): void {
    accused ??= call;
    kill(reason);
  }

  function ended(code: number | null, signal: NodeJS.Signals | null): void {
    if (exit !== null) return;
    exit = {
      code,
      signal,
      reason: killReason,
      lastStage: lastStage(),
      jobId: suspect()?.jobId ?? null,
      atMs: Date.now(),
    };
    clearInterval(watch);
    rejectHello(engineDied(kind, exit));
    const guilty = suspect();
    for (const call of pending.values()) call.reject(engineDied(kind, exit, call !== guilty || killOrdered));
    pending.clear();
    resolveExited(exit);
  }

  function send(message: ToEngine): void {
    // A failed send means the process is going; `exit` settles every call.
    if (child.connected) child.send(message, () => {});
  }

  async function call<M extends EngineMethod>(
    method: M,
    params: EngineMethods[M]['params'],
    callOptions: CallOptions = {},
  ): Promise<EngineMethods[M]['result']> {
    // It never reached the process, so it cannot have ended it.
    if (exit !== null) throw engineDied(kind, exit, true);
    if (callOptions.signal?.aborted)
      throw new EngineError('cancelled', 'Cancelled before it was sent to the engine');
    const id = String(nextId++);
    let onAbort: (() => void) | undefined;
    try {
      return await new Promise<EngineMethods[M]['result']>((resolve, reject) => {
        const entry: PendingCall = {
          method,
          jobId: 'jobId' in params ? params.jobId : null,
          stage: method === 'load' ? 'load' : method === 'warmUp' ? 'warmUp' : 'waiting',
          step: 0,
          steps: 0,
          sinceMs: Date.now(),
          longestStepMs: 0,
          cancelledAtMs: null,
          computeDone: false,
          onEvent: callOptions.onEvent,
          expectedStageSeconds: callOptions.expectedStageSeconds ?? {},
          resolve: (result) => resolve(result as EngineMethods[M]['result']),
          reject,
        };
        pending.set(id, entry);
        onAbort = () => {
          entry.cancelledAtMs ??= Date.now();
          send({ type: 'cancel', id });
        };
        callOptions.signal?.addEventListener('abort', onAbort, { once: true });
        send({ type: 'request', id, method, params } as ToEngine);
      });
    } finally {
      if (onAbort) callOptions.signal?.removeEventListener('abort', onAbort);
    }
  }

  /**
   * `ordered` ends are nobody's fault. SIGKILL: the only end that works on a stopped, hung or computing
   * process, and the only one that frees device memory for sure.
   */
  function kill(reason: string, { ordered = false }: { ordered?: boolean } = {}): void {
    if (exit !== null || killReason !== null) return;
    killReason = reason;
    killOrdered = ordered;
    child.kill('SIGKILL');
  }

  return {
    pid: child.pid ?? null,
    hello,
    exited,
    call,
    kill,
    lastStage,
    /** Neither ended nor about to be. */
    alive: () => exit === null && killReason === null,
    silentMs: () => Date.now() - lastBeatMs,
  };
}
export type EngineProcess = ReturnType<typeof startEngineProcess>;

function seconds(ms: number): string {
  return `${ms >= 1000 ? Math.round(ms / 1000) : ms / 1000} s`;
}
