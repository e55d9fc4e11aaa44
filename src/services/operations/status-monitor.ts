import type { Trouble } from '../../lib/errors.js';
import { statfs } from 'node:fs/promises';
import type { Health } from '../engines/engine-status.js';
import { createTrends, warningsOf } from './status-warnings.js';
import type { ListedTrouble } from './troubles.js';
import { mebibyte, rounded } from '../../lib/units.js';
import type { DeviceMemory } from '../card/device-memory.js';
import type { GpuMonitor } from '../card/gpu-monitor.js';
import { queueNames } from '../catalogue.js';
import type { Engines } from '../engines/engines.js';
import type { Fitness } from '../jobs/capabilities.js';
import type { FinishedJobFacts } from '../outbound/usage-reporter.js';
import type { JobStore } from '../queue/job-store.js';
import type { QueueDepth } from '../queue/store-parts.js';

interface StatusMonitorOptions {
  engines: Pick<Engines, 'has' | 'statuses'>;
  troubles: { health(): Health; toTell(): ListedTrouble[] };
  store: Pick<JobStore, 'depth' | 'outbox'>;
  gpu: Pick<GpuMonitor, 'read'>;
  memory: Pick<DeviceMemory, 'view' | 'capacity'>;
  fitness: Pick<Fitness, 'reasons'>;
  activeJobs: () => number;
  dataDir: string;
  maxWaiting: number;
  now?: () => number;
}

interface StatusReport {
  /** Ready to be logged. */
  facts: Record<string, unknown>;
  /** That begin now, or go on since an hour. */
  troubles: ListedTrouble[];
}

/** One point of the last hour. */
export interface StatusSample {
  atMs: number;
  waiting: number;
  running: number;
  /** Since the sample before; failed ones included. */
  finished: number;
  failed: number;
  serviceBytes: number;
  gpuBytes: number | null;
  gpuUtilization: number | null;
}

export interface StatusMonitor {
  report(): Promise<StatusReport>;
  /** Of the last reports, oldest first. */
  history(): readonly StatusSample[];
}

const mostSamples = 60;

