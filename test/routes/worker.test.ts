import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import t, { type Test } from 'tap';
import type { GpuReading } from '../../src/services/card/gpu-monitor.js';
import { build, testApiKey } from '../helpers/build.js';
import { createRoomWatch } from '../../src/lib/data-folder.js';
import { createVideoEncoder } from '../../src/lib/video-tools.js';
import { createProbes } from '../../src/services/operations/probes.js';
import { createTroubles } from '../../src/services/operations/troubles.js';
import { testEngineEntry, until } from '../engines/support.js';

const gibibyte = 1024 ** 3;
const card: GpuReading = {
  name: 'NVIDIA RTX 6000 Ada Generation',
  totalBytes: 48 * gibibyte,
  usedBytes: 12.5 * gibibyte,
  utilization: 0.853,
  temperatureCelsius: 72,
  powerWatts: null,
  driver: '550.54',
};
const withCard = (reading: GpuReading | null) => ({ gpu: { read: () => Promise.resolve(reading) } });

/** The test engine (a real process over the real protocol) stands where SDXL is. */
async function buildWithEngine(t: Test) {
  const dir = t.testdir({ sdxl: {} });
  const built = await build(t, {
    env: { MODELS_DIR: dir },
    options: { engineEntry: testEngineEntry },
    services: withCard(card),
    start: true,
  });
  await until('the engine', () => built.services.engines.status('sdxl').state === 'ready');
  return built;
}

/** Parts that are well. */
const usual = (t: Test) => ({ room: createRoomWatch(t.testdir()), videoEncoder });
const videoEncoder = createVideoEncoder();

t.test('without an engine and without a GPU', async (t) => {
  const { call } = await build(t, { services: withCard(null) });
  t.match((await call('GET', '/worker/status')).json(), {
    status: 'running',
    health: 'degraded',
    workers: {
      sdxl: {
        status: 'stopped',
        uptime: 0,
        jobs_processed: 0,
        last_job_time: null,
        memory_usage: '0GB',
        error_count: 0,
        reason: /model folder/,
      },
      wan: { status: 'stopped' },
    },
    system: {
      gpu_memory_total: '0GB',
      gpu_memory_used: '0GB',
      gpu_utilization: '0%',
      active_jobs: 0,
      gpu_memory_total_bytes: null,
    },
  });
  t.match((await call('GET', '/worker/resources')).json(), {
    gpu: {
      name: 'none',
      memory_total: '0GB',
      memory_used: '0GB',
      memory_free: '0GB',
      utilization: '0%',
      temperature: 'unknown',
    },
    workers: { sdxl: { memory_allocated: '0GB', model_loaded: false, queue_size: 0 } },
    queues: { sdxl_queue: 0, wan_queue: 0 },
  });
  t.match((await call('GET', '/health')).json(), {
    status: 'degraded',
    worker_ready: false,
    qwen_loaded: false,
  });
  t.match((await call('GET', '/ready')).json(), {
    ready: false,
    reasons: [/^there is no engine that draws: there is no sdxl model folder/],
    troubles: [{ code: 'no_engine', severity: 'critical', cure: /MODELS_DIR/ }],
  });
  t.match((await call('POST', '/worker/restart/sdxl')).json(), {
    statusCode: 503,
    code: 'UNAVAILABLE',
    message: /cannot be restarted/,
  });
});

t.test('with a card: the string forms, and the numbers beside them', async (t) => {
  const { call } = await build(t, { services: withCard(card) });
  t.match((await call('GET', '/worker/status')).json(), {
    system: {
      gpu_memory_total: '48GB',
      gpu_memory_used: '12.5GB',
      gpu_utilization: '85%',
      gpu_memory_total_bytes: 48 * gibibyte,
      gpu_utilization_fraction: 0.853,
    },
  });
  t.match((await call('GET', '/worker/resources')).json(), {
    gpu: {
      name: card.name,
      memory_total: '48GB',
      memory_used: '12.5GB',
      memory_free: '35.5GB',
      utilization: '85%',
      temperature: '72°C',
      memory_free_bytes: 35.5 * gibibyte,
      temperature_celsius: 72,
    },
  });
  t.match((await call('GET', '/worker/validate')).json(), {
    details: { gpu_memory: '48GB', cuda_version: '550.54' },
  });
});

