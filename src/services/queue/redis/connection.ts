import { Redis, type RedisOptions } from 'ioredis';
import { sentinelAddress } from '../../../lib/environment.js';

export interface ConnectorOptions {
  /** `redis://`, `rediss://` (TLS), or one of the two with `+sentinel` and the name of the master. */
  url: string;
  /** Certificates (PEM) of the authority that signed the server's, in place of the public ones. */
  ca?: string | undefined;
  outages: Pick<ReturnType<typeof createOutages>, 'failed' | 'isDemotion'>;
  answerTimeoutMs?: number | undefined;
}

/** So often at most every connection is opened anew because a server was found demoted. */
const leastReconnectMs = 1000;

/** Opens connections of one server with one policy. */
export function createConnector({ url, ca, outages, answerTimeoutMs = 5000 }: ConnectorOptions) {
  const open = new Set<Redis>();
  let reconnectedAtMs = -Infinity;
  const address = addressOptions(url, ca);

  function connect(
    role: string,
    change: Pick<
      RedisOptions,
      'autoResendUnfulfilledCommands' | 'enableReadyCheck' | 'maxRetriesPerRequest' | 'socketTimeout'
    > = {},
  ): Redis {
    const options = {
      // Upstash and older proxies speak RESP2 in any case.
      protocol: 2 as const,
      connectionName: `ourvidz-${role}`,
      disableClientInfo: true,
      connectTimeout: 10_000,
      // A request must not hang while the server is away; whoever needs persistence repeats the call.
      maxRetriesPerRequest: 3,
      // Nor on a connection that says nothing (a path that swallows packets closes none): what it owes is
      // asked again on a new one. A connection that owes nothing may be silent.
      socketTimeout: answerTimeoutMs,
      retryStrategy: (attempt: number) => Math.min(50 * 2 ** attempt, 500),
      sentinelRetryStrategy: (attempt: number) => Math.min(50 * 2 ** attempt, 500),
      keepAlive: 30_000,
      // A server that still loads its data says so to every call; otherwise calls would wait until it is done.
      enableReadyCheck: false,
      reconnectOnError: (error: Error) => {
        if (outages.isDemotion(error)) reconnectAll();
        // The call itself is refused: whoever made it may repeat it, and nobody hangs until the failover ends.
        return false;
      },
      ...address,
      ...change,
    };
    const redis = 'sentinels' in address ? new Redis(options) : new Redis(url, options);
    redis.on('error', (error: Error) => outages.failed(error));
    open.add(redis);
    redis.once('end', () => open.delete(redis));
    return redis;
  }

  /**
   * A failover behind a stable address leaves open connections on the demoted server, those that only listen,
   * too: the address is asked again for all of them.
   */
  function reconnectAll(): void {
    if (performance.now() - reconnectedAtMs < leastReconnectMs) return;
    reconnectedAtMs = performance.now();
    // After the answers that have come with this one.
    setImmediate(() => {
      for (const redis of open) if (redis.status === 'ready') redis.disconnect(true);
    });
  }

  return {
    connect,
    disconnectAll() {
      for (const redis of open) redis.disconnect();
    },
  };
}

function addressOptions(url: string, ca: string | undefined) {
  const tls = ca === undefined ? {} : { ca };
  const sentinel = sentinelAddress(url);
  if (sentinel === null) return url.startsWith('rediss:') ? { tls } : {};
  const { isTls, ...address } = sentinel;
  return { ...address, ...(isTls ? { tls, sentinelTLS: tls, enableTLSForSentinelMode: true } : {}) };
}

export interface StoreLog {
  warn(fields: object, message: string): void;
  info?(fields: object, message: string): void;
}

/** The server of a shared queue does not take a call now; trying again may help. */
export class QueueUnavailable extends Error {
  constructor(
    cause: Error,
    /** For clients: says what is the matter, and nothing of the server. */
    readonly sentence = 'The queue does not answer',
  ) {
    super(`${sentence}: ${cause.message}`, { cause });
    this.name = 'QueueUnavailable';
  }
}

