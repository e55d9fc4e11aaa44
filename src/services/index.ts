import { randomBytes } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import path from 'node:path';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Footprint } from './card/admission-policy.js';
import { createDeviceMemory } from './card/device-memory.js';
import { expectedFootprint } from './card/expected-footprint.js';
import { createGpuMonitor } from './card/gpu-monitor.js';
import { createNvidiaSmiProbe, createSysfsProbe } from './card/gpu-probes.js';
import type { GpuProbe } from './card/gpu-reading.js';
import { catalogue, type JobType } from './catalogue.js';
import { engineEnvironment } from './engines/child-environment.js';
import { createEngineService, type Engines } from './engines/engines.js';
import type { SupervisorOptions } from './engines/supervisor.js';
import { readDenyList } from './enhancement/deny-list.js';
import { createEnhancement } from './enhancement/enhancement.js';
import { createRedisSessions } from './enhancement/redis-sessions.js';
import { createMemorySessions } from './enhancement/sessions.js';
import { readTemplates } from './enhancement/templates.js';
import { createJobEnhancer } from './jobs/enhance-job.js';
import { NotPossibleHere } from './jobs/failure.js';
import { createEventLog } from './jobs/job-events.js';
import { createJobService } from './jobs/job-service.js';
import { createPayloadValidator } from './jobs/payload.js';
import { createPossibleElsewhere } from './jobs/possible-here.js';
import { createProgressEstimator } from './jobs/progress-estimator.js';
import { defaultLimits, type FinishedJobFacts, type RunnerParts } from './jobs/runner-parts.js';
import { createRunner } from './jobs/runner.js';
import { defaultScheduler, planSdxlJob } from './jobs/sdxl-plan.js';
import { defaultFlowScheduler, planWanJob } from './jobs/wan-plan.js';
import { createWorkFolders } from './jobs/work-folders.js';
import { findModelFolders, type ModelFolder } from './models/model-folders.js';
import { readModelWishes, readWanWishes } from './models/model-settings.js';
import { createNegativePrompts, readWanNegative } from './models/negative-prompts.js';
import { createVideoEncoder, noVideoEncoder } from './models/video-encoder.js';
import { engineEntryFile, modelsDirOf, openStorage, openStore } from './open-parts.js';
import { createServiceChecks } from './operations/checks.js';
import { createMaintenance } from './operations/maintenance.js';
import { createServiceMetrics } from './operations/metrics.js';
import { createStatusMonitor } from './operations/status-monitor.js';
import { createCallbackBuilder } from './outbound/callback-payload.js';
import { createCallbackRelay } from './outbound/callback-relay.js';
import { createCallbackSender } from './outbound/sender.js';
import { createUrlRegistration } from './outbound/url-registration.js';
import { createUsageReporter } from './outbound/usage-reporter.js';
import { createReferenceFetcher } from './references/fetcher.js';
import type { Services } from './types.js';
import { callbackUrlOf, type Config, redisUrlOf } from '../config.js';
import type { EngineKind } from '../inference/engine-protocol.js';
import { projectRoot } from '../lib/project.js';

export interface ServiceOptions {
  /** Where metrics register. */
  registry: Registry;
  /** The service's environment; engines get the part of it that native runtimes read. */
  environment: NodeJS.ProcessEnv;
  /** Entry of the engine processes, when it is not the service's own. */
  engineEntry?: string;
  /** Settings of single engines in place of the defaults (timeouts, restart delays). */
  engines?: Partial<Record<EngineKind, Partial<SupervisorOptions>>>;
  /** Where GPU readings come from, in place of this machine's GPU. */
  gpuProbes?: GpuProbe[];
  /** What engines are taken to need, in place of what their model folders suggest. */
  footprints?: Partial<Record<EngineKind, Footprint>>;
}

/**
 * Shared queue: a job is fetched ahead only when the running one is about to end; somebody else may be free.
 */
const prepareAheadSeconds = 60;
/** With CALLBACK_PROGRESS: at most one progress callback per job in this time. */
const progressCallbackMs = 5000;
/** Kept of the shutdown's grace for delivering callbacks. */
const flushMs = 2000;

/**
 * Builds everything behind the routes from the configuration: store, storage, callbacks, engines, runners.
 * Nothing runs before `start()`. Throws when a part cannot be opened (the queue's folder belongs to another
 * process, …).
 */
