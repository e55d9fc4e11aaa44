import { Counter, Gauge, Histogram, type Registry } from 'prom-client';
import { sharedFor } from '../../lib/wait.js';
import type { GpuMonitor, GpuReading } from '../card/gpu-monitor.js';
import type { Engines } from '../engines/engines.js';
import { queueNames } from '../catalogue.js';
import type { RunnerMetrics } from '../jobs/runner-context.js';
import type { JobStore } from '../queue/job-store.js';
import type { EngineState } from '../engines/engine-status.js';

const engineStates: readonly EngineState[] = [
  'stopped',
  'starting',
  'warming',
  'ready',
  'busy',
  'draining',
  'restarting',
  'backing_off',
  'failed',
];
const secondsBuckets = [0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 240, 600];
const waitBuckets = [0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600];
/** One answer of the store serves all gauges of one scrape. */
const depthMaxAgeMs = 1000;

interface ServiceMetricsOptions {
  registry: Registry;
  store: Pick<JobStore, 'depth' | 'outbox'>;
  engines: Pick<Engines, 'statuses'>;
  gpu: Pick<GpuMonitor, 'read'>;
}

/** Registers what the services count and measure; gauges read their source when they are scraped. */
export function createServiceMetrics({
  registry,
  store,
  engines,
  gpu,
}: ServiceMetricsOptions): RunnerMetrics {
  const registers = [registry];
  const jobs = new Counter({
    name: 'ourvidz_jobs_total',
    help: 'Jobs that reached a terminal state',
    labelNames: ['type', 'outcome', 'reason'],
    registers,
  });
  const attempts = new Counter({
    name: 'ourvidz_failed_attempts_total',
    help: 'Attempts that failed, whether or not another one followed',
    labelNames: ['type', 'error_type'],
    registers,
  });
  const invalid = new Counter({
    name: 'ourvidz_invalid_payloads_total',
    help: 'Queue payloads refused by validation',
    labelNames: ['queue'],
    registers,
  });
  const lost = new Counter({
    name: 'ourvidz_leases_lost_total',
    help: 'Running jobs given up because their lease was lost',
    registers,
  });
  const waits = new Histogram({
    name: 'ourvidz_queue_wait_seconds',
    help: 'Time a job waited for its first attempt: from its submission, or from when a pushed payload was first seen',
    labelNames: ['queue', 'type'],
    buckets: waitBuckets,
    registers,
  });
  const generation = new Histogram({
    name: 'ourvidz_generation_seconds',
    help: 'Time in the engine per completed job',
    labelNames: ['type'],
    buckets: secondsBuckets,
    registers,
  });
  const stages = new Histogram({
    name: 'ourvidz_stage_seconds',
    help: 'Time per stage of completed jobs',
    labelNames: ['type', 'stage'],
    buckets: secondsBuckets,
    registers,
  });
  const bytes = new Counter({
    name: 'ourvidz_asset_bytes_total',
    help: 'Bytes of finished assets',
    labelNames: ['type'],
    registers,
  });

  const depths = sharedFor(depthMaxAgeMs, () =>
    Promise.all(queueNames.map(async (queue) => [queue, await store.depth(queue)] as const)).catch(() => []),
  );

  new Gauge({
    name: 'ourvidz_queue_jobs',
    help: 'Jobs by queue and state',
    labelNames: ['queue', 'state'],
    registers,
    async collect() {
      this.reset();
      for (const [queue, depth] of await depths()) {
        this.set({ queue, state: 'waiting' }, depth.waiting);
        this.set({ queue, state: 'delayed' }, depth.delayed);
        this.set({ queue, state: 'running' }, depth.running);
      }
    },
  });
  new Gauge({
    name: 'ourvidz_queue_oldest_age_seconds',
    help: 'Age of the oldest waiting job',
    labelNames: ['queue'],
    registers,
    async collect() {
      this.reset();
      for (const [queue, depth] of await depths())
        if (depth.oldestAgeSeconds !== null) this.set({ queue }, depth.oldestAgeSeconds);
    },
  });
  new Gauge({
    name: 'ourvidz_callbacks_pending',
    help: 'Callbacks recorded and not yet delivered',
    registers,
    async collect() {
      try {
        this.set(await store.outbox.pending());
      } catch {
        this.reset();
      }
    },
  });
  new Gauge({
    name: 'ourvidz_engine_state',
    help: '1 for the state each engine is in',
    labelNames: ['engine', 'state'],
    registers,
    collect() {
      for (const status of engines.statuses())
        for (const state of engineStates)
          this.set({ engine: status.kind, state }, status.state === state ? 1 : 0);
    },
  });
  new Counter({
    name: 'ourvidz_engine_restarts_total',
    help: 'Engine processes started after the first one',
    labelNames: ['engine'],
    registers,
    collect() {
      this.reset();
      for (const status of engines.statuses()) this.inc({ engine: status.kind }, status.restarts);
    },
  });
  new Counter({
    name: 'ourvidz_engine_errors_total',
    help: 'Engine failures: deaths, failed starts, failed requests',
    labelNames: ['engine'],
    registers,
    collect() {
      this.reset();
      for (const status of engines.statuses()) this.inc({ engine: status.kind }, status.errorCount);
    },
  });
  new Gauge({
    name: 'ourvidz_engine_memory_bytes',
    help: 'Memory of each engine process',
    labelNames: ['engine', 'kind'],
    registers,
    collect() {
      this.reset();
      for (const { kind: engine, memory } of engines.statuses()) {
        if (memory === null) continue;
        this.set({ engine, kind: 'rss' }, memory.rssBytes);
        if (memory.deviceBytes !== undefined) this.set({ engine, kind: 'device' }, memory.deviceBytes);
      }
    },
  });
  new Gauge({
    name: 'ourvidz_prompt_sequences_busy',
    help: 'Sequences of the prompt model that held a request when its engine last told',
    registers,
    collect() {
      this.set(engines.statuses().find(({ kind }) => kind === 'qwen')?.memory?.busySequences ?? 0);
    },
  });

  registerCardMetrics(registry, gpu);

  return {
    jobBegun(type, { lease: { queue }, attempt, queuedAtMs }) {
      // clocks of two machines differ by a little
      if (attempt === 1) waits.observe({ queue, type }, Math.max(0, (Date.now() - queuedAtMs) / 1000));
    },
    jobFinished({ job, outcome, reason, generationSeconds, stageSeconds, totalBytes }) {
      jobs.inc({ type: job.type, outcome, reason });
      if (outcome !== 'completed') return;
      generation.observe({ type: job.type }, generationSeconds);
      bytes.inc({ type: job.type }, totalBytes);
      for (const [stage, seconds] of Object.entries(stageSeconds))
        stages.observe({ type: job.type, stage }, seconds);
    },
    attemptFailed: (type, errorType) => attempts.inc({ type, error_type: errorType }),
    invalidPayload: (queue) => invalid.inc({ queue }),
    leaseLost: () => lost.inc(),
  };
}

