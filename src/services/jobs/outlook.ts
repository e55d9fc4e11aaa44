import { sharedFor } from '../../lib/wait.js';
import { catalogue, jobTypes, jobTypesOf, queueNames, type JobType, type QueueName } from '../catalogue.js';
import { describeState, type EnginesView, isUp } from '../engines/engine-status.js';
import type { JobRecord, JobStore } from '../queue/job-store.js';
import type { Hold, QueueDepth } from '../queue/store-parts.js';
import type { Capabilities, Fitness } from './capabilities.js';
import type { ProgressEstimator } from './progress-estimator.js';

export interface OutlookOptions {
  workerId: string;
  store: Pick<JobStore, 'holds' | 'instances' | 'depth'>;
  engines: Pick<EnginesView, 'has' | 'status'>;
  capabilities: Pick<Capabilities, 'possible' | 'whyNot'>;
  fitness: Pick<Fitness, 'reasons'>;
  estimator: Pick<ProgressEstimator, 'typeSeconds'>;
  now?: () => number;
}

/** What is known of the queues is asked once in this time, however many want to know. */
const goodForMs = 1000;
const engineOf = { sdxl_queue: 'sdxl', wan_queue: 'wan' } as const;

const noDepth: QueueDepth = { waiting: 0, delayed: 0, running: 0, oldestAgeSeconds: null };

export interface Waiting {
  code: 'next' | 'behind' | 'retry' | 'queue_paused' | 'no_worker';
  message: string;
  ahead: number | null;
  startsInSeconds: number | null;
  retryAtMs?: number;
  /** Until it is expected to be over. */
  etaSeconds: number | null;
}

export interface QueueOutlook extends QueueDepth {
  paused: Hold | null;
  /** Instances that take from it. */
  takers: number;
  /** Why nobody does. */
  trouble: string | null;
  /** What one of its jobs takes, as far as anybody has measured it. */
  jobSeconds: number | null;
}

/** Why jobs wait, and for how long probably: what operators hold, and what each instance says of itself. */
export function createOutlook({
  workerId,
  store,
  engines,
  capabilities,
  fitness,
  estimator,
  now = Date.now,
}: OutlookOptions) {
  /** Null when jobs of the queue are taken here. */
  function whyTakesNone(queue: QueueName): string | null {
    const kind = engineOf[queue];
    if (!engines.has(kind)) {
      const [type] = jobTypesOf(queue);
      return type === undefined ? null : capabilities.whyNot(type);
    }
    const status = engines.status(kind);
    if (!isUp(status))
      return `the ${describeState(status)}${status.reason === null ? '' : `: ${status.reason}`}`;
    return fitness.reasons()[0] ?? null;
  }

  /** What this instance tells the others. */
  const announced = () => ({
    takes: Object.fromEntries(queueNames.map((queue) => [queue, whyTakesNone(queue)])),
    job_seconds: Object.fromEntries(
      jobTypes.flatMap((type) => {
        const seconds = estimator.typeSeconds(type);
        return seconds === undefined ? [] : [[type, seconds]];
      }),
    ),
  });

  async function look(): Promise<Record<QueueName, QueueOutlook>> {
    const [holds, instances, ...depths] = await Promise.all([
      store.holds.list(),
      store.instances(),
      ...queueNames.map((queue) => store.depth(queue)),
    ]);
    const others = instances.filter((instance) => instance.workerId !== workerId);
    const everybody = [
      { id: workerId, ...announced() },
      ...others.map(({ workerId: id, status }) => ({ id, ...toldBy(status) })),
    ];
    const outlookOf = (queue: QueueName, depth: QueueDepth): QueueOutlook => {
      const reasons = everybody.map(({ id, takes }) =>
        holds.workers.has(id) ? `${id} is drained` : (takes[queue] ?? null),
      );
      const seconds = everybody.flatMap(({ job_seconds: told }) =>
        jobTypesOf(queue).flatMap((type) => told[type] ?? []),
      );
      const takers = reasons.filter((reason) => reason === null).length;
      return {
        ...depth,
        paused: holds.queues[queue] ?? null,
        takers,
        trouble: takers > 0 ? null : [...new Set(reasons)].slice(0, 3).join('; '),
        jobSeconds: seconds.length === 0 ? null : seconds.reduce((sum, one) => sum + one, 0) / seconds.length,
      };
    };
    return Object.fromEntries(
      queueNames.map((queue, index) => [queue, outlookOf(queue, depths[index] ?? noDepth)]),
    ) as Record<QueueName, QueueOutlook>;
  }

  let shared = sharedFor(goodForMs, look);
  /** As of a moment ago. */
  const queues = () => shared();

  return {
    announced,
    queues,
    /** What was held or released just now counts at once. */
    lookAgain(): void {
      shared = sharedFor(goodForMs, look);
    },
    /** Why a queued job waits. */
    async waitingOf(record: JobRecord, ahead: number | null): Promise<Waiting> {
      const { [record.queue]: queue } = await queues();
      const takesSeconds = estimator.typeSeconds(record.type) ?? queue.jobSeconds;
      const retryInMs = Math.max(0, (record.retryAtMs ?? 0) - now());
      const isStuck = queue.paused !== null || queue.takers === 0;
      const perJob = queue.jobSeconds === null ? null : queue.jobSeconds / Math.max(1, queue.takers);
      // Those that run are half done, on average.
      const before = (ahead ?? 0) + (queue.running > 0 ? 0.5 : 0);
      const startsInSeconds =
        isStuck || perJob === null ? null : Math.round(Math.max(retryInMs / 1000, before * perJob));
      return {
        ...whyOf(record, ahead, queue, retryInMs),
        ahead,
        startsInSeconds,
        etaSeconds:
          startsInSeconds === null || takesSeconds === null
            ? null
            : Math.round(startsInSeconds + takesSeconds),
      };
    },
  };
}
export type Outlook = ReturnType<typeof createOutlook>;