export async function createServices(config: Config, log: Logger, options: ServiceOptions) {
  const version = await packageVersion();
  const promptsDir = config.promptsDir ?? path.join(projectRoot(), 'prompts');
  const templates = await readTemplates(path.join(promptsDir, 'enhancement'));
  const denyList = await readDenyList(config.denyListFile ?? path.join(promptsDir, 'deny-list.txt'));
  const workerId = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;
  const store = await openStore(config, redisUrlOf(config), log);
  const { storage, assets } = openStorage(config);
  const configuredBytes = config.gpuMemoryGigabytes * 2 ** 30;
  const gpu = createGpuMonitor({
    probes: options.gpuProbes ?? [createNvidiaSmiProbe(), createSysfsProbe()],
    ...(configuredBytes > 0 ? { configuredTotalBytes: configuredBytes } : {}),
  });

  const videoEncoder = createVideoEncoder({ command: config.ffmpeg });
  await videoEncoder.find();
  const folders = await findModelFolders(modelsDirOf(config));
  const engineEntry = options.engineEntry ?? engineEntryFile();
  const engineParts = engineOptions(config, log, folders, engineEntry, options);
  const memory = createDeviceMemory({
    gpu,
    log,
    expected: await expectedFootprints(engineParts.engines, folders, options),
    ...(configuredBytes > 0 ? { configuredBytes } : {}),
    evict: (kind, why) => engines.release(kind, { force: false, why }),
    statuses: () => engines.statuses(),
  });
  const engines: Engines = createEngineService({ ...engineParts, memory });
  const model = folders.sdxl.dir === null ? {} : await readModelWishes(folders.sdxl.dir);
  const scheduler =
    config.sdxlScheduler === 'auto' ? (model.scheduler ?? defaultScheduler) : config.sdxlScheduler;
  const negativePrompts = await createNegativePrompts({
    folder: path.join(promptsDir, 'negative'),
    enabled: config.autoNegative !== 'off',
    model:
      config.autoNegative === 'on' && model.autoNegative === false ? { ...model, autoNegative: true } : model,
  });
  const wan = folders.wan.dir === null ? {} : await readWanWishes(folders.wan.dir);
  const wanOptions = {
    scheduler: config.wanScheduler === 'auto' ? (wan.scheduler ?? defaultFlowScheduler) : config.wanScheduler,
    ...(wan.shift === undefined ? {} : { shift: wan.shift }),
    negativePrompt: await readWanNegative({
      folder: path.join(promptsDir, 'negative'),
      enabled: config.autoNegative !== 'off',
      wish: config.autoNegative === 'on' && wan.autoNegative === false ? true : wan.autoNegative,
    }),
  };

  const events = createEventLog();
  const estimator = createProgressEstimator({ file: path.join(config.dataDir, 'estimates.json') });
  const workFolders = createWorkFolders(path.join(config.dataDir, 'work'));
  const callback = createCallbackBuilder({ url: callbackUrlOf(config) });
  const sender = createCallbackSender({
    secret: config.callbackSecret,
    serviceKey: config.supabaseServiceKey,
  });
  const relay = createCallbackRelay({ outbox: store.outbox, sender, workerId, log });
  const metrics = createServiceMetrics({ registry: options.registry, store, engines });
  const payloads = createPayloadValidator({ denyList });
  const enhancement = createEnhancement({
    engines,
    templates,
    denyList,
    sessions: openSessions(config, log),
    log,
    limits: {
      deadlineMs: config.enhanceTimeoutSeconds * 1000,
      maxAttempts: config.enhanceMaxAttempts,
      places: config.enhanceConcurrency,
      maxWaiting: config.enhanceMaxWaiting,
      idleMs: config.enhanceIdleSeconds * 1000,
      keepWords: config.enhanceKeepWordsPercent / 100,
    },
  });
  const references = createReferenceFetcher({
    storage,
    policy: { allowedHosts: config.referenceAllowedHosts },
  });
  const usage = openUsage(config, workerId, log);
  const obstacle = (type: JobType) =>
    catalogue[type].output === 'video' && !videoEncoder.available() ? noVideoEncoder : null;
  const activeJobs = () => runners.reduce((sum, runner) => sum + runner.inFlight().length, 0);
  const monitor = createStatusMonitor({
    engines,
    store,
    gpu,
    memory,
    activeJobs,
    dataDir: config.dataDir,
    maxWaiting: config.maxWaitingJobs,
  });
  const onFinished = (facts: FinishedJobFacts) => {
    relay.wake();
    monitor.jobFinished(facts);
    usage?.report(facts);
  };

  const parts: RunnerParts = {
    workerId,
    store,
    storage,
    engines,
    events,
    estimator,
    workFolders,
    callback,
    metrics,
    log,
    version,
    onFinished,
    validate: (payload, queue) => payloads.validateText(payload, queue),
    plan(job) {
      const { engine, enhanced } = catalogue[job.type];
      const why = obstacle(job.type);
      if (why !== null) throw new NotPossibleHere(why);
      if (enhanced) enhancement.preload();
      const common = {
        engines,
        version,
        format: config.imageFormat,
        previewEverySteps: config.previewEverySteps,
      };
      return engine === 'sdxl'
        ? planSdxlJob(job, { ...common, negativePrompts, scheduler })
        : planWanJob(job, { ...common, ...wanOptions, crf: config.videoCrf });
    },
    possibleElsewhere: createPossibleElsewhere({ store, workerId, obstacle }),
    fetchReference: async (reference, folder, signal) =>
      (await references.fetch(reference, folder, signal)).path,
    enhance: createJobEnhancer({ enhancement, log }),
    readGpu: () => gpu.read(),
    limits: {
      ...defaultLimits,
      leaseMs: config.leaseSeconds * 1000,
      maxAttempts: config.maxAttempts,
      progressCallbackMs: config.callbackProgress ? progressCallbackMs : 0,
    },
  };
  const runners = (
    [
      ['sdxl_queue', 'sdxl'],
      ['wan_queue', 'wan'],
    ] as const
  )
    .filter(([, engine]) => engines.has(engine))
    .map(([queue, engine]) =>
      createRunner({
        queue,
        engine,
        parts,
        prepareAheadSeconds: store.kind === 'embedded' ? Infinity : prepareAheadSeconds,
      }),
    );
  const jobs = createJobService({
    store,
    storage,
    log,
    engines,
    obstacle,
    events,
    callback,
    version,
    maxWaiting: config.maxWaitingJobs,
    onFinished: (facts) => {
      metrics.jobFinished(facts);
      onFinished(facts);
    },
    validate: (payload) => payloads.validatePayload(payload),
  });
  const validation = createServiceChecks({
    dataDir: config.dataDir,
    gpu,
    folders,
    engineEntry,
    videoEncoder,
    store,
    storage,
    supabaseUrl: config.supabaseUrl,
    engines,
  });
  const registration = createUrlRegistration({
    podId: config.podId,
    supabaseUrl: config.supabaseUrl,
    serviceKey: config.supabaseServiceKey,
    log,
    ...(config.publicUrl === undefined ? {} : { publicUrl: config.publicUrl }),
    ...(config.publicUrlFile === undefined ? {} : { urlFile: config.publicUrlFile }),
  });
  const maintenance = createMaintenance({
    store,
    engines,
    runners,
    workerId,
    obstacle,
    leaseMs: config.leaseSeconds * 1000,
    log,
  });

  let stopped: Promise<void> | undefined;
  async function stop(): Promise<void> {
    const graceMs = config.shutdownGraceSeconds * 1000;
    await Promise.all([
      registration.stop(),
      ...runners.map((runner) => runner.stop(Math.max(0, graceMs - flushMs))),
    ]);
    memory.stop();
    await engines.stop({ force: true });
    await Promise.all([relay.stop(Math.min(flushMs, graceMs)), usage?.stop(Math.min(flushMs, graceMs))]);
    await maintenance.stop();
    await enhancement.stop();
    await estimator.saved();
    await workFolders.removeAll();
    await store.close();
  }

  const services: Services = {
    jobs,
    engines,
    store,
    storage,
    gpu,
    memory,
    validation,
    videoEncoder,
    enhancement,
    activeJobs,
    monitor,
    ...(assets === undefined ? {} : { assets }),
    async start() {
      await workFolders.clean();
      await estimator.load();
      await memory.start();
      engines.start();
      relay.start();
      maintenance.start();
      for (const runner of runners) runner.start();
      // Without a pod nobody asked for it: a local service has nothing to say about that.
      if (config.podId !== undefined || config.supabaseUrl !== undefined) registration.start();
      log.info(
        {
          worker_id: workerId,
          queue: store.kind,
          storage: storage.kind,
          engines: runners.map((runner) => runner.engine),
        },
        'taking jobs',
      );
    },
    stop: () => (stopped ??= stop()),
  };
  return {
    ...services,
    engines,
    workerId,
    version,
    schedulers: { sdxl: scheduler, wan: wanOptions.scheduler },
    relay,
    folders,
  };
}
export type AllServices = Awaited<ReturnType<typeof createServices>>;

