import { EventEmitter } from 'node:events';
import { LRUCache } from 'lru-cache';
import type { JobEvent } from './job-service.js';
import { type JobRecord, type JobStore, terminalStatuses } from '../queue/job-store.js';
import { errors } from '../../lib/errors.js';

const defaultPollMs = 1000;

/** Reads a record once for all who ask within the time between two polls. */
export function createSharedReads(store: Pick<JobStore, 'get'>, pollMs = defaultPollMs): JobStore['get'] {
  const reads = new LRUCache<string, Promise<JobRecord | null>>({ max: 1000, ttl: pollMs });
  return (id) => {
    const known = reads.get(id);
    if (known !== undefined) return known;
    const read = store.get(id);
    reads.set(id, read);
    read.catch(() => reads.delete(id));
    return read;
  };
}

export interface JobEventsOptions {
  store: Pick<JobStore, 'get'>;
  /** As `store.get`, one read for all who follow a job. */
  readShared?: JobStore['get'];
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
  { store, readShared = store.get, log, pollMs = defaultPollMs, now = Date.now }: JobEventsOptions,
): AsyncGenerator<JobEvent> {
  const live: JobEvent[] = [];
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
  try {
    const record = await store.get(id);
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
      if (!ended) await pause();
      if (signal.aborted) return;
      if (live.length > 0) continue;
      const latest = ended ? record : await readShared(id);
      if (latest === null) return;
      // Its own process tells more and sooner; the record only speaks where no event came.
      if (live.length === 0 && (terminalStatuses.has(latest.status) || !log.has(id) || isStale()))
        yield* snapshot(latest);
      if (terminalStatuses.has(latest.status) && live.length === 0) return;
    }
  } finally {
    off();
    signal.removeEventListener('abort', onAbort);
  }

  /** The log here ended without a terminal state: another process took the job over. */
  function isStale(): boolean {
    const last = log.since(id, 0).at(-1);
    return last === undefined || now() - last.id > 5 * pollMs;
  }

  function* snapshot(record: JobRecord): Generator<JobEvent> {
    const finishedId = terminalStatuses.has(record.status) ? record.finishedAtMs : undefined;
    // The reader has seen the end already: ids of events are times.
    if (finishedId !== undefined && finishedId <= afterId && lastId === afterId) return;
    const view = JSON.stringify([record.status, record.attempts, record.progress]);
    if (view === told) return;
    told = view;
    lastId = Math.max(lastId + 1, finishedId ?? now());
    yield { id: lastId, event: 'state', data: stateOf(record) };
    if (record.status !== 'processing') return;
    lastId += 1;
    yield { id: lastId, event: 'progress', data: record.progress };
  }

  async function pause(): Promise<void> {
    await new Promise<void>((resolve) => {
      const timer = setTimeout(resolve, pollMs);
      wake = () => {
        clearTimeout(timer);
        resolve();
      };
      if (live.length > 0 || signal.aborted) wake();
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

/** An event before it has its id. */
export type NewJobEvent = JobEvent extends infer Event
  ? Event extends JobEvent
    ? Omit<Event, 'id'>
    : never
  : never;

export interface EventLogOptions {
  /** Events kept per job; the oldest go first, a preview is replaced by the next one. */
  perJob?: number;
  /** Jobs whose events are kept; the longest untouched go first. */
  jobs?: number;
  now?: () => number;
}

/**
 * Events of the jobs this process ran or accepted, for readers that follow live or come back.
 *
 * Ids are milliseconds since the epoch, pushed up where needed so that they grow strictly within a job: a
 * reader may reconnect to another instance, or to this one after a restart, and its last id still separates
 * old from new.
 */
export function createEventLog({ perJob = 500, jobs = 1000, now = Date.now }: EventLogOptions = {}) {
  const logs = new Map<string, JobEvent[]>();
  const emitter = new EventEmitter();
  emitter.setMaxListeners(0);

  function publish(jobId: string, event: NewJobEvent): JobEvent {
    const events = logs.get(jobId) ?? [];
    logs.delete(jobId);
    logs.set(jobId, events);
    const entry = { id: Math.max(now(), (events.at(-1)?.id ?? 0) + 1), ...event };
    if (entry.event === 'preview') {
      const previous = events.findIndex((each) => each.event === 'preview');
      if (previous >= 0) events.splice(previous, 1);
    }
    events.push(entry);
    if (events.length > perJob) events.splice(0, events.length - perJob);
    if (logs.size > jobs) logs.delete(logs.keys().next().value ?? '');
    emitter.emit(`job:${jobId}`, entry);
    return entry;
  }

  return {
    publish,
    /** Events kept of this job after an id, oldest first. */
    since: (jobId: string, afterId: number): JobEvent[] =>
      (logs.get(jobId) ?? []).filter((event) => event.id > afterId),
    has: (jobId: string): boolean => logs.has(jobId),
    onEvent(jobId: string, listener: (event: JobEvent) => void): () => void {
      emitter.on(`job:${jobId}`, listener);
      return () => emitter.off(`job:${jobId}`, listener);
    },
  };
}
export type EventLog = ReturnType<typeof createEventLog>;
