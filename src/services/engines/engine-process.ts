import { fork, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Logger } from 'pino';
import type {
  EngineKind,
  EngineMethod,
  EngineMethods,
  FromEngine,
  ToEngine,
} from '../../inference/engine-protocol.js';
import { ownLoader } from '../../lib/processes.js';
import { engineDied, EngineError, type EngineExit } from './engine-error.js';
import { createEngineRequests, type CallOptions, type PendingRequest } from './engine-requests.js';
import { createWatchdog, type WatchdogLimits } from './watchdog.js';

interface EngineProcessOptions extends WatchdogLimits {
  kind: EngineKind;
  /** Forked with the engine kind as its argument. */
  entry: string;
  /** The child's whole environment; secrets have no business in it. */
  env: NodeJS.ProcessEnv;
  execArgv?: string[];
  log: Logger;
  logRing: LogRing;
  /** Resident memory as the heartbeat reports it, bytes. */
  onRss?: (rssBytes: number) => void;
}

/**
 * One engine child process and the requests it works on. Its death, for whatever reason, rejects every
 * pending request with a retryable `engine_died` that says how it ended; nothing of the caller is ever left
 * hanging.
 */
export function startEngineProcess(options: EngineProcessOptions) {
  const { kind, log, logRing } = options;
  const child: ChildProcess = fork(options.entry, [kind], {
    env: options.env,
    execArgv: options.execArgv ?? [...ownLoader],
    stdio: ['ignore', 'pipe', 'pipe', 'ipc', 'pipe'],
  });
  const requests = createEngineRequests(send);
  const watchdog = createWatchdog(options);
  let exit: EngineExit | null = null;
  let killed: { reason: string; ordered: boolean; request: PendingRequest | null } | null = null;

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

  const keep = (line: string) => logRing.push(`${new Date().toISOString()} ${line}`);
  for (const [name, stream] of [
    ['stdout', child.stdout],
    ['stderr', child.stderr],
  ] as const) {
    if (!stream) continue;
    stream.on('error', () => {});
    createInterface({ input: stream }).on('line', (line) => {
      keep(`${name} ${line}`);
      log.debug({ stream: name }, line);
    });
  }
  // undefined, whatever its type says, when the process could not be started
  const heartbeat = (child.stdio as ChildProcess['stdio'] | undefined)?.[4];
  if (heartbeat && 'on' in heartbeat) {
    heartbeat.on('error', () => {});
    heartbeat.on('data', (chunk: Buffer) => {
      watchdog.beat();
      // Known even while its main thread is inside a native call.
      const rssBytes = Number(/"rssBytes":(\d+)/.exec(chunk.toString('utf8'))?.[1] ?? 0);
      if (rssBytes > 0) options.onRss?.(rssBytes);
    });
  }

  child.on('message', (message) => receive(message as FromEngine));
  child.on('error', (error) => {
    keep(`process ${error.message}`);
    if (child.pid !== undefined) return;
    rejectHello(
      new EngineError('engine_failed', `The ${kind} engine could not be started: ${error.message}`),
    );
    ended(null, null);
  });
  child.on('exit', ended);

  const watch = setInterval(() => {
    const hang = watchdog.look(requests.pending());
    if (hang !== null) end({ ...hang, ordered: false });
  }, watchdog.intervalMs).unref();

  function receive(message: FromEngine): void {
    if (message.type === 'hello') {
      watchdog.hello();
      resolveHello();
    } else if (message.type === 'log') {
      const { level, message: text, fields } = message;
      keep(`${level} ${text}${fields ? ` ${JSON.stringify(fields)}` : ''}`);
      log[level]({ ...fields }, text);
    } else requests.receive(message);
  }

  /** What the process was doing for somebody; asking it for its memory is nothing. */
  function suspect(): PendingRequest | null {
    if (killed?.request) return killed.request;
    const all = requests.pending().filter(({ method }) => method !== 'memory');
    return all.find(({ computeDone }) => !computeDone) ?? all[0] ?? null;
  }

  function ended(code: number | null, signal: NodeJS.Signals | null): void {
    if (exit !== null) return;
    clearInterval(watch);
    const guilty = suspect();
    const end: EngineExit = {
      code,
      signal,
      reason: killed?.reason ?? null,
      lastStage: guilty === null ? null : stageOf(guilty),
      jobId: guilty?.jobId ?? null,
      atMs: Date.now(),
    };
    exit = end;
    rejectHello(engineDied(kind, end));
    requests.rejectAll((request) => engineDied(kind, end, request !== guilty || (killed?.ordered ?? false)));
    resolveExited(end);
  }

  function send(message: ToEngine): void {
    // A failed send means the process is going; `exit` settles every request.
    if (child.connected) child.send(message, () => {});
  }

  /** SIGKILL: the only end that works on a stopped, hung or computing process and frees device memory. */
  function end(how: NonNullable<typeof killed>): void {
    if (exit !== null || killed !== null) return;
    killed = how;
    child.kill('SIGKILL');
  }

  return {
    pid: child.pid ?? null,
    hello,
    exited,
    async call<M extends EngineMethod>(
      method: M,
      params: EngineMethods[M]['params'],
      callOptions?: CallOptions,
    ): Promise<EngineMethods[M]['result']> {
      // It never reached the process, so it cannot have ended it.
      if (exit !== null) throw engineDied(kind, exit, true);
      return requests.call(method, params, callOptions);
    },
    /** `ordered` ends are nobody's fault. */
    kill: (reason: string, { ordered = false } = {}) => end({ reason, ordered, request: null }),
    /** Neither ended nor about to be. */
    alive: () => exit === null && killed === null,
    silentMs: watchdog.silentMs,
  };
}
export type EngineProcess = ReturnType<typeof startEngineProcess>;

function stageOf({ stage, step, steps }: PendingRequest): string {
  return steps > 0 ? `${stage} ${step}/${steps}` : stage;
}

/** The last `limit` lines an engine wrote, over restarts, newest last. */
export function createLogRing(limit = 200) {
  const lines: string[] = [];
  return {
    push(line: string): void {
      lines.push(line.length > 4000 ? `${line.slice(0, 4000)}…` : line);
      if (lines.length > limit) lines.splice(0, lines.length - limit);
    },
    lines: (): string[] => [...lines],
  };
}
type LogRing = ReturnType<typeof createLogRing>;
