import { LRUCache } from 'lru-cache';
import type { JobProgress, JobRecord, JobStatus, JobStore } from '../queue/job-store.js';
import { compareChanges, type JobChange } from '../queue/store-parts.js';

/** Followers told in one turn of the event loop: whoever asks for something else waits for no more. */
const toldPerTurn = 50;

/** Calls in the order they came, a few in each turn; the first ones at once. */
export function createTurns() {
  let waiting: Array<() => void> = [];
  let begun = 0;
  function turn(): void {
    for (let told = 0; told < toldPerTurn; told += 1) waiting[begun++]?.();
    if (begun < waiting.length) return void setImmediate(turn);
    [waiting, begun] = [[], 0];
  }
  return (calls: Array<() => void>): void => {
    const isIdle = waiting.length === 0;
    waiting.push(...calls);
    if (isIdle && waiting.length > 0) turn();
  };
}

export type JobEvent =
  | {
      id: number;
      event: 'state';
      data: { status: JobStatus; attempts: number; assets: string[]; error_message?: string };
    }
  | { id: number; event: 'progress'; data: JobProgress }
  | {
      id: number;
      event: 'preview';
      data: { image: number; images: number; step: number; content_type: string; base64: string };
    };

/** An event before it has its id. */
export type NewJobEvent = JobEvent extends infer Event
  ? Event extends JobEvent
    ? Omit<Event, 'id'>
    : never
  : never;

export interface EventLogOptions {
  /** Events kept per job; the oldest go first, a preview is replaced by the next one of its picture. */
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
  const listeners = new Map<string, Set<(event: JobEvent) => void>>();
  const listenersOfAll = new Set<(jobId: string, event: JobEvent) => void>();
  const inTurns = createTurns();

  function publish(jobId: string, event: NewJobEvent): JobEvent {
    const events = logs.get(jobId) ?? [];
    logs.delete(jobId);
    logs.set(jobId, events);
    const entry = { id: Math.max(now(), (events.at(-1)?.id ?? 0) + 1), ...event };
    if (entry.event === 'preview') {
      const { image } = entry.data;
      const previous = events.findIndex((each) => each.event === 'preview' && each.data.image === image);
      if (previous >= 0) events.splice(previous, 1);
    }
    events.push(entry);
    if (events.length > perJob) events.splice(0, events.length - perJob);
    if (logs.size > jobs) logs.delete(logs.keys().next().value ?? '');
    inTurns([...(listeners.get(jobId) ?? [])].map((listener) => () => listener(entry)));
    for (const listener of listenersOfAll) listener(jobId, entry);
    return entry;
  }

  return {
    publish,
    /** Events kept of this job after an id, oldest first. */
    since: (jobId: string, afterId: number): JobEvent[] =>
      (logs.get(jobId) ?? []).filter((event) => event.id > afterId),
    /** Of the latest event kept of this job; undefined when there is none. */
    lastId: (jobId: string): number | undefined => logs.get(jobId)?.at(-1)?.id,
    /** Of every job, at once. */
    onAny(listener: (jobId: string, event: JobEvent) => void): () => void {
      listenersOfAll.add(listener);
      return () => listenersOfAll.delete(listener);
    },
    onEvent(jobId: string, listener: (event: JobEvent) => void): () => void {
      const of = listeners.get(jobId) ?? new Set();
      listeners.set(jobId, of.add(listener));
      return () => {
        of.delete(listener);
        if (of.size === 0 && listeners.get(jobId) === of) listeners.delete(jobId);
      };
    },
  };
}
export type EventLog = ReturnType<typeof createEventLog>;

type Owned = Pick<JobRecord, 'id' | 'writtenId' | 'userId'>;
type NewState = JobChange['job'];
export type AllJobsEvent =
  | { id: string; event: 'state'; data: NewState & { atMs: number } }
  | { event: 'progress'; data: { jobId: string; progress: JobProgress } }
  | { event: 'preview'; data: { jobId: string; preview: Extract<JobEvent, { event: 'preview' }>['data'] } }
  /** What happened in between is not known here any more. */
  | { event: 'reset' };

export interface FollowAllOptions {
  /** The last state somebody was told; without it only what happens from now on is told. */
  afterId?: string | undefined;
  /** Whose jobs; all of them without it. */
  userId?: string | undefined;
  previews: boolean;
}

