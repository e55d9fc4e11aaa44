import type { Redis } from 'ioredis';
import type { Endpoints, SeenCallback } from './endpoints.js';
import type { PlannedJob } from './plan.js';
import { type JobRecord, type JobStore, terminalStatuses } from '../../src/services/queue/job-store.js';

export interface Verdict {
  /** What is not as promised; empty when all is well. */
  faults: string[];
  numbers: Record<string, number>;
}

const isTerminal = (callback: SeenCallback) => callback.status !== 'processing';

/** Compares what was pushed with what came of it: records, callbacks, objects, and what is left in Redis. */
export async function judge({
  jobs,
  store,
  redis,
  endpoints,
}: {
  jobs: PlannedJob[];
  store: JobStore;
  redis: Redis;
  endpoints: Endpoints;
}): Promise<Verdict> {
  const faults: string[] = [];
  const withId = jobs.filter(({ id }) => id !== '');
  const records = new Map<string, JobRecord>();
  for (const { id } of withId) {
    const record = await store.get(id);
    if (record !== null) records.set(id, record);
  }
  const byJob = new Map<string, SeenCallback[]>();
  for (const callback of endpoints.callbacks)
    byJob.set(callback.jobId, [...(byJob.get(callback.jobId) ?? []), callback]);

  let lost = 0;
  let doubleEnds = 0;
  let afterTheEnd = 0;
  let repeated = 0;
  for (const job of withId) {
    const record = records.get(job.id);
    const seen = byJob.get(job.id) ?? [];
    const ends = seen.filter((callback) => isTerminal(callback) && callback.kept);
    if (record === undefined || !terminalStatuses.has(record.status) || ends.length === 0) {
      lost += 1;
      faults.push(
        `${job.id} (${job.name}) is lost: ${record?.status ?? 'no record'}, ${ends.length} terminal callbacks kept`,
      );
      continue;
    }
    repeated += ends.length - 1;
    const expected = record.status === 'completed' ? 'completed' : 'failed';
    if (
      new Set(ends.map(({ webhookId }) => webhookId)).size !== 1 ||
      ends.some(({ status }) => status !== expected)
    ) {
      doubleEnds += 1;
      faults.push(
        `${job.id} ended more than once, or otherwise than its record (${record.status}): ${ends.map(({ webhookId }) => webhookId).join(', ')}`,
      );
    }
    // The first the receiver saw of the end, kept or not: from then on only the same may come.
    const end = seen.find(isTerminal);
    const later = seen.filter(
      ({ index, webhookId }) => end !== undefined && index > end.index && webhookId !== end.webhookId,
    );
    if (later.length > 0) {
      afterTheEnd += later.length;
      faults.push(
        `${job.id} was spoken of after its end: ${later.map(({ webhookId }) => webhookId).join(', ')}`,
      );
    }
    if (!job.outcomes.includes(record.status))
      faults.push(`${job.id} (${job.name}) ended as ${record.status}: ${record.errorMessage}`);
    faults.push(...assetFaults(job, record, endpoints));
  }
  for (const jobId of byJob.keys())
    if (!withId.some(({ id }) => id === jobId)) faults.push(`a callback names ${jobId}, which nobody pushed`);

  const letters = await store.deadLetters(undefined, 10_000);
  const toKeep = jobs.flatMap(({ name, letter }) =>
    letter === null ? [] : [{ name, bytes: Buffer.from(letter) }],
  );
  for (const { name, bytes } of toKeep)
    if (!letters.some((letter) => isBeginningOf(letter, bytes))) faults.push(`a payload is lost: ${name}`);
  const left = (await redis.keys('*')).filter(
    (key) => /:(entry|payload|lane|callback|leases|delayed|callbacks):?/.test(key) || key.endsWith('_queue'),
  );
  if (left.length > 0) faults.push(`left behind in Redis: ${left.slice(0, 10).join(', ')}`);

  const attempts = [...records.values()].map((record) => record.attempts);
  const count = (status: string) => [...records.values()].filter((record) => record.status === status).length;
  return {
    faults,
    numbers: {
      jobs: jobs.length,
      lost,
      'with more than one end': doubleEnds,
      'callbacks after the end': afterTheEnd,
      completed: count('completed'),
      failed: count('failed'),
      cancelled: count('cancelled'),
      'payloads that are no jobs, kept': toKeep.length,
      'hostile payloads and references': jobs.filter(({ kind }) => kind.startsWith('hostile')).length,
      assets: [...endpoints.objects.keys()].filter((key) => !key.includes('/worker-check/')).length,
      'uploads repeated': [...endpoints.objects.values()].reduce((sum, { puts }) => sum + puts - 1, 0),
      'attempts beyond the first': attempts.reduce((sum, n) => sum + Math.max(0, n - 1), 0),
      'most attempts of one job': Math.max(0, ...attempts),
      'callbacks seen': endpoints.callbacks.length,
      'terminal callbacks repeated': repeated,
    },
  };
}

type Letter = Awaited<ReturnType<JobStore['deadLetters']>>[number];

/** Of what is too large only the beginning is kept. */
function isBeginningOf({ payload, encoding, payloadBytes }: Letter, bytes: Buffer): boolean {
  const shown = Buffer.from(payload, encoding);
  return (
    payloadBytes === bytes.length &&
    shown.length >= Math.min(bytes.length, 1000) &&
    shown.equals(bytes.subarray(0, shown.length))
  );
}

/** A completed job has its pictures in storage, each once, and its callback names them. */
function assetFaults(job: PlannedJob, record: JobRecord, { objects }: Endpoints): string[] {
  if (record.status !== 'completed') return [];
  const stored = [...objects.keys()].filter((key) => key.includes(`/${job.id}/`));
  const faults = [];
  if (stored.length !== job.images || record.assets.length !== job.images)
    faults.push(
      `${job.id} has ${stored.length} objects and names ${record.assets.length}, not ${job.images}`,
    );
  for (const asset of record.assets)
    if (!stored.some((key) => key.endsWith(asset) || asset.includes(key)))
      faults.push(`${job.id} names ${asset}, which is not stored`);
  for (const key of stored) if ((objects.get(key)?.bytes ?? 0) < 100) faults.push(`${key} is no picture`);
  return faults;
}
