import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import path from 'node:path';
import type { Logger } from 'pino';
import type { Registry } from 'prom-client';
import type { Config } from '../config.js';
import type { EngineKind } from '../inference/engine-protocol.js';
import { createRoomWatch } from '../lib/data-folder.js';
import type { Trouble } from '../lib/errors.js';
import { ownVersion } from '../lib/project.js';
import { within } from '../lib/wait.js';
import type { Footprint } from './card/admission-policy.js';
import { expectedFootprints, createCard } from './card/index.js';
import type { GpuProbe } from './card/gpu-monitor.js';
import { engineOptions, type SupervisorOptions } from './engines/engine-options.js';
import type { EnginesView } from './engines/engine-status.js';
import { createEngines, type Engines } from './engines/engines.js';
import type { EnhancementService } from './enhancement/enhancement-types.js';
import { createPromptEnhancement, openDenyList } from './enhancement/index.js';
import { createFitness, createJobs, createThumbnails } from './jobs/index.js';
import { openModels, pocketTrouble } from './models/index.js';
import { createOperations } from './operations/index.js';
import type { StatusMonitor } from './operations/status-monitor.js';
import { createServiceMetrics } from './operations/metrics.js';
import { createOutbound } from './outbound/index.js';
import type { FinishedJobFacts } from './outbound/usage-reporter.js';
import { createJobStore } from './queue/index.js';
import { createStorage, reportStorage } from './storage/index.js';

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

/** What is wrong, in one sentence. */
const sentenceOf = (trouble: Trouble | null) => trouble && `${trouble.what}: ${trouble.cause}`;

/** Kept of the shutdown's grace for delivering callbacks. */
const flushMs = 2000;
/** For everything else that has to end: a neighbour that does not answer holds nobody up. */
const endingMs = 2000;
/** To ask the storage how it is set up, before the first job. */
const environmentMs = 10_000;

/**
 * Builds everything behind the routes from the configuration. Nothing runs before `start()`.
 * @throws when a part cannot be opened (the queue's folder belongs to another process, …)
 */
