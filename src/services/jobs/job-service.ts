import { createHash, randomUUID } from 'node:crypto';
import type { Logger } from 'pino';
import { errors } from '../../lib/errors.js';
import type { TraceCarrier } from '../../lib/trace.js';
import { catalogue, everyPath } from '../catalogue.js';
import type { BuildCallback } from '../outbound/index.js';
import type { FinishedJobFacts } from '../outbound/usage-reporter.js';
import {
  type CancelResult,
  type JobFilter,
  type JobRecord,
  type JobStore,
  terminalStatuses,
} from '../queue/job-store.js';
import { saysNothing } from '../queue/read-payload.js';
import { matches } from '../queue/records.js';
import type { Storage } from '../storage/storage.js';
import type { Capabilities } from './capabilities.js';
import { cancelledFailure } from './failure.js';
import {
  createAllEvents,
  type AllJobsEvent,
  type EventLog,
  type FollowAllOptions,
  type JobEvent,
} from './event-log.js';
import { createRecordWatch, followJob, stateOf } from './job-events.js';
import { endWithoutResult, factsWithoutResult, requestOf } from './metadata.js';
import type { Outlook, Waiting } from './outlook.js';
import { deniedRule, type PayloadCheck, type ValidJob } from './payload.js';
import { removeStored } from './job-files.js';

/** A full queue empties at the pace of jobs, not of requests. */
const fullQueueRetrySeconds = 30;
const renewalMs = 5000;

export interface JobServiceOptions {
  store: JobStore;
  /** What attempts at a job left there goes when it is cancelled between two of them. */
  storage: Pick<Storage, 'remove' | 'renewed'>;
  log: Logger;
  capabilities: Pick<Capabilities, 'whyNot'>;
  outlook: Pick<Outlook, 'waitingOf'>;
  events: EventLog;
  validate: (payload: unknown) => PayloadCheck;
  callback: BuildCallback;
  version: string;
  /** Jobs that may wait on one queue; 0 for no limit. */
  maxWaiting: number;
  onFinished: (facts: FinishedJobFacts) => void;
  /** Whose its pictures are, as far as their names tell. @throws AppError */
  judgeReferences: (job: ValidJob) => Promise<void>;
}

