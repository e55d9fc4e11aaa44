import { Registry } from 'prom-client';
import t from 'tap';
import { errors } from '../../src/lib/errors.js';
import { EngineError } from '../../src/services/engines/engine-error.js';
import type { GpuReading } from '../../src/services/card/gpu-monitor.js';
import type { Lease } from '../../src/services/queue/job-store.js';
import { failureFrom, NotPossibleHere } from '../../src/services/jobs/failure.js';
import { completionMetadata, failureMetadata } from '../../src/services/jobs/metadata.js';
import { gibibyte } from '../../src/lib/units.js';
import { createServiceMetrics } from '../../src/services/operations/metrics.js';
import { StorageError } from '../../src/services/storage/storage.js';
import { engineStatus } from '../engines/support.js';

t.test("every failure has one of the contract's three messages", async (t) => {
  t.same(failureFrom(new EngineError('out_of_memory', 'x')), {
    type: 'OutOfMemory',
    message: 'Insufficient VRAM for generation',
    retryable: true,
  });
  t.same(failureFrom(new EngineError('invalid_parameters', 'must be even', { field: 'config.width' })), {
    type: 'InvalidParameters',
    message: 'Invalid parameters: config.width must be even',
    retryable: false,
  });
  t.match(
    failureFrom(
      errors.invalidParameters.with(
        {
          details: [
            {
              field: 'metadata.reference_image_url',
              rule: 'publicAddress',
              message: 'must be a public address',
            },
          ],
        },
        'x',
      ),
    ),
    {
      message: 'Invalid parameters: metadata.reference_image_url must be a public address',
      retryable: false,
    },
  );
  t.match(failureFrom(errors.invalidParameters('prompt is empty')), {
    message: 'Invalid parameters: prompt is empty',
  });
  t.match(failureFrom(errors.promptRejected()), { type: 'InvalidParameters', retryable: false });
  for (const busy of [errors.unavailable('no engine'), errors.tooManyRequests('busy'), errors.notFound('It')])
    t.match(failureFrom(busy), { type: 'GenerationFailed', retryable: true }, busy.code);
  t.match(failureFrom(new StorageError('full', 'unavailable', true)), {
    type: 'StorageFailed',
    message: /^Generation failed: storage: full/,
    retryable: true,
  });
  t.match(failureFrom(new EngineError('model_invalid', 'no unet')), {
    message: 'Generation failed: no unet',
    retryable: false,
  });
  t.match(failureFrom(new TypeError('boom')), {
    type: 'GenerationFailed',
    message: 'Generation failed: boom',
    retryable: true,
  });
  t.match(failureFrom(new NotPossibleHere('no ffmpeg')), {
    type: 'GenerationFailed',
    message: 'Generation failed: no ffmpeg',
    retryable: false,
  });
  t.match(failureFrom('text'), { message: 'Generation failed: text' });
});

t.test('completion metadata has every field of the contract', async (t) => {
  const metadata = completionMetadata({
    originalPrompt: 'a',
    prompt: 'a',
    enhancement: null,
    generationSeconds: 1.23456,
    expectedSeconds: 30,
    attempts: 1,
    workerVersion: '1',
    timings: {},
    gpu: {
      name: 'x',
      totalBytes: 48 * gibibyte,
      usedBytes: 31 * gibibyte,
      utilization: 0.5,
      temperatureCelsius: 60,
      powerWatts: 210,
      driver: null,
    },
    engineBytes: 12.5 * gibibyte,
    generation: { seed: 1, num_images: 1 },
  });
  const fields =
    'seed generation_time num_images compel_enabled compel_weights compel_success enhancement_strategy enhancement_type enhancement_success enhancement_time original_prompt enhanced_prompt final_prompt_type expected_time performance_ratio vram_used_gb vram_total_gb vram_utilization reference_mode reference_strength worker_version';
  for (const field of fields.split(' ')) t.ok(Object.hasOwn(metadata, field), field);
  t.match(metadata, {
    generation_time: 1.235,
    performance_ratio: 1.235 / 30,
    vram_used_gb: 12.5,
    vram_total_gb: 48,
    vram_utilization: 0.2604,
  });
  const failed = failureMetadata({ type: 'Cancelled', attempts: 2, workerVersion: '1' });
  t.match(failed, {
    error_type: 'Cancelled',
    error_timestamp: /^\d{4}-\d\d-\d\dT[\d:.]+Z$/,
    worker_version: '1',
  });
});

