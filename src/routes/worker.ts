import type { components } from '../contract/generated.js';
import type { Handlers } from '../contract/routes.js';
import { errors } from '../lib/errors.js';
import type { EngineKind } from '../inference/engine-protocol.js';
import { within } from '../lib/wait.js';
import { formatCelsius, formatGigabytes, formatPercent, iso, isoSeconds } from '../lib/units.js';
import type { GpuReading } from '../services/card/gpu-monitor.js';
import { type EngineStatus, isUp, troubleOf } from '../services/engines/engine-status.js';
import { packageVersion } from '../lib/project.js';
import type { Hold } from '../services/queue/store-parts.js';
import type { RouteContext } from './context.js';
import { holdView } from './operators.js';
import { troubleView } from './health.js';

const workerIds: readonly EngineKind[] = ['sdxl', 'wan', 'qwen'];
/** What a restart takes before an engine has ever been loaded, seconds. */
const typicalStartupSeconds = 30;

export function workerRoutes({ services, facts }: RouteContext): Handlers {
  const { engines, troubles, store, gpu, memory, validation } = services;

  function requireWorker(id: string): EngineKind {
    const kind = workerIds.find((known) => known === id);
    if (kind === undefined) throw errors.notFound(`Worker ${id}`);
    return kind;
  }

  return {
    async getWorkerStatus(request) {
      const [reading, holds, listed] = await Promise.all([gpu.read(), holdsIfKnown(), troubles.look()]);
      return {
        status: 'running',
        health: troubles.health(),
        troubles: listed.map(troubleView),
        worker_id: facts.workerId,
        draining: draining(holds.get(facts.workerId)),
        workers: {
          sdxl: workerState(engines.status('sdxl')),
          wan: workerState(engines.status('wan')),
          ...(engines.has('qwen') ? { qwen: workerState(engines.status('qwen')) } : {}),
        },
        system: {
          gpu_memory_total: totalOf(reading),
          gpu_memory_used: usedOf(reading),
          gpu_utilization: utilizationOf(reading),
          active_jobs: services.activeJobs(),
          gpu_memory_total_bytes: reading?.totalBytes ?? null,
          gpu_memory_used_bytes: reading?.usedBytes ?? null,
          gpu_utilization_fraction: reading?.utilization ?? null,
        },
        ...(request.query.scope === 'cluster' ? { instances: await listInstances(holds) } : {}),
      };
    },

    async getWorkerResources() {
      const [reading, sdxl, wan] = await Promise.all([
        gpu.read(),
        store.depth('sdxl_queue'),
        store.depth('wan_queue'),
      ]);
      const queues = { sdxl_queue: sdxl.waiting + sdxl.delayed, wan_queue: wan.waiting + wan.delayed };
      const free =
        reading === null || reading.totalBytes === null || reading.usedBytes === null
          ? null
          : Math.max(0, reading.totalBytes - reading.usedBytes);
      return {
        gpu: {
          name: reading?.name ?? 'none',
          memory_total: totalOf(reading),
          memory_used: usedOf(reading),
          memory_free: reading === null ? formatGigabytes(0) : formatGigabytes(free),
          utilization: utilizationOf(reading),
          temperature: formatCelsius(reading?.temperatureCelsius ?? null),
          memory_total_bytes: reading?.totalBytes ?? null,
          memory_used_bytes: reading?.usedBytes ?? null,
          memory_free_bytes: free,
          utilization_fraction: reading?.utilization ?? null,
          temperature_celsius: reading?.temperatureCelsius ?? null,
        },
        workers: {
          sdxl: workerMemory(engines.status('sdxl'), queues.sdxl_queue),
          wan: workerMemory(engines.status('wan'), queues.wan_queue),
        },
        queues,
        memory_budget: await memoryBudget(),
      };
    },

    async validateWorker() {
      const [report, reading] = await Promise.all([validation.run(), gpu.read()]);
      return {
        status: report.valid ? 'valid' : 'invalid',
        checks: report.checks,
        details: {
          pytorch_version: `onnxruntime-node ${packageVersion('onnxruntime-node') ?? 'is not installed'}`,
          cuda_version: reading?.driver ?? 'none',
          gpu_memory: totalOf(reading),
          missing_dependencies: report.findings
            .filter(({ check, severity }) => check === 'python_dependencies' && severity === 'error')
            .map(({ subject }) => subject),
          findings: report.findings.map(({ check, subject, severity, message, cure, latencyMs }) => ({
            check,
            subject,
            severity,
            message,
            ...(cure === undefined ? {} : { cure }),
            ...(latencyMs === undefined ? {} : { latency_ms: latencyMs }),
          })),
        },
      };
    },

    async restartWorker(request) {
      const kind = requireWorker(request.params.worker_id);
      const seconds = Math.ceil(engines.status(kind).loaded?.loadSeconds ?? typicalStartupSeconds);
      await engines.restart(kind, { force: request.query.force ?? false });
      return {
        status: 'restarting',
        worker_id: kind,
        restart_time: isoSeconds(Date.now()),
        estimated_startup_time: `${seconds}s`,
        estimated_startup_seconds: seconds,
      };
    },

    async getWorkerLogs(request) {
      const kind = requireWorker(request.params.worker_id);
      const { lastExit } = engines.status(kind);
      return {
        worker_id: kind,
        lines: engines.logs(kind),
        last_exit:
          lastExit === null
            ? null
            : {
                at: iso(lastExit.atMs),
                reason: lastExit.reason,
                exit_code: lastExit.exitCode,
                signal: lastExit.signal,
                stage: lastExit.stage,
              },
      };
    },
  };

  async function memoryBudget(): Promise<
    NonNullable<components['schemas']['WorkerResources']['memory_budget']>
  > {
    const { committedBytes, waiting, models } = memory.view();
    return {
      capacity_bytes: await memory.capacity().catch(() => null),
      committed_bytes: committedBytes,
      waiting,
      models: Object.fromEntries(
        models.map(({ name, resident, busy, residentBytes, workingBytes }) => [
          name,
          {
            resident,
            busy,
            resident_bytes: residentBytes,
            working_bytes: workingBytes,
            measured_bytes: memory.deviceBytes(name as EngineKind) ?? null,
          },
        ]),
      ),
    };
  }

  /** A queue that does not answer holds nobody up: the workers have more to tell. */
  async function holdsIfKnown(): Promise<ReadonlyMap<string, Hold>> {
    let holds: ReadonlyMap<string, Hold> = new Map();
    const asked = store.holds.list().then(({ workers }) => {
      holds = workers;
    });
    await within(500, asked);
    return holds;
  }

  async function listInstances(
    holds: ReadonlyMap<string, Hold>,
  ): Promise<NonNullable<components['schemas']['WorkerStatus']['instances']>> {
    return (await store.instances()).map(({ workerId, host, pid, startedAtMs, seenAtMs, status }) => ({
      worker_id: workerId,
      host,
      pid,
      started_at: iso(startedAtMs),
      seen_at: iso(seenAtMs),
      draining: draining(holds.get(workerId)),
      status,
    }));
  }
}

