import { createHash, randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { errors } from '../../lib/errors.js';
import type { TraceCarrier } from '../../lib/trace.js';
import { catalogue } from '../catalogue.js';
import type { BuildCallback } from '../outbound/index.js';
import type { FinishedJobFacts } from '../outbound/usage-reporter.js';
import type {
  CancelResult,
  JobFilter,
  JobPage,
  JobProgress,
  JobRecord,
  JobStatus,
  JobStore,
} from '../queue/job-store.js';
import { saysNothing } from '../queue/read-payload.js';
import type { Storage } from '../storage/storage.js';
import type { Capabilities } from './capabilities.js';
import { cancelledFailure } from './failure.js';
import { createRecordWatch, type EventLog, followJob, stateOf } from './job-events.js';
import { endWithoutResult, factsWithoutResult } from './metadata.js';
import { deniedRule, type PayloadCheck } from './payload.js';
import { removeStored } from './upload.js';

/** A full queue empties at the pace of jobs, not of requests. */
const fullQueueRetrySeconds = 30;
const renewalMs = 5000;

export interface JobServiceOptions {
  store: JobStore;
  /** What attempts at a job left there goes when it is cancelled between two of them. */
  storage: Pick<Storage, 'remove' | 'renewed'>;
  log: Logger;
  capabilities: Pick<Capabilities, 'whyNot'>;
  events: EventLog;
  validate: (payload: unknown) => PayloadCheck;
  callback: BuildCallback;
  version: string;
  /** Jobs that may wait on one queue; 0 for no limit. */
  maxWaiting: number;
  onFinished: (facts: FinishedJobFacts) => void;
}

/** Jobs as the routes see them: submit, look up, list, cancel, follow. */
export function createJobService({
  store,
  storage,
  log,
  capabilities,
  validate,
  events,
  callback,
  version,
  maxWaiting,
  onFinished,
}: JobServiceOptions): JobService {
  const watch = createRecordWatch(store);

  /** Signed addresses run out before the job is forgotten. One that cannot be renewed is named as it was. */
  async function addressesOf({ assets, metadata, finishedAtMs, id }: JobRecord): Promise<string[]> {
    const paths = metadata['asset_paths'];
    if (storage.renewed === undefined || finishedAtMs === undefined || !Array.isArray(paths)) return assets;
    const places = (paths as string[]).map((path): [string, string] => {
      const end = path.indexOf('/');
      return [path.slice(0, end), path.slice(end + 1)];
    });
    return storage.renewed(places, finishedAtMs, AbortSignal.timeout(renewalMs)).then(
      (renewed) => renewed ?? assets,
      (err: unknown) => {
        log.warn({ err, job_id: id }, 'addresses of assets could not be renewed');
        return assets;
      },
    );
  }

  return {
    async submit(payload, { idempotencyKey, trace = {} }) {
      const withId =
        typeof payload === 'object' &&
        payload !== null &&
        !Array.isArray(payload) &&
        (!Object.hasOwn(payload, 'id') || saysNothing('id', (payload as { id?: unknown }).id))
          ? { ...payload, id: randomUUID() }
          : payload;
      const checked = validate(withId);
      if (!checked.ok && checked.details.some(({ rule }) => rule === deniedRule))
        throw errors.promptRejected.with({ details: checked.details });
      if (!checked.ok) throw errors.invalidParameters.with({ details: checked.details }, checked.summary);
      const { job } = checked;
      const { queue } = catalogue[job.type];
      // A shared queue may have other workers for this type; with our own, nobody would ever take the job.
      const why = store.kind === 'embedded' ? capabilities.whyNot(job.type) : null;
      if (why !== null) throw errors.unavailable(`${job.type} is not possible here: ${why}`);
      const result = await store.submit({
        queue,
        payload: JSON.stringify({ ...trace, ...(withId as object) }),
        job: { id: job.id, type: job.type, userId: job.user_id },
        maxWaiting,
        ...(idempotencyKey === undefined
          ? {}
          : {
              idempotencyKey,
              fingerprint: createHash('sha256').update(JSON.stringify(payload)).digest('hex'),
            }),
      });
      if (result.outcome === 'key_reused')
        throw errors.conflict('This Idempotency-Key was used before with another payload');
      if (result.outcome === 'conflict')
        throw errors.conflict(`Job ${job.id} exists already and asks for something else`);
      if (result.outcome === 'full')
        throw errors.queueFull.with({ retryAfterSeconds: fullQueueRetrySeconds }, queue);
      const created = result.outcome === 'created';
      if (created) events.publish(job.id, { event: 'state', data: stateOf(result.record) });
      return { record: result.record, queuePosition: result.queuePosition, created };
    },

    async get(writtenId) {
      const id = writtenId.toLowerCase();
      const found = await store.get(id);
      if (found === null) return null;
      const record = { ...found, assets: await addressesOf(found) };
      return { record, queuePosition: record.status === 'queued' ? await store.position(id) : null };
    },

    list: (filter, limit, cursor) => store.list(filter, limit, cursor),

    async cancel(writtenId) {
      const id = writtenId.toLowerCase();
      const result = await store.cancel(id, (record) => {
        const { attempts, writtenId: told } = record;
        const job = { jobId: id, ...(told === undefined ? {} : { writtenId: told }) };
        return endWithoutResult('cancelled', {
          ...job,
          failure: cancelledFailure,
          attempts,
          version,
          callback,
        });
      });
      if (result.outcome === 'cancelled') {
        const { record } = result;
        events.publish(id, { event: 'state', data: stateOf(record) });
        const { type, userId, startedAtMs } = record;
        onFinished(factsWithoutResult({ id, type, userId }, 'cancelled', cancelledFailure.type));
        // An attempt may have stored some of its files before it failed or was handed back. Whoever cancels
        // need not wait for that.
        if (startedAtMs !== undefined) void removeStored({ id, type, userId }, { storage, log });
      }
      return result;
    },

    events: (id, afterId, signal) =>
      followJob(id.toLowerCase(), afterId, signal, { store, watch, log: events }),
  };
}

export interface JobService {
  /**
   * Validates and queues. Throws `errors.invalidParameters` with details, `errors.conflict`,
   * `errors.queueFull`.
   */
  submit(
    payload: unknown,
    options: { idempotencyKey?: string; trace?: TraceCarrier },
  ): Promise<{ record: JobRecord; queuePosition: number; created: boolean }>;
  get(id: string): Promise<{ record: JobRecord; queuePosition: number | null } | null>;
  list(filter: JobFilter, limit: number, cursor?: string): Promise<JobPage>;
  cancel(id: string): Promise<CancelResult>;
  /**
   * Events of a job in order: those after `afterId` that are still kept, then live ones until the job is
   * terminal. Ids grow; a reader that reconnects with the last id misses nothing that is still kept.
   */
  events(id: string, afterId: number, signal: AbortSignal): AsyncIterable<JobEvent>;
}

export type JobEvent =
  | {
      id: number;
      event: 'state';
      data: { status: JobStatus; attempts: number; assets: string[]; error_message?: string };
    }
  | { id: number; event: 'progress'; data: JobProgress }
  | { id: number; event: 'preview'; data: { step: number; content_type: string; base64: string } };