/** What one follower has not taken yet: beyond it, all that is no state goes, then everything. */
const mostPending = 1000;

/**
 * Events of all jobs: states from the store, whoever runs them, steps and previews of this process's own jobs at once,
 * and of others how far they are. The store is followed once for all, while there is somebody.
 */
export function createAllEvents({
  store,
  events,
}: {
  store: Pick<JobStore, 'changes' | 'get'>;
  events: Pick<EventLog, 'onAny'>;
}) {
  const members = new Set<(event: AllJobsEvent, userId: string) => void>();
  const inTurns = createTurns();
  const owners = new LRUCache<string, Promise<Owned | null>>({ max: 5000 });
  let following: Promise<() => void> | undefined;

  function tell(event: AllJobsEvent, userId: string): void {
    const owner = userId.toLowerCase();
    inTurns([...members].map((member) => () => member(event, owner)));
  }

  const stateEvent = ({ id, job }: JobChange): AllJobsEvent => ({
    id,
    event: 'state',
    data: { ...job, atMs: Number(id.split('-')[0]) },
  });

  async function tellOfOwn(id: string, event: JobEvent): Promise<void> {
    if (event.event === 'state') return;
    const owner = owners.get(id) ?? store.get(id).catch(() => null);
    owners.set(id, owner);
    const job = await owner;
    if (job === null) return;
    const jobId = job.writtenId ?? job.id;
    if (event.event === 'progress')
      tell({ event: 'progress', data: { jobId, progress: event.data } }, job.userId);
    else tell({ event: 'preview', data: { jobId, preview: event.data } }, job.userId);
  }

  async function begin(): Promise<() => void> {
    const off = events.onAny((id, event) => void tellOfOwn(id, event));
    try {
      const { stop } = await store.changes.follow({
        onChange(change) {
          owners.set(change.job.id, Promise.resolve(change.job));
          tell(stateEvent(change), change.job.userId);
        },
        onProgress: ({ id, writtenId = id, userId }, progress) =>
          tell({ event: 'progress', data: { jobId: writtenId, progress } }, userId),
      });
      return () => {
        off();
        stop();
      };
    } catch (error) {
      off();
      throw error;
    }
  }

  function leave(member: (event: AllJobsEvent, userId: string) => void): void {
    if (!members.delete(member) || members.size > 0) return;
    void following?.then(
      (stop) => stop(),
      () => undefined,
    );
    following = undefined;
  }

  /** Everything that happens once this has resolved is told; it ends with the signal. */
  return async function followAll(
    { afterId, userId, previews }: FollowAllOptions,
    signal: AbortSignal,
  ): Promise<AsyncIterable<AllJobsEvent>> {
    let pending: AllJobsEvent[] = [];
    let wake = () => {};
    const isWanted = (event: AllJobsEvent, owner: string) =>
      (userId === undefined || owner === userId.toLowerCase()) && (previews || event.event !== 'preview');
    const member = (event: AllJobsEvent, owner: string) => {
      if (!isWanted(event, owner)) return;
      pending.push(event);
      if (pending.length > mostPending) pending = pending.filter((each) => each.event === 'state');
      if (pending.length > mostPending) pending = [{ event: 'reset' }];
      wake();
    };
    members.add(member);
    signal.addEventListener('abort', () => {
      leave(member);
      wake();
    });
    let kept: JobChange[] | null = [];
    try {
      following ??= begin();
      await following;
      if (afterId !== undefined) kept = await store.changes.since(afterId);
    } catch (error) {
      leave(member);
      throw error;
    }
    if (signal.aborted) leave(member);
    const before = kept === null ? [{ event: 'reset' } as const] : kept.map(stateEvent);

    return (async function* () {
      let lastId = afterId ?? '0-0';
      try {
        for (const event of before) {
          if (event.event === 'state') lastId = event.id;
          if (event.event !== 'state' || isWanted(event, event.data.userId.toLowerCase())) yield event;
        }
        for (;;) {
          for (let event = pending.shift(); event !== undefined; event = pending.shift()) {
            if (event.event !== 'state') yield event;
            else if (compareChanges(event.id, lastId) > 0) {
              lastId = event.id;
              yield event;
            }
          }
          if (signal.aborted) return;
          await new Promise<void>((resolve) => {
            wake = resolve;
            if (pending.length > 0 || signal.aborted) resolve();
          });
        }
      } finally {
        leave(member);
      }
    })();
  };
}
