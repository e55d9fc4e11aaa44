import { createHash } from 'node:crypto';
import {
  terminalStatuses,
  type FinishedJob,
  type JobFilter,
  type JobProgress,
  type JobRecord,
} from './job-store.js';
import { isQueueName, type JobType, type QueueName } from '../catalogue.js';
import { promptOf } from './read-payload.js';
import type { EndedAttempt } from './store-parts.js';

const waiting: JobProgress = { stage: 'queued', step: 0, steps: 0, fraction: 0, etaSeconds: null };

/** Attempts that have ended are told of, the last ones, and a part of what is said of each. */
export const mostEndedAttempts = 10;
export const longestAttemptError = 500;

export function createRecord(
  {
    id,
    writtenId = id,
    type,
    userId,
    request = '',
  }: { id: string; writtenId?: string; type: JobType; userId: string; request?: string },
  queue: QueueName,
  createdAtMs: number,
): JobRecord {
  return {
    id,
    ...(writtenId === id ? {} : { writtenId }),
    type,
    userId,
    queue,
    status: 'queued',
    progress: waiting,
    attempts: 0,
    assets: [],
    metadata: {},
    cancelRequested: false,
    createdAtMs,
    sinceMs: createdAtMs,
    ...(request === '' ? {} : { request }),
  };
}

/** The record of a job whose attempt begins now. */
export function begunRecord(record: JobRecord, attempt: number, workerId: string, nowMs: number): JobRecord {
  const { retryAtMs: _, ...rest } = record;
  return {
    ...rest,
    sinceMs: nowMs,
    status: 'processing',
    attempts: attempt,
    workerId,
    startedAtMs: record.startedAtMs ?? nowMs,
  };
}

/** Why a job waits again: for a retry, or because its worker let go of it or is lost. */
export interface HandBack {
  attempts: number;
  outcome: 'retried' | 'handed_back' | 'lost';
  reason: string;
  dueMs: number;
}

/** The record of a job that waits again. */
export function waitingRecord(record: JobRecord, back: HandBack, nowMs: number): JobRecord {
  const { retryAtMs: _, ...rest } = withAttempt(record, back.outcome, back.reason, nowMs);
  return {
    ...rest,
    status: 'queued',
    attempts: back.attempts,
    progress: waiting,
    sinceMs: nowMs,
    ...(back.dueMs > nowMs ? { retryAtMs: back.dueMs } : {}),
    ...(back.outcome === 'handed_back' ? {} : { lastError: back.reason }),
  };
}

/** With the attempt that ends now, where one runs. */
function withAttempt(
  record: JobRecord,
  outcome: EndedAttempt['outcome'],
  error: string,
  nowMs: number,
): JobRecord {
  if (record.status !== 'processing') return record;
  const { attempts: attempt, workerId, history = [] } = record;
  const startedAtMs = sinceOf(record);
  const ended: EndedAttempt = {
    attempt,
    outcome,
    startedAtMs,
    endedAtMs: nowMs,
    ...(workerId === undefined ? {} : { workerId }),
    ...(error === '' ? {} : { error: error.slice(0, longestAttemptError) }),
  };
  return { ...record, history: [...history, ended].slice(-mostEndedAttempts) };
}

export function finishedRecord(before: JobRecord, result: FinishedJob, nowMs: number): JobRecord {
  const record = withAttempt(before, result.status, result.errorMessage ?? '', nowMs);
  const { errorMessage: _, retryAtMs: _retry, ...rest } = record;
  const done = result.status === 'completed';
  return {
    ...rest,
    status: result.status,
    assets: result.assets,
    metadata: result.metadata,
    finishedAtMs: nowMs,
    sinceMs: nowMs,
    progress: done
      ? { ...record.progress, stage: 'done', step: record.progress.steps, fraction: 1, etaSeconds: null }
      : { ...record.progress, etaSeconds: null },
    ...(result.errorMessage === undefined ? {} : { errorMessage: result.errorMessage }),
  };
}

/** A finished job whose payload an operator puts back on the queue. */
export function requeuedRecord(record: JobRecord, nowMs: number): JobRecord {
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
    sinceMs: nowMs,
  };
}

export function isTerminal(record: JobRecord): boolean {
  return terminalStatuses.has(record.status);
}

