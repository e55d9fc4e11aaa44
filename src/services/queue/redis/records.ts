import { catalogue, isJobType, queueNames, type JobType, type QueueName } from '../../catalogue.js';
import { createRecord, isTerminal } from '../records.js';
import type { FinishedJob, JobProgress, JobRecord, JobStatus } from '../job-store.js';
import type { Callback, OutboxEntry } from '../outbox.js';
import type { Argument } from './scripts.js';

/** The hash of a job as a record; null when there is none. */
export function parseRecord(id: string, hash: Record<string, string>): JobRecord | null {
  const { type, user = '', created, status } = hash;
  if (type === undefined || created === undefined || status === undefined) return null;
  // A job that a runner began is of a known type, which has its queue; others bring their queue.
  const queue = (hash['queue'] ?? (isJobType(type) ? catalogue[type].queue : queueNames[0])) as QueueName;
  const record: JobRecord = {
    ...createRecord({ id, type: type as JobType, userId: user }, queue, Number(created)),
    status: status as JobStatus,
    attempts: Number(hash['attempts'] ?? 0),
    cancelRequested: hash['cancel'] === '1',
  };
  // An empty field is an absent one.
  const { assets, metadata, progress, error, started, finished, worker, lastError } = hash;
  if (assets) record.assets = JSON.parse(assets) as string[];
  if (metadata) record.metadata = JSON.parse(metadata) as Record<string, unknown>;
  if (progress) record.progress = JSON.parse(progress) as JobProgress;
  if (error) record.errorMessage = error;
  if (started) record.startedAtMs = Number(started);
  if (finished) record.finishedAtMs = Number(finished);
  if (worker) record.workerId = worker;
  if (hash['written']) record.writtenId = hash['written'];
  if (lastError) record.lastError = lastError;
  if (isTerminal(record)) record.progress = { ...record.progress, etaSeconds: null };
  if (record.status === 'completed')
    record.progress = { ...record.progress, stage: 'done', step: record.progress.steps, fraction: 1 };
  return record;
}

/** What a payload says of its job, as `job_at` in jobs.lua reads it. */
export const jobArguments = (job: {
  id: string;
  type: string;
  userId: string;
  identity: string;
  writtenId?: string;
}): Argument[] => [job.id, job.type, job.userId, job.identity, job.writtenId ?? job.id];

/** The three arguments of a callback, as `callback_at` in callbacks.lua reads them. */
export function callbackArguments(callback: Callback | undefined): Argument[] {
  return callback === undefined ? ['', '', ''] : [callback.id, callback.event, JSON.stringify(callback)];
}

export function parseCallback(
  entry: string,
  attempts: string,
  nextAttemptAtMs: string,
  error: string,
): OutboxEntry {
  return {
    ...(JSON.parse(entry) as Callback),
    nextAttemptAtMs: Number(nextAttemptAtMs),
    attempts: Number(attempts),
    ...(error === '' ? {} : { lastError: error }),
  };
}

/** JSON; empty for what is empty. */
const textOf = (value: object) => (Object.keys(value).length === 0 ? '' : JSON.stringify(value));

/** The terminal state, as `finish_job` in jobs.lua reads it. */
export function finishArguments(result: FinishedJob | undefined, retentionMs: number): Argument[] {
  if (result === undefined) return ['', '', '', '', 0, ...callbackArguments(undefined)];
  return [
    result.status,
    textOf(result.assets),
    result.errorMessage ?? '',
    textOf(result.metadata),
    retentionMs,
    ...callbackArguments(result.callback),
  ];
}