t.test('a card that does not tell everything', async (t) => {
  const { call } = await build(t, {
    services: withCard({
      ...card,
      usedBytes: null,
      utilization: null,
      temperatureCelsius: null,
      powerWatts: null,
      driver: null,
    }),
  });
  t.match((await call('GET', '/worker/resources')).json(), {
    gpu: {
      memory_total: '48GB',
      memory_used: 'unknown',
      memory_free: 'unknown',
      utilization: 'unknown',
      temperature: 'unknown',
      memory_used_bytes: null,
    },
  });
});

t.test('with an engine: state, memory, logs, restart', async (t) => {
  const { call, services } = await buildWithEngine(t);
  const status = (await call('GET', '/worker/status')).json<{
    workers: { sdxl: { status: string; state: string; uptime: number } };
  }>();
  t.match(status.workers.sdxl, { status: 'active', state: 'ready' });
  t.ok(status.workers.sdxl.uptime >= 0);
  t.match((await call('GET', '/worker/resources')).json(), { workers: { sdxl: { model_loaded: true } } });
  t.match((await call('GET', '/worker/sdxl/logs')).json(), { worker_id: 'sdxl', lines: [] });
  t.match((await call('GET', '/worker/status?scope=cluster')).json(), {
    instances: [{ pid: process.pid, worker_id: /\S/, status: { engines: { sdxl: {} } } }],
  });

  const before = services.engines.status('sdxl').pid;
  const restart = (await call('POST', '/worker/restart/sdxl')).json<{ restart_time: string }>();
  t.match(restart, { status: 'restarting', worker_id: 'sdxl', estimated_startup_time: /^\d+s$/ });
  await until(
    'another process',
    () => services.engines.status('sdxl').state === 'ready' && services.engines.status('sdxl').pid !== before,
  );
  t.match((await call('POST', '/worker/restart/sdxl?force=true')).json(), { status: 'restarting' });
  for (const id of ['gpu', 'SDXL', '..', 'constructor'])
    t.equal((await call('POST', `/worker/restart/${encodeURIComponent(id)}`)).statusCode, 404, id);
  t.equal((await call('GET', '/worker/gpu/logs')).statusCode, 404);
});

t.test('validation names what is missing and what to do', async (t) => {
  const { call } = await build(t);
  const report = (await call('GET', '/worker/validate')).json<{
    status: string;
    details: { findings: Array<{ severity: string; cure?: string }> };
  }>();
  t.match(report, {
    status: 'invalid',
    checks: {
      environment_variables: true,
      model_paths: false,
      gpu_availability: true,
      python_dependencies: true,
      worker_scripts: true,
    },
    details: { pytorch_version: /^onnxruntime-node \d/, missing_dependencies: [] },
  });
  for (const finding of report.details.findings)
    if (finding.severity === 'error') t.ok(finding.cure, 'an error has a cure');
});

t.test('validation reaches Supabase, wherever files go, and says how long that took', async (t) => {
  const server = createServer((_request, response) => response.writeHead(404).end()).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const findingOf = async () => {
    const { call } = await build(t, {
      env: {
        SUPABASE_URL: url,
        SUPABASE_SERVICE_KEY: 'service-key',
        WAN_WORKER_API_KEY: 'a-key-of-its-own',
        STORAGE: 'folder',
      },
    });
    const { details } = (await call('GET', '/worker/validate')).json<{
      details: { findings: Array<{ subject: string }> };
    }>();
    return details.findings.find(({ subject }) => subject === 'supabase');
  };
  t.match(await findingOf(), { severity: 'ok', message: /answers in/, latency_ms: Number });
  server.closeAllConnections();
  server.close();
  t.match(await findingOf(), { severity: 'error', cure: /SUPABASE_URL/ });
});