/** Conversations live where the queue does: what any replica may go on with, or this process alone. */
function openSessions(config: Config, log: Logger) {
  const url = redisUrlOf(config);
  const limits = {
    ttlMs: config.enhanceSessionSeconds * 1000,
    maxTurns: config.enhanceSessionTurns,
    maxSessions: config.enhanceMaxSessions,
  };
  return url === undefined ? createMemorySessions(limits) : createRedisSessions({ url, log, ...limits });
}

/** The service key goes to Supabase only: the metrics endpoint may be anybody's. */
function openUsage(
  { metricsUrl: url, supabaseUrl, supabaseServiceKey, callbackSecret: secret }: Config,
  workerId: string,
  log: Logger,
) {
  if (url === undefined) return undefined;
  const serviceKey =
    supabaseUrl !== undefined && new URL(url).origin === new URL(supabaseUrl).origin
      ? supabaseServiceKey
      : undefined;
  return createUsageReporter({ url, sender: createCallbackSender({ secret, serviceKey }), workerId, log });
}

function engineOptions(
  config: Config,
  log: Logger,
  folders: Record<EngineKind, ModelFolder>,
  entry: string,
  { environment, engines: overrides = {} }: ServiceOptions,
): Parameters<typeof createEngineService>[0] {
  const engines: SupervisorOptions[] = [];
  const absent: Partial<Record<EngineKind, string>> = {};
  if (folders.sdxl.dir === null) absent.sdxl = folders.sdxl.reason;
  else {
    engines.push({
      kind: 'sdxl',
      entry,
      env: engineEnvironment(environment),
      log: log.child({ worker: 'sdxl' }),
      load: {
        modelDir: folders.sdxl.dir,
        device: config.ortDevice,
        threads: config.ortThreads,
        options: { longPrompts: config.sdxlLongPrompts },
      },
      ...overrides.sdxl,
    });
  }
  if (folders.wan.dir === null) absent.wan = folders.wan.reason;
  else {
    engines.push({
      kind: 'wan',
      entry,
      env: engineEnvironment(environment),
      log: log.child({ worker: 'wan' }),
      load: {
        modelDir: folders.wan.dir,
        device: config.ortDevice,
        threads: config.ortThreads,
        ...(config.ffmpeg === undefined ? {} : { options: { ffmpeg: config.ffmpeg } }),
      },
      ...overrides.wan,
    });
  }
  if (folders.qwen.dir === null) absent.qwen = folders.qwen.reason;
  else {
    const { dir, completionDir } = folders.qwen;
    engines.push({
      kind: 'qwen',
      entry,
      env: engineEnvironment(environment),
      log: log.child({ worker: 'qwen' }),
      lazy: true,
      load: {
        modelDir: dir,
        device: config.ortDevice,
        threads: config.enhanceThreads,
        options: {
          sequences: config.enhanceConcurrency,
          contextTokens: config.enhanceContextTokens,
          ...(completionDir === undefined ? {} : { completionDir }),
        },
      },
      ...overrides.qwen,
    });
  }
  const recycling = {
    recycleAfterJobs: config.engineRecycleJobs,
    recycleGrowthBytes: config.engineRecycleGrowthGigabytes * 2 ** 30,
  };
  return { engines: engines.map((each) => ({ ...recycling, ...each })), absent };
}

async function expectedFootprints(
  engines: readonly SupervisorOptions[],
  folders: Record<EngineKind, ModelFolder>,
  { footprints = {} }: ServiceOptions,
): Promise<Partial<Record<EngineKind, Footprint>>> {
  return Object.fromEntries(
    await Promise.all(
      engines.map(
        async ({ kind }) =>
          [kind, footprints[kind] ?? (await expectedFootprint(kind, folders[kind]))] as const,
      ),
    ),
  );
}

async function packageVersion(): Promise<string> {
  const { version } = JSON.parse(await readFile(path.join(projectRoot(), 'package.json'), 'utf8')) as {
    version: string;
  };
  return version;
}
