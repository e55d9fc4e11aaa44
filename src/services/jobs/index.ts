import path from 'node:path';
import type { Logger } from 'pino';
import type { Config } from '../../config.js';
import type { RoomWatch } from '../../lib/data-folder.js';
import { createSharedLock } from '../../lib/semaphore.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import { catalogue } from '../catalogue.js';
import type { Engines } from '../engines/engines.js';
import type { DenyList } from '../enhancement/deny-list.js';
import type { EnhancementService } from '../enhancement/enhancement-types.js';
import type { Models } from '../models/index.js';
import type { BuildCallback } from '../outbound/index.js';
import type { FinishedJobFacts } from '../outbound/usage-reporter.js';
import type { JobStore } from '../queue/job-store.js';
import { isTerminal } from '../queue/records.js';
import { createReferenceFetcher } from '../references/fetcher.js';
import { createReferenceUploads, placeOf } from '../references/uploads.js';
import type { Storage } from '../storage/storage.js';
import { createCapabilities, type Fitness } from './capabilities.js';

import { createJobEnhancer } from './enhance-job.js';
import { NotPossibleHere } from './failure.js';
import { createEventLog } from './event-log.js';
import { createJobService, type JobService } from './job-service.js';
import { createOutlook } from './outlook.js';
import { createPayloadValidator, type ValidJob } from './payload.js';
import type { GenerationPlan } from './plan.js';
import { createProgressEstimator } from './progress-estimator.js';
import { defaultLimits, type RunnerContext, type RunnerMetrics } from './runner-context.js';
import { createRunner } from './runner.js';
import { planSdxlJob } from './sdxl-plan.js';
import { planWanJob } from './wan-plan.js';
import { referencesOf } from './wan-references.js';
import { createWorkFolders } from './job-files.js';

export { createFitness } from './capabilities.js';
export { createThumbnails } from './job-files.js';

/**
 * Shared queue: a job is fetched ahead only when the running one is about to end; somebody else may be free.
 */
const prepareAheadSeconds = 60;
/** With CALLBACK_PROGRESS: at most one progress callback per job in this time. */
const progressCallbackMs = 5000;
const queues = [
  { queue: 'sdxl_queue', engine: 'sdxl' },
  { queue: 'wan_queue', engine: 'wan' },
] as const;

export interface JobsOptions {
  workerId: string;
  version: string;
  store: JobStore;
  storage: Storage;
  engines: Engines;
  models: Models;
  denyList: DenyList;
  enhancement: EnhancementService;
  callback: BuildCallback;
  fitness: Fitness;
  room: RoomWatch;
  metrics: RunnerMetrics;
  gpu: Pick<GpuMonitor, 'read'>;
  /** Of a job that has ended, whoever ended it. */
  onFinished: (facts: FinishedJobFacts) => void;
}

/** The way of a job: what comes in is checked, planned and run, one runner a queue. */
export function createJobs(config: Config, log: Logger, options: JobsOptions) {
  const { store, storage, engines, models, enhancement, callback, version, metrics, onFinished } = options;
  const events = createEventLog();
  const estimator = createProgressEstimator({ file: path.join(config.dataDir, 'estimates.json') });
  const workFolders = createWorkFolders(path.join(config.dataDir, 'work'));
  const payloads = createPayloadValidator({ denyList: options.denyList });
  const capabilities = createCapabilities({ ...options, videoEncoder: models.videoEncoder });
  const own = { supabaseUrl: config.supabaseUrl, publicUrl: config.publicUrl, localPort: config.port };
  const references = createReferenceFetcher({
    storage,
    policy: { allowedHosts: config.referenceAllowedHosts },
    own,
    assetOf: async (id, index, userId) => {
      const { metadata = {}, userId: owner } = (await store.get(id)) ?? {};
      const asset: unknown = (metadata['asset_paths'] as unknown[] | undefined)?.[index];
      return typeof asset === 'string' && owner?.toLowerCase() === userId.toLowerCase()
        ? placeOf(asset)
        : null;
    },
    isComing: async (id, userId) => {
      const record = await store.get(id);
      return record !== null && !isTerminal(record) && record.userId.toLowerCase() === userId.toLowerCase();
    },
  });
  const uploads = createReferenceUploads({
    storage,
    pictures: references,
    folder: path.join(config.dataDir, 'work'),
    seconds: config.referenceRetentionSeconds,
    own,
    room: options.room,
    log,
  });

  function plan(job: ValidJob): GenerationPlan {
    const why = capabilities.whyNot(job.type);
    if (why !== null) throw new NotPossibleHere(why);
    const { engine, enhanced } = catalogue[job.type];
    if (enhanced) enhancement.preload();
    const { imageFormat: format, previewEverySteps, videoCrf: crf } = config;
    const common = { engines, version, format, previewEverySteps };
    return engine === 'sdxl'
      ? planSdxlJob(job, { ...common, ...models.sdxl, compel: config.compel })
      : planWanJob(job, { ...common, ...models.wan, crf });
  }

  const outlook = createOutlook({ ...options, capabilities, estimator });
  const context: RunnerContext = {
    ...options,
    events,
    estimator,
    workFolders,
    capabilities,
    log,
    plan,
    running: createSharedLock(),
    validate: (read, queue) => payloads.validateRead(read, queue),
    fetchReference: async (...request) => (await references.fetch(...request)).path,
    enhance: createJobEnhancer({ enhancement, log }),
    readGpu: () => options.gpu.read(),
    limits: {
      ...defaultLimits,
      leaseMs: config.leaseSeconds * 1000,
      maxAttempts: config.maxAttempts,
      progressCallbackMs: config.callbackProgress ? progressCallbackMs : 0,
    },
  };
  const runners = queues
    .filter(({ engine }) => engines.has(engine))
    .map((each) =>
      createRunner({
        ...each,
        context,
        prepareAheadSeconds: store.kind === 'embedded' ? Infinity : prepareAheadSeconds,
      }),
    );
  const jobs = createJobService({
    store,
    storage,
    log,
    capabilities,
    outlook,
    events,
    callback,
    version,
    maxWaiting: config.maxWaitingJobs,
    onFinished: (facts) => {
      metrics.jobFinished(facts);
      onFinished(facts);
    },
    validate: (payload) => payloads.validatePayload(payload),
    judgeReferences: async (job) => {
      for (const named of referencesOf(job)) await references.judge({ ...named, userId: job.user_id });
    },
  });

  /** What is taken in must have room here. */
  const submit: JobService['submit'] = async (...request) => {
    await options.room.require();
    return jobs.submit(...request);
  };

  return {
    jobs: { ...jobs, submit },
    uploads,
    runners,
    capabilities,
    outlook,
    /** Jobs in the pipeline of this process. */
    active: () => runners.reduce((sum, runner) => sum + runner.inFlight().length, 0),
    async open(): Promise<void> {
      await workFolders.clean();
      await estimator.load();
    },
    async close(): Promise<void> {
      await estimator.saved();
      await workFolders.removeAll();
    },
  };
}