/** Looks at everything at once, remembers the last hour, and says what is about to run out. */
export function createStatusMonitor({
  engines,
  troubles,
  store,
  gpu,
  memory,
  fitness,
  activeJobs,
  dataDir,
  maxWaiting,
  now = () => performance.now(),
}: StatusMonitorOptions) {
  const trends = createTrends();
  let limits: Trouble[] = [];
  let [ended, failed] = [0, 0];
  const samples: StatusSample[] = [];
  let told = { ended, failed };

  async function report(): Promise<StatusReport> {
    const [reading, depths, callbacks, disk, capacity] = await Promise.all([
      gpu.read().catch(() => null),
      readDepths(),
      store.outbox.pending().catch(() => null),
      statfs(dataDir).catch(() => null),
      memory.capacity().catch(() => null),
    ]);
    const { rss, heapUsed } = process.memoryUsage();
    const statuses = engines.statuses().filter(({ kind }) => engines.has(kind));
    const diskFreeBytes = disk === null ? null : disk.bavail * disk.bsize;
    const trend = trends.add({
      atMs: now(),
      ended,
      failed,
      bytes: {
        service: rss,
        ...Object.fromEntries(
          statuses.flatMap(({ kind, memory: held }) =>
            held === null ? [] : [[kind, held.rssBytes] as const],
          ),
        ),
        ...(disk === null ? {} : { disk: (disk.blocks - disk.bavail) * disk.bsize }),
      },
    });
    limits = warningsOf(
      {
        serviceBytes: rss,
        serviceLimitBytes: memoryLimit(),
        diskFreeBytes,
        maxWaiting,
        temperatureCelsius: reading?.temperatureCelsius ?? null,
        waiting: Object.fromEntries(
          Object.entries(depths).map(([queue, depth]) => [queue, depth.waiting + depth.delayed]),
        ),
      },
      trend,
    );
    const { committedBytes, waiting } = memory.view();
    samples.push({
      atMs: Date.now(),
      waiting: Object.values(depths).reduce((sum, depth) => sum + depth.waiting + depth.delayed, 0),
      running: activeJobs(),
      finished: ended - told.ended,
      failed: failed - told.failed,
      serviceBytes: rss,
      gpuBytes: reading?.usedBytes ?? null,
      gpuUtilization: reading?.utilization ?? null,
    });
    if (samples.length > mostSamples) samples.shift();
    told = { ended, failed };
    return {
      troubles: troubles.toTell(),
      facts: {
        health: troubles.health(),
        ...(fitness.reasons().length === 0 ? {} : { takes_no_jobs: fitness.reasons() }),
        uptime_s: Math.round(process.uptime()),
        active_jobs: activeJobs(),
        callbacks_pending: callbacks,
        engines: Object.fromEntries(statuses.map((status) => [status.kind, engineFacts(status)])),
        queues: Object.fromEntries(
          Object.entries(depths).map(([queue, { waiting: jobs, delayed, running, oldestAgeSeconds }]) => [
            queue,
            { waiting: jobs, delayed, running, oldest_s: oldestAgeSeconds },
          ]),
        ),
        gpu:
          reading === null
            ? null
            : {
                name: reading.name,
                used_mb: mebibytes(reading.usedBytes),
                total_mb: mebibytes(reading.totalBytes),
                utilization: reading.utilization,
                celsius: reading.temperatureCelsius,
                ...(capacity === null
                  ? {}
                  : {
                      budget_mb: mebibytes(capacity),
                      committed_mb: mebibytes(committedBytes),
                      waiting_for_room: waiting,
                    }),
              },
        memory: { rss_mb: mebibytes(rss), heap_mb: mebibytes(heapUsed) },
        disk_free_mb: mebibytes(diskFreeBytes),
        trends: {
          over_s: Math.round(trend.overSeconds),
          jobs_per_hour: rounded(trend.jobsPerHour),
          error_rate: trend.errorRate === null ? null : rounded(trend.errorRate),
          mb_per_hour: Object.fromEntries(
            Object.entries(trend.bytesPerHour).map(([name, bytes]) => [name, rounded(bytes / mebibyte)]),
          ),
        },
      },
    };
  }

  async function readDepths(): Promise<Record<string, QueueDepth>> {
    const depths = await Promise.all(
      queueNames.map(async (queue) => [queue, await store.depth(queue).catch(() => null)] as const),
    );
    return Object.fromEntries(
      depths.filter((each): each is [(typeof each)[0], QueueDepth] => each[1] !== null),
    );
  }

  return {
    report,
    history: () => samples,
    /** What came near a limit at the last report. */
    limits: () => limits,
    jobFinished({ outcome }: Pick<FinishedJobFacts, 'outcome'>): void {
      if (outcome === 'cancelled') return;
      ended += 1;
      if (outcome === 'failed') failed += 1;
    },
  };
}

function engineFacts({
  state,
  reason,
  jobsProcessed,
  errorCount,
  restarts,
  memory,
  resting,
}: ReturnType<Engines['status']>): Record<string, unknown> {
  return {
    state,
    ...(resting ? { resting } : {}),
    ...(reason === null ? {} : { reason }),
    jobs: jobsProcessed,
    errors: errorCount,
    restarts,
    rss_mb: mebibytes(memory?.rssBytes ?? null),
    ...(memory?.deviceBytes === undefined ? {} : { device_mb: mebibytes(memory.deviceBytes) }),
  };
}

/** Of the container, where there is one; a machine's own memory is not this process's limit. */
function memoryLimit(): number | null {
  const limit = process.constrainedMemory();
  return limit > 0 && limit < 2 ** 50 ? limit : null;
}

const mebibytes = (bytes: number | null) => (bytes === null ? null : Math.round(bytes / mebibyte));