/** How the client says that nobody answers: names, codes or messages of its errors. */
const unanswered = new RegExp(
  `^(${[
    'MaxRetriesPerRequestError|Connection is closed\\.|.*Socket timeout.*|All sentinels are unreachable.*',
    'ECONN\\w+|ETIMEDOUT|EPIPE|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|ERR_TLS_\\w+|ERR_SSL_\\w+|\\w*CERT\\w*',
  ].join('|')})$`,
  'i',
);
/** What servers answer that are there and cannot do it now. A script's error has the code further behind. */
const refusal = new RegExp(
  `(?:^|\\s-?)(${[
    'READONLY|UNBLOCKED|MASTERDOWN|NOREPLICAS|OOM|BUSY|LOADING|MISCONF|CLUSTERDOWN|TRYAGAIN',
    'NOAUTH|WRONGPASS|NOPERM|WRONGTYPE',
  ].join('|')})\\s`,
);
const demotions: ReadonlySet<string> = new Set(['READONLY', 'UNBLOCKED', 'MASTERDOWN', 'NOREPLICAS']);
const sentences: Readonly<Record<string, string>> = {
  OOM: 'The memory of the queue is full',
  BUSY: 'The queue is busy',
  LOADING: 'The queue is starting',
  MISCONF: 'The queue cannot write to its disk',
  NOAUTH: 'The queue refuses this worker',
  WRONGPASS: 'The queue refuses this worker',
  NOPERM: 'The queue refuses this worker',
  WRONGTYPE: 'A key of the queue holds something else',
};

const repeatMs = 60_000;
/** Failures further apart than this are two outages. */
const quietMs = 5000;

/** Null for an error that is no outage. */
function outageOf(error: unknown): string | null {
  if (!(error instanceof Error)) return null;
  const { name, code = '', message } = error as NodeJS.ErrnoException;
  if ([name, code, message].some((each) => unanswered.test(each))) return 'away';
  // A transaction says only that it was given up; what was refused of it has the code.
  const [first] = (error as { previousErrors?: unknown[] }).previousErrors ?? [];
  return refusal.exec(message)?.[1] ?? (first === undefined ? null : outageOf(first));
}

/**
 * Tells outages of the server from faults of ours. Everything that uses the server meets them at once, so
 * they are told here, one line of a kind a minute; the errors that go on from here are logged by nobody.
 */
export function createOutages(log: StoreLog | undefined) {
  const toldAtMs = new Map<string, number>();
  let failing: { sinceMs: number; lastMs: number; calls: number } | null = null;
  /** Why there is no connection: those who wait for one only hear that they waited too long. */
  let disconnected: Error | null = null;

  function failed(error: Error, kind = outageOf(error) ?? 'away'): void {
    if (!waitedTooLong(error)) disconnected = error;
    const nowMs = performance.now();
    failing = { sinceMs: failing?.sinceMs ?? nowMs, lastMs: nowMs, calls: (failing?.calls ?? 0) + 1 };
    if (nowMs - (toldAtMs.get(kind) ?? -Infinity) < repeatMs) return;
    toldAtMs.set(kind, nowMs);
    log?.warn({ event: 'queue_outage', err: error, failures: failing.calls }, told(kind));
  }

  function answered(): void {
    const nowMs = performance.now();
    if (failing === null || nowMs - failing.lastMs < quietMs) return;
    const { sinceMs, lastMs, calls } = failing;
    failing = null;
    toldAtMs.clear();
    const seconds = Math.round((lastMs - sinceMs) / 1000);
    log?.info?.({ event: 'queue_outage_over', failures: calls, seconds }, 'Redis works again');
  }

  function renamed(error: unknown): unknown {
    const kind = outageOf(error);
    if (kind === null || !(error instanceof Error)) return error;
    failed(error, kind);
    return new QueueUnavailable((waitedTooLong(error) ? disconnected : null) ?? error, sentences[kind]);
  }

  return {
    failed,
    /** The server was a master, and takes no writes any more. */
    isDemotion: (error: Error) => demotions.has(outageOf(error) ?? ''),
    /** Since when nothing has failed, as far as anybody called; -Infinity: never. */
    lastFailureMs: () => failing?.lastMs ?? -Infinity,
    /** The same calls; those that an outage ends reject with `QueueUnavailable`. */
    naming<Calls extends object>(calls: Calls): Calls {
      const named = Object.entries(calls).map(([name, call]: [string, unknown]) => {
        if (typeof call !== 'function') return [name, call];
        const outer = (...args: unknown[]): unknown => {
          const answer = (call as (...args: unknown[]) => unknown)(...args);
          if (!(answer instanceof Promise)) return answer;
          return answer.then(
            (value: unknown) => {
              answered();
              return value;
            },
            (error: unknown) => {
              throw renamed(error);
            },
          );
        };
        return [name, outer];
      });
      return Object.fromEntries(named) as Calls;
    },
  };
}

const waitedTooLong = ({ name }: Error) => name === 'MaxRetriesPerRequestError';

function told(kind: string): string {
  if (kind === 'away') return 'Redis does not answer; jobs wait, and calls are tried again';
  if (kind === 'OOM')
    return 'Redis is full (maxmemory): new jobs are refused, those that wait are worked off';
  if (demotions.has(kind))
    return 'Redis takes no writes: a failover, or a replica is addressed; connecting anew';
  return `Redis refuses calls (${kind}); they are tried again`;
}