t.test('health and readiness say what is broken', async (t) => {
  const { services } = await buildWithEngine(t);
  const [sdxl, able] = [services.engines.status('sdxl'), { kind: 'wan', state: 'ready', resting: false }];
  let states: Record<string, object> = {};
  const engines = {
    ...services.engines,
    has: (kind: string) => kind in states,
    status: (kind: string) => ({ ...sdxl, kind, state: 'stopped', ...states[kind] }) as never,
  };
  const store = (queueAnswers: boolean) => ({
    ...services.store,
    ping: () => (queueAnswers ? Promise.resolve() : Promise.reject(new Error('redis://secret@host is gone'))),
  });
  const reason = 'died from SIGKILL';
  const expectations = [
    ['ready', {}, 'healthy', true, 200, []],
    ['busy', {}, 'healthy', true, 200, []],
    ['draining', {}, 'healthy', true, 200, []],
    ['starting', { lastOperation: null }, 'healthy', false, 503, ['the sdxl engine is starting']],
    [
      'backing_off',
      { reason },
      'unhealthy',
      false,
      503,
      ['the sdxl engine failed and waits before its next start: died from SIGKILL'],
    ],
    ['failed', { reason }, 'unhealthy', false, 503, ['the sdxl engine has failed: died from SIGKILL']],
    ['ready', { dead: true }, 'degraded', true, 503, ['the queue does not answer: (address) is gone']],
    ['busy', { silentMs: 4000 }, 'healthy', true, 200, []],
    [
      'busy',
      { silentMs: 6000 },
      'degraded',
      true,
      503,
      [/^the sdxl engine has not responded for 6 s: its process \(\d+\) gives no sign of life/],
    ],
    [
      'ready',
      { lastOperation: { ok: false, atMs: 0, message: 'x' } },
      'degraded',
      true,
      503,
      ['the last run of the sdxl engine failed: x'],
    ],
    ['starting', { lastOperation: null, wan: able }, 'healthy', true, 503, ['the sdxl engine is starting']],
    ['starting', { wan: able }, 'healthy', true, 200, ['the sdxl engine is starting']],
    ['restarting', { wan: able }, 'healthy', true, 200, ['the sdxl engine is restarting']],
    ['restarting', {}, 'healthy', false, 503, ['no engine can draw', 'the sdxl engine is restarting']],
    ['failed', { reason, wan: able }, 'degraded', true, 200, [/^the sdxl engine has failed: died/]],
  ] as const;
  for (const [
    state,
    { dead, wan, ...fields },
    status,
    workerReady,
    code,
    reasons,
  ] of expectations as unknown as Array<
    [string, { dead?: boolean; wan?: object }, string, boolean, number, string[]]
  >) {
    const next = `${state} ${Object.keys({ ...fields, ...(wan === undefined ? {} : { beside: wan }) }).join(' ')}`;
    states = { sdxl: { state, ...fields }, ...(wan === undefined ? {} : { wan }) };
    const parts = { ...services, ...usual(t), engines, store: store(dead !== true) };
    const troubles = createTroubles({ engines, probes: createProbes(parts) });
    const { inject } = await build(t, { services: { engines, troubles } });
    const ready = await inject({ url: '/ready' });
    t.equal(ready.statusCode, code, `${next}: readiness`);
    t.match(ready.json(), { ready: code === 200, reasons }, 'and why');
    t.equal(ready.json<{ reasons: string[] }>().reasons.length, reasons.length, `${next}: nothing else`);
    t.match(
      (await inject({ url: '/health' })).json(),
      { status, worker_ready: workerReady },
      `${next}: health`,
    );
  }
});