/** Jobs as the routes see them: submit, look up, list, cancel, follow. */
export function createJobService({
  store,
  storage,
  log,
  capabilities,
  outlook,
  validate,
  events,
  callback,
  version,
  maxWaiting,
  judgeReferences,
  onFinished,
}: JobServiceOptions): JobService {
  const records = createRecordWatch(store);

  /** Signed addresses run out before the job is forgotten. One that cannot be renewed is named as it was. */
  async function addressesOf({ assets, metadata, finishedAtMs, id }: JobRecord): Promise<string[]> {
    const paths = metadata['asset_paths'];
    if (
      assets.length === 0 ||
      storage.renewed === undefined ||
      finishedAtMs === undefined ||
      !Array.isArray(paths)
    )
      return assets;
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

  async function cancel(writtenId: string): Promise<CancelResult> {
    const id = writtenId.toLowerCase();
    const result = await store.cancel(id, (record, read) => {
      const { attempts, writtenId: told } = record;
      const job = { jobId: id, ...(told === undefined ? {} : { writtenId: told }) };
      return endWithoutResult('cancelled', {
        ...job,
        failure: cancelledFailure,
        attempts,
        version,
        callback,
        request: read === null ? {} : requestOf(read),
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
  }

  const queued = (jobs: readonly JobRecord[]) =>
    jobs.filter(({ status }) => status === 'queued').map(({ id }) => id);

  /** With its place in line and why it stands there. */
  async function seen(record: JobRecord, positions: ReadonlyMap<string, number>): Promise<SeenJob> {
    if (record.status !== 'queued') return { record, queuePosition: null, waiting: null };
    const queuePosition = positions.get(record.id) ?? null;
    return { record, queuePosition, waiting: await outlook.waitingOf(record, queuePosition) };
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
      await judgeReferences(job);
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
      return seen({ ...found, assets: await addressesOf(found) }, await store.positions(queued([found])));
    },

    find: (id) => records.read(id.toLowerCase()),

    async list(filter, limit, cursor) {
      const page = await store.list(filter, limit, cursor);
      const positions = await store.positions(queued(page.jobs));
      return { ...page, jobs: await Promise.all(page.jobs.map((record) => seen(record, positions))) };
    },

    async cancelMany(filter, limit, asked) {
      const found: JobRecord[] = [];
      let cursor: string | undefined;
      for (const job of await Promise.all(asked?.map((id) => store.get(id.toLowerCase())) ?? []))
        if (job !== null && matches(job, filter)) found.push(job);
      if (asked === undefined)
        do {
          const page = await store.list(filter, limit - found.length, cursor);
          found.push(...page.jobs.filter(({ cancelRequested }) => !cancelRequested));
          cursor = page.nextCursor;
        } while (cursor !== undefined && found.length < limit);
      const more = cursor !== undefined || found.length > limit;
      // Side by side: what they need to be found is asked for all of them.
      const results = await Promise.all(found.slice(0, limit).map(({ id }) => cancel(id)));
      const count = (of: CancelResult['outcome']) => results.filter(({ outcome }) => outcome === of).length;
      return { cancelled: count('cancelled'), stopping: count('requested'), more };
    },

    async removeAssets(writtenId) {
      const id = writtenId.toLowerCase();
      const found = await store.get(id);
      if (found === null) return null;
      if (!terminalStatuses.has(found.status))
        throw errors.conflict(`Job ${writtenId} is not over: cancel it, and its files go with it`);
      const { type, userId } = found;
      // Whatever any attempt has stored, whoever knows of it.
      await storage.remove(catalogue[type].bucket, everyPath({ id, user_id: userId }, type));
      const record = await store.forgetAssets(id);
      return record === null ? null : seen(record, new Map());
    },

    cancel,

    events: (id, afterId, signal) =>
      followJob(id.toLowerCase(), afterId, signal, { store, records, log: events }),

    allEvents: createAllEvents({ store, events }),
  };
}

export interface JobService {
  /** Validates and queues. @throws AppError `invalidParameters` with details, `conflict`, `queueFull` */
  submit(
    payload: unknown,
    options: { idempotencyKey?: string; trace?: TraceCarrier },
  ): Promise<{ record: JobRecord; queuePosition: number; created: boolean }>;
  get(id: string): Promise<SeenJob | null>;
  /** Its record alone; however many ask for it at a time, it is read once. */
  find(id: string): Promise<JobRecord | null>;
  list(filter: JobFilter, limit: number, cursor?: string): Promise<{ jobs: SeenJob[]; nextCursor?: string }>;
  cancel(id: string): Promise<CancelResult>;
  /** Cancels those that wait or run, of `ids` or of all; `more`: the limit was reached before the last. */
  cancelMany(
    filter: JobFilter & { status: 'queued' | 'processing' },
    limit: number,
    ids?: readonly string[],
  ): Promise<{ cancelled: number; stopping: number; more: boolean }>;
  /** Removes what a job that is over has stored. Null for an unknown one; throws `errors.conflict` for a living one. */
  removeAssets(id: string): Promise<SeenJob | null>;
  /** Of one job in order: what is still kept after `afterId` (ids grow), then live ones until it is over. */
  events(id: string, afterId: number, signal: AbortSignal): AsyncIterable<JobEvent>;
  /** Of all jobs, from the moment this has resolved on, until the signal aborts. */
  allEvents(options: FollowAllOptions, signal: AbortSignal): Promise<AsyncIterable<AllJobsEvent>>;
}

/** A job as it is shown. */
export interface SeenJob {
  record: JobRecord;
  /** Null where it does not wait. */
  queuePosition: number | null;
  waiting: Waiting | null;
}