export async function createServices(config: Config, log: Logger, options: ServiceOptions) {
  const version = ownVersion();
  const workerId = `${hostname()}-${process.pid}-${randomBytes(3).toString('hex')}`;

  const store = await createJobStore(config, log);
  const { storage: ownStorage, assets } = createStorage(config);
  const models = await openModels(config);
  const { folders, videoEncoder } = models;
  const denyList = await openDenyList(config);

  const { environment, engineEntry: entry, engines: overrides } = options;
  const setup = engineOptions(config, log, { folders, environment, entry, overrides });
  const kinds = setup.engines.map(({ kind }) => kind);
  const { gpu, memory } = createCard(config, log, {
    environment,
    probes: options.gpuProbes,
    expected: await expectedFootprints(kinds, folders, options.footprints),
    evict: (kind, why) => engines.release(kind, { force: false, why }),
    statuses: () => engines.statuses(),
  });
  const engines: Engines = createEngines({ ...setup, memory });

  const outbound = createOutbound(config, log, { store, workerId });
  const { relay, usage, registration, callback } = outbound;
  const room = createRoomWatch(config.dataDir);
  // Whatever else is well: with these models nobody counts on this worker.
  const pocket = pocketTrouble(config);
  const refusal = () => sentenceOf(pocket ?? relay.refusal());
  const fitness = createFitness({ refusal, room: room.trouble, log });
  const storage = fitness.watch(ownStorage);
  const enhancement = await createPromptEnhancement(config, log, { engines, denyList });
  const metrics = createServiceMetrics({ registry: options.registry, store, engines, gpu });
  const { jobs, runners, capabilities, outlook, ...work } = createJobs(config, log, {
    workerId,
    version,
    store,
    storage,
    engines,
    models,
    denyList,
    enhancement,
    callback,
    fitness,
    room,
    metrics,
    gpu,
    onFinished: (facts: FinishedJobFacts) => {
      relay.wake();
      monitor.jobFinished(facts);
      usage?.report(facts);
    },
  });
  const { monitor, troubles, validation, maintenance } = createOperations(config, log, {
    workerId,
    store,
    storage,
    engines,
    gpu,
    memory,
    models,
    runners,
    capabilities,
    fitness,
    outlook,
    room,
    outbound,
    activeJobs: work.active,
    uploads: work.uploads,
  });

  const thumbnails = createThumbnails({ folder: path.join(config.dataDir, 'thumbnails'), storage, assets });

  async function start(): Promise<void> {
    await work.open();
    await memory.start();
    if (stopped !== undefined) return;
    engines.start();
    relay.start();
    maintenance.start();
    troubles.start();
    // Before the first job is taken: what cannot work is said, and known to readiness.
    await within(environmentMs, Promise.all([reportStorage(config, storage, log), troubles.look()]));
    if (stopped !== undefined) return;
    for (const runner of runners) runner.start();
    if (pocket !== null) {
      log.error({ event: pocket.code, cure: pocket.cure }, `No job is taken: ${sentenceOf(pocket)}`);
      return;
    }
    const names = runners.map((runner) => runner.engine);
    const wrong = troubles.list().map(({ code }) => code);
    log.info(
      { worker_id: workerId, queue: store.kind, storage: storage.kind, engines: names, troubles: wrong },
      'taking jobs',
    );
  }

  /** Takes no more jobs from this moment on; those still being prepared go back. */
  function stopTaking(): void {
    for (const runner of runners) runner.stopTaking();
  }

  let stopped: Promise<void> | undefined;
  /** Finishes or hands back what runs within the grace, sends what is left to say, ends the engines. */
  async function stop(): Promise<void> {
    stopTaking();
    const graceMs = config.shutdownGraceSeconds * 1000;
    const phase = async (what: string, ms: number, ending: Promise<unknown>) => {
      const ended = await within(ms, ending).catch((err: unknown) =>
        log.warn({ err, what }, 'not stopped in order'),
      );
      if (ended === false) log.warn({ what, ms }, 'left behind at the stop');
    };
    const drained = Promise.all(runners.map((runner) => runner.stop(Math.max(0, graceMs - flushMs))));
    await phase('jobs', graceMs + endingMs, drained);
    memory.stop();
    troubles.stop();
    await phase('engines', endingMs, engines.stop({ force: true }));
    const flushed = Math.min(flushMs, graceMs);
    await phase('callbacks', flushed + endingMs, Promise.all([relay.stop(flushed), usage?.stop(flushed)]));
    const rest = [maintenance.stop(), enhancement.stop(), work.close()];
    await phase('maintenance', endingMs, Promise.allSettled(rest));
    await phase('queue', endingMs, store.close());
  }

  return {
    jobs,
    outlook,
    capabilities,
    fitness,
    engines,
    store,
    storage,
    /** Files of the folder storage by URL path; absent when storage is elsewhere. */
    assets,
    thumbnails,
    /** Pictures of pages, kept for a while. */
    references: work.uploads,
    gpu,
    memory,
    validation,
    troubles,
    videoEncoder,
    enhancement,
    monitor,
    registration,
    /** Jobs this process works on, from fetching references to upload. */
    activeJobs: work.active,
    start,
    stopTaking,
    stop: () => (stopped ??= stop()),
    // Facts for whoever builds the app, and parts for tests.
    workerId,
    version,
    schedulers: { sdxl: models.sdxl.scheduler, wan: models.wan.scheduler },
    /** What small models know, by engine. */
    worlds: { sdxl: models.sdxl.world, wan: models.wan.world, qwen: undefined },
    relay,
    folders,
  };
}
export type AllServices = Awaited<ReturnType<typeof createServices>>;

/** What routes and plugins see of them; tests swap single parts. */
export interface Services extends Pick<
  AllServices,
  | 'jobs'
  | 'outlook'
  | 'capabilities'
  | 'store'
  | 'storage'
  | 'assets'
  | 'thumbnails'
  | 'references'
  | 'validation'
  | 'worlds'
  | 'activeJobs'
  | 'start'
  | 'stopTaking'
  | 'stop'
> {
  fitness: Pick<AllServices['fitness'], 'reasons'>;
  engines: EnginesView;
  gpu: Pick<AllServices['gpu'], 'read'>;
  memory: Pick<AllServices['memory'], 'view' | 'capacity' | 'deviceBytes'>;
  troubles: Pick<AllServices['troubles'], 'health' | 'look' | 'readiness'>;
  monitor: StatusMonitor;
  registration: Pick<AllServices['registration'], 'start' | 'stop'>;
  enhancement: EnhancementService;
}