/** What the card tells of itself; what it does not tell is not there. */
function registerCardMetrics(registry: Registry, gpu: Pick<GpuMonitor, 'read'>): void {
  type Values = (card: GpuReading) => Array<[label: Record<string, string>, value: number | null]>;
  const gauge = (name: string, help: string, labels: string[], values: Values) =>
    new Gauge({
      name,
      help,
      // without any label a value that is not known would be 0
      labelNames: ['gpu', ...labels],
      registers: [registry],
      async collect() {
        this.reset();
        const card = await gpu.read().catch(() => null);
        for (const [label, value] of card === null ? [] : values(card))
          if (value !== null) this.set({ gpu: card?.name ?? '', ...label }, value);
      },
    });
  gauge('ourvidz_gpu_info', 'The card and its driver', ['driver'], ({ driver }) => [
    [{ driver: driver ?? '' }, 1],
  ]);
  gauge('ourvidz_gpu_memory_bytes', 'Memory of the card', ['kind'], ({ totalBytes, usedBytes }) => [
    [{ kind: 'total' }, totalBytes],
    [{ kind: 'used' }, usedBytes],
  ]);
  gauge('ourvidz_gpu_utilization_ratio', 'Share of the time in which the card computed', [], (card) => [
    [{}, card.utilization],
  ]);
  gauge('ourvidz_gpu_temperature_celsius', 'Temperature of the card', [], (card) => [
    [{}, card.temperatureCelsius],
  ]);
  gauge('ourvidz_gpu_power_watts', 'Power that the card draws', [], (card) => [[{}, card.powerWatts]]);
}