t.test('readiness is looked at again after a second, also when the clock is set back', async (t) => {
  const { services } = await buildWithEngine(t);
  let queueAnswers = true;
  const store = {
    ...services.store,
    ping: () => (queueAnswers ? Promise.resolve() : Promise.reject(new Error('down'))),
  };
  const parts = { ...services, ...usual(t), store };
  const troubles = createTroubles({ engines: services.engines, probes: createProbes(parts) });
  const { inject } = await build(t, { services: { troubles } });
  t.equal((await inject({ url: '/ready' })).statusCode, 200);
  queueAnswers = false;
  const { now } = Date;
  t.teardown(() => {
    Date.now = now;
  });
  Date.now = () => now() - 3_600_000;
  await until('not ready', async () => (await inject({ url: '/ready' })).statusCode === 503, 5000);
});

t.test('health is the loop alone: it answers though the store never does', async (t) => {
  const never = () => new Promise<never>(() => {});
  const { services } = await build(t);
  const { inject } = await build(t, {
    services: { store: { ...services.store, ping: never, depth: never } },
  });
  const { timestamp } = (await inject({ url: '/health' })).json<{ timestamp: number }>();
  t.ok(Math.abs(timestamp - Date.now() / 1000) < 5, 'seconds since 1970');
});

t.test('dead letters and callbacks', async (t) => {
  const { call, services } = await build(t);
  await services.store.push('sdxl_queue', '{not json');
  const reservation = await services.store.reserve({
    queue: 'sdxl_queue',
    workerId: 'test',
    leaseMs: 10_000,
  });
  t.ok(
    reservation !== null && (await services.store.deadLetter(reservation.lease, 'the payload is not JSON')),
  );
  const { dead_letters: letters } = (await call('GET', '/dead-letters?queue=sdxl_queue')).json<{
    dead_letters: Array<{ id: string }>;
  }>();
  t.match(letters, [{ payload: '{not json', reason: 'the payload is not JSON', queue: 'sdxl_queue' }]);
  const id = encodeURIComponent(letters[0]?.id ?? '');
  t.match((await call('POST', `/dead-letters/${id}/requeue`)).json(), { status: 'requeued' });
  t.equal((await call('POST', `/dead-letters/${id}/requeue`)).statusCode, 404, 'only once');
  t.equal((await call('DELETE', '/dead-letters/unknown')).statusCode, 404);

  const entry = {
    id: 'a:completed',
    jobId: 'a',
    event: 'completed' as const,
    url: 'http://callback.test/',
    body: '{}',
    createdAtMs: Date.now(),
    nextAttemptAtMs: 0,
    attempts: 0,
  };
  await services.store.outbox.add(entry);
  t.match((await call('GET', '/callbacks')).json(), { pending: 1, dead: [] });
  await services.store.outbox.claimDue('test', 1, 1000);
  await services.store.outbox.deadLetter('a:completed', '410 Gone');
  t.match((await call('GET', '/callbacks')).json(), {
    pending: 0,
    dead: [{ id: 'a:completed', job_id: 'a', event: 'completed', last_error: '410 Gone' }],
  });
  t.same((await call('POST', '/callbacks/retry', { id: 'b' })).json(), { retried: 0 });
  t.same((await call('POST', '/callbacks/retry', { id: null })).json(), { retried: 1 });
  t.match((await call('POST', '/callbacks/retry')).json(), {
    statusCode: 400,
    details: [{ field: 'body', rule: 'required' }],
  });
});

t.test('docs work without any network', async (t) => {
  const { app } = await build(t);
  const page = await app.inject({ url: '/docs' });
  const local = [...page.payload.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, address = '']) => address);
  t.ok(local.length > 3, `${local.length} files`);
  for (const address of local)
    t.equal((await app.inject({ url: new URL(address, 'http://x/docs').pathname })).statusCode, 200, address);
  t.notMatch(page.headers['content-security-policy'], /https:|upgrade-insecure/, 'nothing from elsewhere');
  const document = await app.inject({
    url: '/docs/json',
    headers: { authorization: `Bearer ${testApiKey}` },
  });
  t.match(document.json(), { openapi: '3.1.0', paths: { '/jobs': {} } });
});