function workerState(status: EngineStatus): components['schemas']['WorkerState'] {
  const bytes = memoryOf(status);
  return {
    status: isUp(status) ? 'active' : status.state,
    state: status.state,
    uptime: status.uptimeSeconds,
    jobs_processed: status.jobsProcessed,
    last_job_time: status.lastJobAtMs === null ? null : isoSeconds(status.lastJobAtMs),
    memory_usage: formatGigabytes(bytes),
    memory_usage_bytes: bytes,
    error_count: status.errorCount,
    restarts: status.restarts,
    reason: status.reason,
    resting: status.resting,
    trouble: troubleOf(status),
    last_operation:
      status.lastOperation === null
        ? null
        : {
            ok: status.lastOperation.ok,
            at: iso(status.lastOperation.atMs),
            message: status.lastOperation.message,
          },
  };
}

function workerMemory(status: EngineStatus, queueSize: number): components['schemas']['WorkerMemory'] {
  const bytes = memoryOf(status);
  return {
    memory_allocated: formatGigabytes(bytes),
    memory_allocated_bytes: bytes,
    model_loaded: status.loaded !== null && status.pid !== null,
    queue_size: queueSize,
  };
}

/** Device memory where the platform tells, else the process's own; nothing runs, nothing is used. */
function memoryOf({ pid, memory }: EngineStatus): number | null {
  if (pid === null) return 0;
  return memory === null ? null : (memory.deviceBytes ?? memory.rssBytes);
}

const draining = (hold: Hold | undefined) => (hold === undefined ? null : holdView(hold));
const totalOf = (reading: GpuReading | null) => formatGigabytes(reading === null ? 0 : reading.totalBytes);
const usedOf = (reading: GpuReading | null) => formatGigabytes(reading === null ? 0 : reading.usedBytes);
const utilizationOf = (reading: GpuReading | null) =>
  formatPercent(reading === null ? 0 : reading.utilization);
