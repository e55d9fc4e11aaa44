import { randomUUID } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import type { Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { createSharedLock } from '../../src/lib/semaphore.js';
import { createEngines } from '../../src/services/engines/engines.js';
import type { SupervisorOptions } from '../../src/services/engines/engine-options.js';
import { createFitness } from '../../src/services/jobs/index.js';
import { createEventLog } from '../../src/services/jobs/event-log.js';
import { createJobService } from '../../src/services/jobs/job-service.js';
import type { PayloadCheck, ValidJob } from '../../src/services/jobs/payload.js';
import { createOutlook } from '../../src/services/jobs/outlook.js';
import { createProgressEstimator } from '../../src/services/jobs/progress-estimator.js';
import { createRunner, type RunnerOptions } from '../../src/services/jobs/runner.js';
import {
  defaultLimits,
  type RunnerContext,
  type RunnerLimits,
} from '../../src/services/jobs/runner-context.js';
import type { BuildCallback } from '../../src/services/outbound/index.js';
import type { FinishedJobFacts } from '../../src/services/outbound/usage-reporter.js';
import { planSdxlJob } from '../../src/services/jobs/sdxl-plan.js';
import { createWorkFolders } from '../../src/services/jobs/job-files.js';
import { createNegativePrompts } from '../../src/services/models/negative-prompts.js';
import { createEmbeddedStore } from '../../src/services/queue/embedded/store.js';
import type { JobRecord, JobStore } from '../../src/services/queue/job-store.js';
import type { Storage } from '../../src/services/storage/storage.js';
import { silentLog, testEngine, until } from '../engines/support.js';

/** The runner's tests are about running: of a payload's rules they only need one. */
function check(payload: unknown): PayloadCheck {
  const job = payload as ValidJob | null;
  if (typeof job === 'object' && job !== null && typeof job.prompt === 'string' && job.prompt !== '')
    return { ok: true, job };
  return {
    ok: false,
    id: job?.id ?? null,
    known: {},
    summary: 'prompt must not be empty',
    details: [{ field: 'prompt', rule: 'minLength', message: 'must not be empty' }],
  };
}

/** Storage in a folder of the test's own, with faults to order. */
export function createTestStorage(root: string) {
  const faults: Array<() => Promise<void> | void> = [];
  const stored = new Map<string, number>();
  const storage: Storage = {
    kind: 'folder',
    async put(bucket, file, { localPath }, signal) {
      await faults.shift()?.();
      signal.throwIfAborted();
      const target = path.join(root, bucket, file);
      await mkdir(path.dirname(target), { recursive: true });
      await copyFile(localPath, target);
      stored.set(`${bucket}/${file}`, (stored.get(`${bucket}/${file}`) ?? 0) + 1);
    },
    addressOf: async (bucket, file) => `${bucket}/${file}`,
    list: () => Promise.resolve([]),
    read: () => Promise.reject(new Error('not used')),
    async remove(bucket, paths) {
      for (const each of paths) {
        stored.delete(`${bucket}/${each}`);
        await rm(path.join(root, bucket, each), { force: true });
      }
    },
    ping: () => Promise.resolve(),
  };
  return { storage, faults, stored };
}

export interface HarnessOptions {
  dir: string;
  engine?: Partial<SupervisorOptions> & { onLoad?: string };
  limits?: Partial<RunnerLimits>;
  runner?: Partial<RunnerOptions>;
  context?: Partial<RunnerContext>;
  store?: JobStore;
}

/** A runner over the real embedded store, a real child process as its engine, and a folder as its storage. */
export async function createHarness({
  dir,
  engine = {},
  limits = {},
  runner: runnerOptions = {},
  context: extra = {},
  store: givenStore,
}: HarnessOptions) {
  const store = givenStore ?? (await createEmbeddedStore({ folder: path.join(dir, 'queue') }));
  const { storage: testStorage, faults, stored } = createTestStorage(path.join(dir, 'storage'));
  const fitness = createFitness({ refusal: () => null, log: silentLog, probeMs: 50, lookMs: 10 });
  const storage = fitness.watch(testStorage);
  const engines = createEngines({ engines: [testEngine({ restartBaseMs: 20, ...engine })] });
  const events = createEventLog();
  const workFolders = createWorkFolders(path.join(dir, 'work'));
  await workFolders.clean();
  const finished: FinishedJobFacts[] = [];
  const negativePrompts = await createNegativePrompts({
    folder: path.join(projectRoot(), 'prompts/negative'),
    enabled: true,
    model: {},
  });
  const callback: BuildCallback = (event, content) => ({
    id: `${content.jobId}:${event}`,
    jobId: content.jobId,
    event,
    url: 'http://callback.test/',
    createdAtMs: Date.now(),
    body: JSON.stringify({
      job_id: content.jobId,
      status: event,
      assets: content.assets,
      ...(content.errorMessage === undefined ? {} : { error_message: content.errorMessage }),
      metadata: content.metadata,
    }),
  });
  const context: RunnerContext = {
    workerId: 'test',
    store,
    storage,
    engines,
    events,
    workFolders,
    running: createSharedLock(),
    callback,
    log: silentLog,
    version: '0.0.0',
    estimator: createProgressEstimator(),
    validate: ({ value }) => check(value),
    plan: (job) => planSdxlJob(job, { engines, negativePrompts, version: '0.0.0', previewEverySteps: 0 }),
    capabilities: { leftToOthers: () => Promise.resolve([]) },
    fitness,
    fetchReference: async (reference, folder) => {
      const file = path.join(folder, `${reference.role}.png`);
      await writeFile(file, 'x');
      return file;
    },
    enhance: ({ prompt, type }) =>
      Promise.resolve({ type, prompt, success: false, seconds: 0, source: 'original' }),
    readGpu: () => Promise.resolve(null),
    onFinished: (facts) => finished.push(facts),
    metrics: {
      jobBegun: () => {},
      jobFinished: () => {},
      attemptFailed: () => {},
      leaseLost: () => {},
      invalidPayload: () => {},
    },
    limits: {
      ...defaultLimits,
      leaseMs: 30_000,
      maxAttempts: 3,
      retryBackoff: { baseMs: 30, maxMs: 100, jitter: 0 },
      uploadBackoff: { baseMs: 10, maxMs: 50, jitter: 0 },
      progressIntervalMs: 20,
      ...limits,
    },
    ...extra,
  };
  const runner = createRunner({
    queue: 'sdxl_queue',
    engine: 'sdxl',
    context,
    prepareAheadSeconds: Infinity,
    pollMs: 500,
    ...runnerOptions,
  });
  const jobs = createJobService({
    store,
    storage,
    log: silentLog,
    capabilities: { whyNot: () => null },
    outlook: createOutlook({ ...context, fitness, capabilities: { whyNot: () => null, possible: () => [] } }),
    judgeReferences: () => Promise.resolve(),
    events,
    validate: check,
    callback,
    version: '0.0.0',
    maxWaiting: 0,
    onFinished: (facts) => finished.push(facts),
  });
  engines.start();

  const userId = randomUUID();
  async function submit(prompt: string, fields: Record<string, unknown> = {}): Promise<string> {
    const { record } = await jobs.submit({ type: 'sdxl_image_fast', prompt, user_id: userId, ...fields }, {});
    return record.id;
  }
  async function ended(id: string, timeoutMs = 20_000): Promise<JobRecord> {
    await until(
      `the end of ${id}`,
      async () => ['completed', 'failed', 'cancelled'].includes((await store.get(id))?.status ?? ''),
      timeoutMs,
    );
    return (await store.get(id)) as JobRecord;
  }
  async function callbacks(): Promise<
    Array<Record<string, unknown> & { status: string; job_id: string; metadata: Record<string, unknown> }>
  > {
    return (await store.outbox.claimDue('test', 1000, 1)).map((entry) => JSON.parse(entry.body) as never);
  }
  return {
    dir,
    store,
    storage,
    faults,
    stored,
    engines,
    events,
    runner,
    jobs,
    context,
    finished,
    submit,
    ended,
    callbacks,
    userId,
    workDir: path.join(dir, 'work'),
    async stop(graceMs = 0): Promise<void> {
      await runner.stop(graceMs);
      await engines.stop({ force: true });
      await store.close();
    },
  };
}

/** A harness in a folder of the test's own that ends with it. */
export async function harness(t: Test, options: Omit<HarnessOptions, 'dir'> = {}) {
  const made = await createHarness({ dir: t.testdir(), ...options });
  t.teardown(() => made.stop());
  return made;
}

export const emptyWork = (dir: string) =>
  until('empty work folders', () =>
    readdirSync(dir).every((own) => readdirSync(path.join(dir, own)).length === 0),
  );
