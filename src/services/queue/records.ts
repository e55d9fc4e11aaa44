import { createHash } from 'node:crypto';
import {
  terminalStatuses,
  type FinishedJob,
  type JobFilter,
  type JobProgress,
  type JobRecord,
} from './job-store.js';
import type { JobType, QueueName } from '../catalogue.js';

const waiting: JobProgress = { stage: 'queued', step: 0, steps: 0, fraction: 0, etaSeconds: null };

export function createRecord(
  job: { id: string; type: JobType; userId: string },
  queue: QueueName,
  createdAtMs: number,
): JobRecord {
  return {
    ...job,
    queue,
    status: 'queued',
    progress: waiting,
    attempts: 0,
    assets: [],
    metadata: {},
    cancelRequested: false,
    createdAtMs,
  };
}

/** The record of a job whose attempt begins now. */
export function begunRecord(record: JobRecord, attempt: number, workerId: string, nowMs: number): JobRecord {
  return {
    ...record,
    status: 'processing',
    attempts: attempt,
    workerId,
    startedAtMs: record.startedAtMs ?? nowMs,
  };
}

/** The record of a job that waits again, for a retry or because its worker let go of it. */
export function waitingRecord(record: JobRecord, attempts: number, lastError?: string): JobRecord {
  return {
    ...record,
    status: 'queued',
    attempts,
    progress: waiting,
    ...(lastError === undefined ? {} : { lastError }),
  };
}

export function finishedRecord(record: JobRecord, result: FinishedJob, nowMs: number): JobRecord {
  const { errorMessage: _, ...rest } = record;
  const done = result.status === 'completed';
  return {
    ...rest,
    status: result.status,
    assets: result.assets,
    metadata: result.metadata,
    finishedAtMs: nowMs,
    progress: done
      ? { ...record.progress, stage: 'done', step: record.progress.steps, fraction: 1, etaSeconds: null }
      : { ...record.progress, etaSeconds: null },
    ...(result.errorMessage === undefined ? {} : { errorMessage: result.errorMessage }),
  };
}

/** A finished job whose payload an operator puts back on the queue. */
export function requeuedRecord(record: JobRecord): JobRecord {
  const {
    errorMessage: _error,
    finishedAtMs: _finished,
    startedAtMs: _started,
    lastError: _last,
    workerId: _worker,
    ...rest
  } = record;
  return {
    ...rest,
    status: 'queued',
    progress: waiting,
    attempts: 0,
    assets: [],
    metadata: {},
    cancelRequested: false,
  };
}

export function isTerminal(record: JobRecord): boolean {
  return terminalStatuses.has(record.status);
}

export function matches(record: JobRecord, filter: JobFilter): boolean {
  return (
    (filter.status === undefined || record.status === filter.status) &&
    (filter.type === undefined || record.type === filter.type) &&
    (filter.userId === undefined || record.userId === filter.userId)
  );
}

export function digestOf(payload: string): string {
  return createHash('sha256').update(payload).digest('base64url');
}

/** Sorts before an earlier time's key; ends at 2286. */
function newestFirst(timeMs: number): string {
  return String(9_999_999_999_999 - timeMs).padStart(13, '0');
}

/** Place of a job in a listing, newest first; also the cursor of a page that ends with it. */
export function listingKey(record: Pick<JobRecord, 'createdAtMs' | 'id'>): string {
  return `${newestFirst(record.createdAtMs)}:${record.id}`;
}

export interface PayloadPeek {
  /** Empty when the payload has no id that can serve as a key. */
  id: string;
  /** As the producer wrote it, not checked against the catalogue; empty when unreadable. */
  type: string;
  userId: string;
}

const nothing: PayloadPeek = { id: '', type: '', userId: '' };
/** Ids become parts of keys and of webhook ids; the same rule stands in `redis/scripts/reserve.lua`. */
const usableId = /^[\w.:-]{1,128}$/;

/** Reads what the store needs of a payload that nobody has validated yet. Never throws. */
export function peekPayload(payload: string): PayloadPeek {
  try {
    const value: unknown = JSON.parse(payload);
    if (value === null || typeof value !== 'object') return nothing;
    const { id, type, user_id: userId } = value as Record<string, unknown>;
    return {
      id: typeof id === 'string' && usableId.test(id) ? id : '',
      type: typeof type === 'string' ? type : '',
      userId: typeof userId === 'string' ? userId : '',
    };
  } catch {
    return nothing;
  }
}