export function matches(record: JobRecord, filter: JobFilter): boolean {
  return (
    (filter.status === undefined || record.status === filter.status) &&
    (filter.type === undefined || record.type === filter.type) &&
    (filter.queue === undefined || record.queue === filter.queue) &&
    (filter.idPrefix === undefined || record.id.startsWith(filter.idPrefix.toLowerCase())) &&
    (filter.userId === undefined || record.userId.toLowerCase() === filter.userId.toLowerCase()) &&
    (filter.text === undefined || promptOf(record).toLowerCase().includes(filter.text.toLowerCase()))
  );
}

/** Since when it is in its state; records of older versions do not say it themselves. */
export const sinceOf = ({ sinceMs, finishedAtMs, startedAtMs, createdAtMs }: JobRecord): number =>
  sinceMs ?? finishedAtMs ?? startedAtMs ?? createdAtMs;

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

/** Before every listing key; and so many records a search looks at for one page. */
export const [listingStart, mostListed] = ['0', 500];

/** So much of a payload is shown of a dead letter. */
export const shownPayloadBytes = 16 * 1024;

/** Beyond these the oldest letters go; older ones than the retention go, too. The bytes are their payloads'. */
export const mostDeadLetters = 10_000;
export const mostDeadLetterBytes = 64 * 1024 * 1024;
/** Callbacks that were given up and are kept. */
export const mostDeadCallbacks = 10_000;

export interface DeadLetter {
  id: string;
  queue: QueueName;
  /** What is shown of the producer's string; base64 where it is no UTF-8. */
  payload: string;
  encoding?: 'base64';
  /** Of the whole string. */
  payloadBytes: number;
  reason: string;
  jobId?: string;
  attempts: number;
  atMs: number;
}

/** What of a dead letter's payload is shown. */
export function shownPayload(bytes: Buffer, wholeBytes: number) {
  const head = bytes.subarray(0, shownPayloadBytes);
  // A character may have been cut in two.
  const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(head, {
    stream: head.length < wholeBytes,
  });
  const isText = Buffer.from(text).equals(head.subarray(0, Buffer.byteLength(text)));
  return {
    ...(isText ? { payload: text } : { payload: head.toString('base64'), encoding: 'base64' as const }),
    payloadBytes: wholeBytes,
  };
}

export type PassOverLog = { warn(fields: object, message: string): void } | undefined;

/** Names what cannot be read and is passed over: one such record must not take all others along. Each once. */
export function createPassOver(place: string, log: PassOverLog) {
  const named = new Set<string>();
  return (key: string, error: unknown): void => {
    if (named.has(key)) return;
    if (named.size >= 1000) named.clear();
    named.add(key);
    log?.warn(
      { event: 'unreadable', key, err: error },
      `${key} in ${place} cannot be read and is passed over`,
    );
  };
}

export const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);
/** An object that has these, of these types. */
export const has = (
  value: unknown,
  types: Record<string, 'string' | 'number'>,
): value is Record<string, unknown> =>
  isObject(value) && Object.entries(types).every(([name, type]) => typeof value[name] === type);
export const isTexts = (value: unknown) =>
  Array.isArray(value) && value.every((each) => typeof each === 'string');
export const isProgress = (value: unknown) =>
  has(value, { stage: 'string', step: 'number', steps: 'number', fraction: 'number' }) &&
  (value['etaSeconds'] === null || typeof value['etaSeconds'] === 'number');
export const statuses: ReadonlySet<string> = new Set(['queued', 'processing', ...terminalStatuses]);

export const isCallback = (value: unknown) =>
  has(value, { id: 'string', jobId: 'string', event: 'string', url: 'string', body: 'string' }) &&
  typeof value['createdAtMs'] === 'number';

/** A whole record, as one is written in JSON. */
export const isRecord = (value: unknown) =>
  has(value, { id: 'string', type: 'string', userId: 'string', attempts: 'number', createdAtMs: 'number' }) &&
  isQueueName(value['queue']) &&
  statuses.has(String(value['status'])) &&
  isProgress(value['progress']) &&
  isTexts(value['assets']) &&
  isObject(value['metadata']) &&
  ['startedAtMs', 'finishedAtMs'].every((name) => ['number', 'undefined'].includes(typeof value[name]));
