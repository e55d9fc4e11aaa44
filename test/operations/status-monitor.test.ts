import { Writable } from 'node:stream';
import Fastify from 'fastify';
import { pino } from 'pino';
import t from 'tap';
import { engineStatus, testEngineEntry, until } from '../engines/support.js';
import { build } from '../helpers/build.js';
import { statusMonitorPlugin } from '../../src/plugins/background.js';
import { createStatusMonitor } from '../../src/services/operations/status-monitor.js';
import { createTroubles, type Troubles } from '../../src/services/operations/troubles.js';
import {
  createTrends,
  type Limits,
  type Trends,
  warningsOf,
} from '../../src/services/operations/status-warnings.js';

const [hourMs, gib] = [3_600_000, 2 ** 30];

t.test(
  'trends: jobs an hour, failed share, growth of what was there all the time; the last hour only',
  async (t) => {
    const trends = createTrends();
    let last: Trends | undefined;
    for (let minute = 0; minute <= 90; minute += 1) {
      // Ten bytes a minute with a saw on top; what came late has no trend yet.
      last = trends.add({
        atMs: minute * 60_000,
        ended: minute * 4,
        failed: minute,
        bytes: { service: 1000 + minute * 10 + (minute % 2) * 5, ...(minute > 60 ? { late: minute } : {}) },
      });
      if (minute === 5) t.same(last.bytesPerHour, {}, 'five minutes are no trend');
    }
    t.match(last, { overSeconds: 3600, jobsEnded: 240, jobsPerHour: 240, errorRate: 0.25 });
    t.ok(
      Math.abs((last?.bytesPerHour['service'] ?? 0) - 600) < 5,
      `600 bytes an hour: ${last?.bytesPerHour['service']}`,
    );
    t.notOk('late' in (last?.bytesPerHour ?? {}));
    t.match(
      createTrends().add({ atMs: 5, ended: 9, failed: 3, bytes: {} }),
      { jobsPerHour: 0, errorRate: null },
      'nothing before to compare with',
    );
  },
);

t.test('warnings come before the limit, and not without reason', async (t) => {
  const calm: Limits = {
    serviceBytes: gib,
    serviceLimitBytes: 8 * gib,
    diskFreeBytes: 100 * gib,
    waiting: { sdxl_queue: 10 },
    maxWaiting: 100,
    temperatureCelsius: 60,
  };
  const still: Trends = {
    overSeconds: 3600,
    jobsEnded: 50,
    jobsPerHour: 10,
    errorRate: 0.1,
    bytesPerHour: {},
  };
  const about = (limits: Partial<Limits>, trends: Partial<Trends> = {}) =>
    warningsOf({ ...calm, ...limits }, { ...still, ...trends }).map(({ code }) => code);
  t.same(about({}), []);
  t.same(about({}, { bytesPerHour: { service: gib, disk: gib } }), [], 'seven hours away');
  t.same(about({}, { bytesPerHour: { service: 5 * gib } }), ['memory_low']);
  t.same(about({ serviceBytes: 7.5 * gib }), ['memory_low'], 'close already');
  t.same(about({ serviceLimitBytes: null }, { bytesPerHour: { service: 100 * gib } }), []);
  t.same(about({}, { bytesPerHour: { disk: 80 * gib } }), ['disk_filling']);
  t.same(about({ waiting: { sdxl_queue: 81, wan_queue: 1 } }), ['queue_filling']);
  t.same(about({ waiting: { sdxl_queue: 81 }, maxWaiting: 0 }), []);
  t.same(about({ temperatureCelsius: 90 }), ['gpu_hot']);
  t.same(about({}, { errorRate: 0.5 }), ['jobs_failing']);
  t.same(about({}, { jobsEnded: 2, errorRate: 0.5 }), [], 'two jobs are no rate');
  t.same(about({ diskFreeBytes: null, temperatureCelsius: null }, { errorRate: null }), []);
});

t.test('a line a period while the app listens, over the real services', async (t) => {
  const { services } = await build(t, {
    env: { MODELS_DIR: t.testdir({ sdxl: {} }) },
    options: { engineEntry: testEngineEntry },
    start: true,
  });
  await until('the engine', () => services.engines.status('sdxl').memory !== null);
  const lines: Array<Record<string, unknown>> = [];
  const app = Fastify({
    loggerInstance: pino(
      new Writable({
        write(chunk: Buffer, _encoding, done) {
          lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
          done();
        },
      }),
    ),
  });
  await app.register(statusMonitorPlugin, { monitor: services.monitor, periodMs: 30 });
  await app.listen({ port: 0, host: '127.0.0.1' });
  const status = () => lines.filter(({ event }) => event === 'status');
  await until('two lines', () => status().length >= 2);
  t.match(status()[1], {
    msg: 'status',
    level: 30,
    health: 'healthy',
    uptime_s: Number,
    active_jobs: 0,
    callbacks_pending: 0,
    gpu: null,
    disk_free_mb: Number,
    engines: { sdxl: { state: 'ready', jobs: 0, errors: 0, restarts: 0, rss_mb: Number } },
    queues: { sdxl_queue: { waiting: 0, delayed: 0, running: 0 }, wan_queue: { waiting: 0 } },
    memory: { rss_mb: Number, heap_mb: Number },
    trends: { jobs_per_hour: 0, error_rate: null },
  });
  t.match(services.monitor.history().at(-1), {
    waiting: 0,
    running: 0,
    serviceBytes: Number,
    gpuBytes: null,
  });
  await app.close();
  const count = lines.length;
  await new Promise((resolve) => setTimeout(resolve, 80));
  t.equal(lines.length, count, 'none after the app has closed');
});

t.test(
  'jobs that ended are counted, warnings said once an hour; a part that does not answer is left out',
  async (t) => {
    let atMs = 0;
    const never = () => Promise.reject(new Error('gone'));
    const engines = { has: () => false, status: () => engineStatus(), statuses: () => [] };
    const troubles: Troubles = createTroubles({
      engines,
      probes: [],
      known: () => monitor.limits(),
      now: () => atMs,
    });
    const monitor = createStatusMonitor({
      engines,
      troubles,
      store: { depth: never, outbox: { pending: never } as never },
      gpu: { read: never },
      memory: {
        view: () => ({ committedBytes: 0, waiting: 0, models: [] }),
        capacity: () => Promise.resolve(null),
      },
      fitness: { reasons: () => [] },
      activeJobs: () => 0,
      dataDir: t.testdir(),
      maxWaiting: 0,
      now: () => atMs,
    });
    await monitor.report();
    for (const outcome of ['completed', 'completed', 'failed', 'failed', 'failed', 'cancelled'] as const)
      monitor.jobFinished({ outcome });
    const heard: string[][] = [];
    for (const minute of [1, 2, 60, 62]) {
      atMs = minute * 60_000;
      const { facts, troubles: told } = await monitor.report();
      heard.push(told.map(({ code }) => code).filter((code) => code === 'jobs_failing'));

      if (minute === 1)
        t.match(facts, {
          callbacks_pending: null,
          gpu: null,
          queues: {},
          trends: { jobs_per_hour: 5 * (hourMs / 60_000), error_rate: 0.6 },
        });
    }
    t.same(heard, [['jobs_failing'], [], [], []]);
    t.match(
      monitor.history().map(({ finished, failed }) => [finished, failed]),
      [
        [0, 0],
        [5, 3],
        [0, 0],
      ],
      'a sample has what ended since the one before',
    );
    for (let minute = 0; minute < 70; minute += 1) await monitor.report();
    t.equal(monitor.history().length, 60, 'an hour is kept');
  },
);