/** By what comes first: no retry is made of a queue that is paused. */
function whyOf(
  { queue, retryAtMs, attempts }: JobRecord,
  ahead: number | null,
  { paused, trouble }: QueueOutlook,
  retryInMs: number,
): Pick<Waiting, 'code' | 'message' | 'retryAtMs'> {
  if (paused !== null)
    return {
      code: 'queue_paused',
      message: `${queue} is paused${paused.reason === undefined ? '' : `: ${paused.reason}`}`,
    };
  if (trouble !== null) return { code: 'no_worker', message: `nobody takes jobs of ${queue}: ${trouble}` };
  if (retryInMs > 0 && retryAtMs !== undefined)
    return {
      code: 'retry',
      retryAtMs,
      message: `attempt ${attempts} failed; the next one is due in ${Math.ceil(retryInMs / 1000)} s`,
    };
  if (ahead !== null && ahead > 0)
    return { code: 'behind', message: `behind ${ahead === 1 ? '1 other' : `${ahead} others`}` };
  return { code: 'next', message: 'next in line' };
}

/** Of another instance; one of an older version says only what it can do. */
function toldBy(status: Record<string, unknown>): {
  takes: Partial<Record<QueueName, string | null>>;
  job_seconds: Partial<Record<JobType, number>>;
} {
  const { takes, job_seconds: seconds, job_types: types } = status;
  const can = Array.isArray(types) ? (types as JobType[]) : [];
  const entries = (value: unknown) =>
    Object.entries(typeof value === 'object' && value !== null ? value : {});
  const cannot = (queue: QueueName) =>
    can.some((type) => catalogue[type]?.queue === queue) ? null : `it cannot do jobs of ${queue}`;
  const told = new Map<string, unknown>(entries(takes));
  return {
    takes: Object.fromEntries(
      queueNames.map((queue) => {
        const reason = told.has(queue) ? told.get(queue) : cannot(queue);
        return [queue, typeof reason === 'string' ? reason : null];
      }),
    ),
    job_seconds: Object.fromEntries(entries(seconds).filter(([, each]) => typeof each === 'number')),
  };
}
