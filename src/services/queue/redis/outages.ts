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
    'NOAUTH|WRONGPASS|NOPERM',
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

  function failed(error: Error, kind = outageOf(error) ?? 'away'): void {
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
    return new QueueUnavailable(error, sentences[kind]);
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

function told(kind: string): string {
  if (kind === 'away') return 'Redis does not answer; jobs wait, and calls are tried again';
  if (kind === 'OOM')
    return 'Redis is full (maxmemory): new jobs are refused, those that wait are worked off';
  if (demotions.has(kind))
    return 'Redis takes no writes: a failover, or a replica is addressed; connecting anew';
  return `Redis refuses calls (${kind}); they are tried again`;
}
