import { type JobRecord, type JobStore, terminalStatuses } from '../queue/job-store.js';
import { errors } from '../../lib/errors.js';
import { createTurns, type EventLog, type JobEvent } from './event-log.js';

const defaultPollMs = 1000;

/** What a record tells its followers; two that tell the same are equal. */
const viewOf = ({ status, attempts, progress }: JobRecord) => JSON.stringify([status, attempts, progress]);

type OnRecord = (record: JobRecord | null, view: string) => void;

export type RecordWatch = ReturnType<typeof createRecordWatch>;

/** Reads the record of a job once for all who follow it: every `pollMs`, and when they come. */
export function createRecordWatch(store: Pick<JobStore, 'get'>, pollMs = defaultPollMs) {
  const reading = new Map<string, Promise<unknown>>();
  const coming = new Map<string, Promise<JobRecord | null>>();
  const watched = new Map<string, { followers: Set<OnRecord>; timer?: NodeJS.Timeout }>();
  const inTurns = createTurns();

  function readLater(id: string): void {
    const job = watched.get(id);
    if (job === undefined) return;
    job.timer = setTimeout(() => {
      const tell = (record: JobRecord | null) => {
        const view = record === null ? '' : viewOf(record);
        inTurns([...job.followers].map((onRecord) => () => onRecord(record, view)));
      };
      // A store that does not answer now is asked again.
      const read = store.get(id).then(tell, () => undefined);
      void read.then(() => (watched.get(id) === job ? readLater(id) : undefined));
    }, pollMs);
  }

  /** A read that begins after this call; all who ask until then share it. */
  function read(id: string): Promise<JobRecord | null> {
    const known = coming.get(id);
    if (known !== undefined) return known;
    const next = Promise.resolve(reading.get(id)).then(() => {
      coming.delete(id);
      const asked = store.get(id);
      const ended = asked.then(
        () => undefined,
        () => undefined,
      );
      reading.set(id, ended);
      void ended.then(() => (reading.get(id) === ended ? reading.delete(id) : undefined));
      return asked;
    });
    coming.set(id, next);
    return next;
  }

  /** Returns the function that ends it. */
  function watch(id: string, onRecord: OnRecord): () => void {
    const job = watched.get(id) ?? { followers: new Set() };
    job.followers.add(onRecord);
    if (!watched.has(id)) {
      watched.set(id, job);
      readLater(id);
    }
    return () => {
      job.followers.delete(onRecord);
      if (job.followers.size > 0) return;
      clearTimeout(job.timer);
      if (watched.get(id) === job) watched.delete(id);
    };
  }

  return { read, watch };
}

export interface JobEventsOptions {
  store: Pick<JobStore, 'get'>;
  /** One for all who follow a job. */
  records?: RecordWatch;
  log: EventLog;
  /** How often the record is read for a job that runs in another process, milliseconds. */
  pollMs?: number;
  now?: () => number;
}

/**
 * Events of one job for one reader: what is kept after `afterId`, then live ones until the terminal state. A
 * job that runs in another process, or ran before a restart, has no log here: its record is read instead, and
 * what changed is told. Of a job that ended and was put back in line (a dead letter), the run that ended is
 * not told again. Throws `errors.notFound` for an unknown job; ends quietly when the signal aborts.
 */
export async function* followJob(
  id: string,
  afterId: number,
  signal: AbortSignal,
  {
    store,
    log,
    pollMs = defaultPollMs,
    records = createRecordWatch(store, pollMs),
    now = Date.now,
  }: JobEventsOptions,
): AsyncGenerator<JobEvent> {
  const live: JobEvent[] = [];
  let latest: JobRecord | null | undefined;
  let wake = () => {};
  const off = log.onEvent(id, (event) => {
    live.push(event);
    wake();
  });
  const kept = log.since(id, 0);
  const onAbort = () => wake();
  signal.addEventListener('abort', onAbort);
  let lastId = afterId;
  let told = '';
  // Its own process tells more and sooner; the record only speaks where no event came.
  const unwatch = records.watch(id, (record, view) => {
    if (record !== null && (view === told || !(terminalStatuses.has(record.status) || isStale()))) return;
    latest = record;
    wake();
  });
  try {
    const record = await records.read(id);
    if (record === null) throw errors.notFound(`Job ${id}`);
    const ended = terminalStatuses.has(record.status);
    // The record was read after the events: where they end otherwise than it says, the job has been in
    // another run since.
    const endOfLastRun = kept.findLastIndex(
      (event, index) => isTerminal(event) && (index < kept.length - 1 || event.data.status !== record.status),
    );
    const isTold = endOfLastRun < kept.length - 1 || live.length > 0;
    live.unshift(...kept.slice(endOfLastRun + 1).filter((event) => event.id > afterId));
    if (!isTold) {
      yield* snapshot(record);
      if (ended) return;
    }
    for (;;) {
      for (let event = live.shift(); event !== undefined; event = live.shift()) {
        if (event.id <= lastId) continue;
        lastId = event.id;
        yield event;
        if (isTerminal(event)) return;
      }
      if (signal.aborted) return;
      if (ended) return yield* snapshot(record);
      await woken();
      if (signal.aborted) return;
      if (live.length > 0 || latest === undefined) continue;
      const read = latest;
      latest = undefined;
      if (read === null) return;
      yield* snapshot(read);
      if (terminalStatuses.has(read.status) && live.length === 0) return;
    }
  } finally {
    off();
    unwatch();
    signal.removeEventListener('abort', onAbort);
  }

  /** There is no log here, or it ended without a terminal state: another process took the job over. */
  function isStale(): boolean {
    return now() - (log.lastId(id) ?? 0) > 5 * pollMs;
  }

  function* snapshot(record: JobRecord): Generator<JobEvent, void> {
    const finishedId = terminalStatuses.has(record.status) ? record.finishedAtMs : undefined;
    // The reader has seen the end already: ids of events are times.
    if (finishedId !== undefined && finishedId <= afterId && lastId === afterId) return;
    const view = viewOf(record);
    if (view === told) return;
    told = view;
    // Never ahead of the clock: the end may come within the same millisecond.
    lastId = Math.max(lastId + 1, finishedId ?? now() - 2);
    yield { id: lastId, event: 'state', data: stateOf(record) };
    if (record.status !== 'processing') return;
    lastId += 1;
    yield { id: lastId, event: 'progress', data: record.progress };
  }

  async function woken(): Promise<void> {
    await new Promise<void>((resolve) => {
      wake = resolve;
      if (live.length > 0 || latest !== undefined || signal.aborted) resolve();
    });
    wake = () => {};
  }
}

export function stateOf(record: JobRecord): Extract<JobEvent, { event: 'state' }>['data'] {
  return {
    status: record.status,
    attempts: record.attempts,
    assets: record.assets,
    ...(record.errorMessage === undefined ? {} : { error_message: record.errorMessage }),
  };
}

function isTerminal(event: JobEvent): event is Extract<JobEvent, { event: 'state' }> {
  return event.event === 'state' && terminalStatuses.has(event.data.status);
}
