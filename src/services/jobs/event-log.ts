import { EventEmitter } from 'node:events';
import type { JobEvent } from './types.js';

/** An event before it has its id. */
export type NewJobEvent = JobEvent extends infer Event ? Event extends JobEvent ? Omit<Event, 'id'> : never : never;

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
 * Ids are milliseconds since the epoch, pushed up where needed so that they grow strictly within a job: a reader may
 * reconnect to another instance, or to this one after a restart, and its last id still separates old from new.
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
    since: (jobId: string, afterId: number): JobEvent[] => (logs.get(jobId) ?? []).filter((event) => event.id > afterId),
    has: (jobId: string): boolean => logs.has(jobId),
    onEvent(jobId: string, listener: (event: JobEvent) => void): () => void {
      emitter.on(`job:${jobId}`, listener);
      return () => emitter.off(`job:${jobId}`, listener);
    },
  };
}
export type EventLog = ReturnType<typeof createEventLog>;