t.test('metrics are counted and read at the scrape', async (t) => {
  const registry = new Registry();
  let card: GpuReading | null = {
    name: 'NVIDIA H100',
    totalBytes: 80 * gibibyte,
    usedBytes: null,
    utilization: 0.9,
    temperatureCelsius: 71,
    powerWatts: 640.5,
    driver: '580.1',
  };
  const metrics = createServiceMetrics({
    registry,
    store: {
      depth: (queue) =>
        Promise.resolve({
          waiting: queue === 'sdxl_queue' ? 4 : 0,
          delayed: 1,
          running: 2,
          oldestAgeSeconds: 9,
        }),
      outbox: { pending: () => Promise.resolve(3) } as never,
    },
    engines: {
      statuses: () => [
        engineStatus({ state: 'busy', errorCount: 2, restarts: 5, memory: { rssBytes: 100, heapBytes: 1 } }),
      ],
    },
    gpu: { read: () => Promise.resolve(card) },
  });
  const job = { id: 'x', type: 'sdxl_image_fast', userId: 'u' } as const;
  metrics.jobFinished({
    job,
    outcome: 'completed',
    reason: 'completed',
    generationSeconds: 2,
    assets: 1,
    totalBytes: 10,
    deviceBytes: null,
    stageSeconds: { denoise: 1.5 },
  });
  metrics.jobFinished({
    job,
    outcome: 'failed',
    reason: 'OutOfMemory',
    generationSeconds: 0,
    assets: 0,
    totalBytes: 0,
    deviceBytes: null,
    stageSeconds: {},
  });
  const lease = { queue: 'sdxl_queue' } as Lease;
  for (const attempt of [1, 2])
    metrics.jobBegun('sdxl_image_fast', { lease, attempt, queuedAtMs: Date.now() - 4000 });
  metrics.leaseLost();
  metrics.invalidPayload('wan_queue');
  metrics.attemptFailed('sdxl_image_fast', 'OutOfMemory');
  const text = await registry.metrics();
  for (const line of [
    'ourvidz_jobs_total{type="sdxl_image_fast",outcome="completed",reason="completed"} 1',
    'ourvidz_jobs_total{type="sdxl_image_fast",outcome="failed",reason="OutOfMemory"} 1',
    'ourvidz_leases_lost_total 1',
    'ourvidz_invalid_payloads_total{queue="wan_queue"} 1',
    'ourvidz_failed_attempts_total{type="sdxl_image_fast",error_type="OutOfMemory"} 1',
    'ourvidz_queue_jobs{queue="sdxl_queue",state="waiting"} 4',
    'ourvidz_queue_oldest_age_seconds{queue="sdxl_queue"} 9',
    'ourvidz_callbacks_pending 3',
    'ourvidz_engine_state{engine="sdxl",state="busy"} 1',
    'ourvidz_engine_restarts_total{engine="sdxl"} 5',
    'ourvidz_engine_memory_bytes{engine="sdxl",kind="rss"} 100',
    'ourvidz_queue_wait_seconds_bucket{le="5",queue="sdxl_queue",type="sdxl_image_fast"} 1',
    'ourvidz_queue_wait_seconds_bucket{le="2.5",queue="sdxl_queue",type="sdxl_image_fast"} 0',
    'ourvidz_gpu_info{gpu="NVIDIA H100",driver="580.1"} 1',
    `ourvidz_gpu_memory_bytes{gpu="NVIDIA H100",kind="total"} ${80 * gibibyte}`,
    'ourvidz_gpu_utilization_ratio{gpu="NVIDIA H100"} 0.9',
    'ourvidz_gpu_temperature_celsius{gpu="NVIDIA H100"} 71',
    'ourvidz_gpu_power_watts{gpu="NVIDIA H100"} 640.5',
    'ourvidz_generation_seconds_count{type="sdxl_image_fast"} 1',
    'ourvidz_stage_seconds_sum{type="sdxl_image_fast",stage="denoise"} 1.5',
  ])
    t.ok(text.includes(line), line);
  t.notMatch(text, /kind="used"/, 'what the card does not tell is not there');
  card = null;
  t.notMatch(await registry.metrics(), /^ourvidz_gpu_\w+[ {]/m, 'nor is anything of a card that is gone');
  t.ok(
    (await registry.metrics()).includes('ourvidz_engine_restarts_total{engine="sdxl"} 5'),
    'a second scrape counts nothing twice',
  );
});
