import t, { type Test } from 'tap';
import type { GpuReading } from '../../src/services/card/gpu-monitor.js';
import { testEngineEntry, until } from '../engines/support.js';
import { build } from '../helpers/build.js';

/**
 * Every field the orchestrator's routes must have, by the form its clients read; more fields may stand beside
 * them.
 */
const forms = {
  gigabytes: /^\d+(\.\d)?GB$/,
  gigabytesOrUnknown: /^(\d+(\.\d)?GB|unknown)$/,
  percent: /^\d{1,3}%$/,
  celsius: /^(\d+°C|unknown)$/,
  seconds: /^\d+s$/,
  iso: /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/,
  runtime: /^onnxruntime-node \d/,
};
type Shape = { [field: string]: Shape | RegExp | ((value: unknown) => boolean) };
const number = (value: unknown) => typeof value === 'number' && value >= 0;
const integer = (value: unknown) => Number.isInteger(value);
const boolean = (value: unknown) => typeof value === 'boolean';
const text = (value: unknown) => typeof value === 'string' && value !== '';
const timeOrNull = (value: unknown) => value === null || forms.iso.test(String(value));
const strings = (value: unknown) => Array.isArray(value) && value.every((each) => typeof each === 'string');
const state = /^(active|stopped|starting|warming|draining|restarting|backing_off|failed)$/;
const health = /^(healthy|degraded|unhealthy)$/;

const worker: Shape = {
  status: state,
  uptime: number,
  jobs_processed: integer,
  last_job_time: timeOrNull,
  memory_usage: forms.gigabytesOrUnknown,
  error_count: integer,
};
const held: Shape = {
  memory_allocated: forms.gigabytesOrUnknown,
  model_loaded: boolean,
  queue_size: integer,
};
const routes: Array<[method: 'GET' | 'POST', url: string, shape: Shape, needsEngine?: true]> = [
  [
    'GET',
    '/worker/status',
    {
      status: /^running$/,
      workers: { sdxl: worker, wan: worker },
      system: {
        gpu_memory_total: forms.gigabytes,
        gpu_memory_used: forms.gigabytes,
        gpu_utilization: forms.percent,
        active_jobs: integer,
      },
    },
  ],
  [
    'GET',
    '/worker/resources',
    {
      gpu: {
        name: text,
        memory_total: forms.gigabytes,
        memory_used: forms.gigabytes,
        memory_free: forms.gigabytes,
        utilization: forms.percent,
        temperature: forms.celsius,
      },
      workers: { sdxl: held, wan: held },
      queues: { sdxl_queue: integer, wan_queue: integer },
    },
  ],
  [
    'GET',
    '/worker/validate',
    {
      status: /^(valid|invalid)$/,
      checks: {
        environment_variables: boolean,
        model_paths: boolean,
        gpu_availability: boolean,
        python_dependencies: boolean,
        worker_scripts: boolean,
      },
      details: {
        pytorch_version: forms.runtime,
        cuda_version: text,
        gpu_memory: forms.gigabytes,
        missing_dependencies: strings,
      },
    },
  ],
  ['GET', '/health', { status: health, qwen_loaded: boolean, timestamp: number, worker_ready: boolean }],
  [
    'POST',
    '/worker/restart/sdxl',
    {
      status: /^restarting$/,
      worker_id: /^sdxl$/,
      restart_time: forms.iso,
      estimated_startup_time: forms.seconds,
    },
    true,
  ],
  [
    'POST',
    '/worker/restart/wan?force=true',
    {
      status: /^restarting$/,
      worker_id: /^wan$/,
      restart_time: forms.iso,
      estimated_startup_time: forms.seconds,
    },
    true,
  ],
];

function compare(t: Test, value: unknown, shape: Shape, at: string): void {
  for (const [field, wanted] of Object.entries(shape)) {
    const found = (value as Record<string, unknown> | null)?.[field];
    if (wanted instanceof RegExp)
      t.ok(typeof found === 'string' && wanted.test(found), `${at}.${field}: ${JSON.stringify(found)}`);
    else if (typeof wanted === 'function') t.ok(wanted(found), `${at}.${field}: ${JSON.stringify(found)}`);
    else compare(t, found, wanted, `${at}.${field}`);
  }
}

const card: GpuReading = {
  name: 'NVIDIA RTX 6000 Ada Generation',
  totalBytes: 48 * 2 ** 30,
  usedBytes: 12.5 * 2 ** 30,
  utilization: 0.85,
  temperatureCelsius: 72,
  powerWatts: null,
  driver: '550.54',
};

t.test("every field of the orchestrator's routes without an engine and without a GPU", async (t) => {
  const { call } = await build(t, { services: { gpu: { read: () => Promise.resolve(null) } } });
  for (const [method, url, shape, needsEngine] of routes) {
    const answer = await call(method, url);
    if (needsEngine === true) t.equal(answer.statusCode, 503, `${url}: there is nothing to restart`);
    else compare(t, answer.json(), shape, url);
  }
});

t.test('the same with both engines running, before and after a job, and on a card', async (t) => {
  const { call, engines, services } = await build(t, {
    env: { MODELS_DIR: t.testdir({ sdxl: {}, wan: {} }) },
    options: { engineEntry: testEngineEntry },
    services: { gpu: { read: () => Promise.resolve(card) } },
    start: true,
  });
  await until('both', () =>
    ['sdxl', 'wan'].every((kind) => engines.status(kind as 'sdxl' | 'wan').state === 'ready'),
  );
  for (const round of ['idle', 'after a job']) {
    if (round !== 'idle') {
      const { id } = (
        await call('POST', '/jobs', {
          type: 'sdxl_image_fast',
          prompt: 'a circle',
          user_id: '00000000-0000-4000-8000-000000000001',
        })
      ).json<{ id: string }>();
      await until('the job', async () => (await services.jobs.get(id))?.record.status === 'completed');
    }
    for (const [method, url, shape, needsEngine] of routes)
      if (needsEngine !== true) compare(t, (await call(method, url)).json(), shape, `${round}: ${url}`);
  }
  const { workers } = (await call('GET', '/worker/status')).json<{
    workers: { sdxl: { status: string; jobs_processed: number; last_job_time: string } };
  }>();
  t.equal(workers.sdxl.jobs_processed, 1);
  t.equal(workers.sdxl.status, 'active');
  t.ok(Math.abs(Date.parse(workers.sdxl.last_job_time) - Date.now()) < 60_000, 'of a moment ago');
  for (const [method, url, shape, needsEngine] of routes)
    if (needsEngine === true) compare(t, (await call(method, url)).json(), shape, url);
});
