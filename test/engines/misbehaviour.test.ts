import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { Writable } from 'node:stream';
import { pino } from 'pino';
import t, { type Test } from 'tap';
import type { EngineKind } from '../../src/inference/engine-protocol.js';
import type { QwenGenerateParams, WanGenerateParams } from '../../src/inference/generation.js';
import type { SupervisorOptions } from '../../src/services/engines/engine-options.js';
import { build } from '../helpers/build.js';
import { generateParams, testEngineEntry, until } from './support.js';

/**
 * docs/operations.md, "What ends an engine", line by line, for each engine: state, routes, log and metrics.
 */

const watchdogs: Partial<SupervisorOptions> = {
  restartBaseMs: 60,
  restartMaxMs: 200,
  restartJitter: 0,
  heartbeatTimeoutMs: 900,
  maxFailedStarts: 3,
  stageLimitsMs: { denoise: 900 },
  memoryIntervalMs: 50,
  recycleGrowthBytes: 60 * 2 ** 20,
};
type WorkerState = {
  status: string;
  error_count: number;
  restarts: number;
  reason: string | null;
  trouble: string | null;
  last_operation: { ok: boolean } | null;
};

async function assemble(t: Test, kind: EngineKind) {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-trouble-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const flag = path.join(folder, 'may-start');
  await writeFile(flag, '');
  const lines: Array<Record<string, unknown>> = [];
  const log = pino(
    { level: 'info' },
    new Writable({
      write(chunk: Buffer, _encoding, done) {
        lines.push(JSON.parse(chunk.toString()) as Record<string, unknown>);
        done();
      },
    }),
  );
  const app = await build(t, {
    log,
    start: true,
    env: { MODELS_DIR: t.testdir({ [kind]: {} }) },
    options: {
      engineEntry: testEngineEntry,
      engines: {
        [kind]: {
          ...watchdogs,
          load: { modelDir: 'none', device: 'cpu', threads: 1, options: { onLoad: `crash-until:${flag}` } },
        },
      },
    },
  });
  const { engines } = app;
  const states: string[] = [];
  engines.onChange(() => {
    const { state } = engines.status(kind);
    if (states.at(-1) !== state) states.push(state);
  });
  /** What the engine is asked for its kind of job; null, or the error's message. */
  const ask = async (prompt: string): Promise<string | null> => {
    const params = generateParams(prompt, folder);
    const asked =
      kind === 'sdxl'
        ? engines.call('sdxl', 'sdxl.generate', params)
        : kind === 'wan'
          ? engines.call('wan', 'wan.generate', {
              ...params,
              frames: 1,
              output: 'image',
              references: {},
            } as unknown as WanGenerateParams)
          : engines.call('qwen', 'qwen.generate', {
              mode: 'completion',
              prompt,
              maxTokens: 8,
              maxInputTokens: 8,
            } as unknown as QwenGenerateParams);
    return asked.then(
      () => null,
      (error: unknown) => (error instanceof Error ? error.message : String(error)),
    );
  };
  const up = () => ['ready', 'busy'].includes(engines.status(kind).state);
  return {
    ...app,
    flag,
    lines,
    states,
    ask,
    status: () => engines.status(kind),
    async route(): Promise<WorkerState | null> {
      const body = (await app.call('GET', '/worker/status')).json<{ workers: Record<string, WorkerState> }>();
      return body.workers[kind] ?? null;
    },
    health: async () => (await app.inject({ url: '/health' })).json<{ status: string }>().status,
    metric: async (name: string) =>
      (await app.registry.metrics())
        .split('\n')
        .find(
          (line) => line.startsWith(`${name}{`) && line.includes(`engine="${kind}"`) && !/ 0$/.test(line),
        ),
    lastExit: async () =>
      (await app.call('GET', `/worker/${kind}/logs`)).json<{
        last_exit: Record<string, unknown> | null;
        lines: string[];
      }>(),
    /** Another process, ready. */
    async back(before: number | null) {
      await until('its recovery', () => up() && engines.status(kind).pid !== before);
    },
  };
}

for (const kind of ['sdxl', 'wan', 'qwen'] as const) {
  t.test(`${kind}: kill -9, SIGSTOP, hang, leak, crash loop`, async (t) => {
    const engine = await assemble(t, kind);
    t.equal(await engine.ask('a circle'), null);
    // Without an engine that draws the service is not well, whatever Qwen does.
    const well = kind === 'qwen' ? 'degraded' : 'healthy';
    t.equal(await engine.health(), well);

    /** Provokes an end, and checks what everybody says of it. */
    async function ends(
      trouble: string,
      provoke: () => Promise<unknown>,
      { errors = 1, ...expected }: { reason: RegExp; stage: string | null; errors?: number },
    ) {
      const before = engine.status();
      engine.states.length = 0;
      engine.lines.length = 0;
      await provoke();
      await until(`${trouble} is noticed`, () => engine.status().restarts === before.restarts + 1);
      await engine.back(before.pid);
      t.ok(
        engine.states.includes('restarting') || engine.states.includes('backing_off'),
        `${trouble}: ${engine.states.join(' ')}`,
      );
      t.equal(engine.status().errorCount, before.errorCount + errors, `${trouble}: errors counted`);
      const { last_exit: lastExit, lines } = await engine.lastExit();
      t.match(lastExit, {
        reason: expected.reason,
        signal: 'SIGKILL',
        exit_code: null,
        stage: expected.stage,
      });
      t.ok(
        lines.some((line) => line.includes(' supervisor ') && expected.reason.test(line)),
        'its end stands among its lines',
      );
      t.match(
        engine.lines.find(({ level, engine: of }) => level === 50 && of === kind),
        { signal: 'SIGKILL', stage: expected.stage, msg: expected.reason },
        'said in the log',
      );
      t.match(await engine.metric('ourvidz_engine_restarts_total'), new RegExp(` ${before.restarts + 1}$`));
      t.match(await engine.route(), {
        status: 'active',
        state: 'ready',
        restarts: before.restarts + 1,
        error_count: before.errorCount + errors,
        reason: null,
        trouble: null,
        last_operation: { ok: true },
      });
      t.equal(await engine.ask('a circle'), null, `${trouble}: it works again`);
      t.equal(await engine.health(), well);
    }

    await ends(
      'kill -9',
      async () => {
        process.kill(engine.status().pid ?? 0, 'SIGKILL');
      },
      { reason: /died from SIGKILL/, stage: null },
    );
    await ends('SIGSTOP', async () => t.match(await engine.ask('stops'), /no heartbeat/), {
      reason: /no heartbeat for/,
      stage: kind === 'qwen' ? 'denoise 1/2' : 'denoise 1/4',
    });
    await ends('a hang', async () => t.match(await engine.ask('hangs'), /no progress/), {
      reason: /no progress in stage denoise/,
      stage: kind === 'qwen' ? 'denoise 1/2' : 'denoise 1/4',
    });
    await ends(
      'a broken device',
      async () => t.match(await engine.ask('breaks for good'), /illegal memory access/),
      { reason: /its device no longer works/, stage: null, errors: 2 },
    );

    const { pid, errorCount } = engine.status();
    for (const prompt of ['leaks', 'leaks']) t.equal(await engine.ask(prompt), null);
    await engine.back(pid);
    t.equal(engine.status().errorCount, errorCount, 'a recycling is no error');
    t.ok(engine.lines.some(({ msg }) => /recycled: its memory grew by/.test(String(msg))));

    await rm(engine.flag);
    const restarts = engine.status().restarts;
    process.kill(engine.status().pid ?? 0, 'SIGKILL');
    await until('the crash loop is given up', () => engine.status().state === 'failed');
    t.equal(engine.status().restarts, restarts + 4, 'once at work, three starts');
    t.match(
      engine.status().reason,
      /3 starts in a row failed; the last one ended with exit code 7 during load/,
    );
    t.match(await engine.metric('ourvidz_engine_state'), /state="failed"\} 1$/);
    t.equal(await engine.health(), kind === 'qwen' ? 'degraded' : 'unhealthy');
    const ready = await engine.inject({ url: '/ready' });
    t.match(
      [ready.statusCode, ready.json<{ reasons: string[] }>().reasons],
      [
        503,
        [
          ...(kind === 'qwen' ? [/^there is no engine that draws/] : []),
          new RegExp(`^the ${kind} engine has failed: 3 starts in a row failed`),
        ],
      ],
    );
    t.match(await engine.route(), {
      status: 'failed',
      trouble: `the ${kind} engine has failed`,
      last_operation: { ok: false },
    });
    t.ok(
      (await engine.lastExit()).lines.some((line) => line.includes('cannot allocate device memory')),
      'what it wrote before it died',
    );
    t.match(await engine.ask('a circle'), /engine has failed/, 'refused at once, not kept waiting');

    await writeFile(engine.flag, '');
    t.equal((await engine.call('POST', `/worker/restart/${kind}`)).statusCode, 200);
    await engine.back(null);
    t.equal(await engine.ask('a circle'), null);
    t.equal(await engine.health(), well);
  });
}

t.test('probed while the engine is at full load, stopped, dead or out of memory', async (t) => {
  const engine = await assemble(t, 'sdxl');
  await until('ready', () => engine.status().state === 'ready');
  const drawing = engine.ask('blocks 700');
  await until('busy', () => engine.status().state === 'busy');
  const [health, ready] = await Promise.all([engine.health(), engine.inject({ url: '/ready' })]);
  t.same([health, ready.statusCode], ['healthy', 200], 'busy is healthy');
  t.equal(await drawing, null);

  const failing = engine.ask('runs out of memory');
  await until(
    'its failure',
    () => engine.status().lastOperation?.ok === false || engine.status().failuresInRow === 1,
  );
  t.match(await failing, /no memory left/);
  await until('the look at the device', () => engine.status().lastOperation?.ok === true);
  t.equal(await engine.health(), 'healthy', 'the device works; it was the job');

  await rm(engine.flag);
  const { pid } = engine.status();
  process.kill(pid ?? 0, 'SIGKILL');
  await until('its death', () => engine.status().pid !== pid);
  t.ok(
    ['degraded', 'unhealthy'].includes(await engine.health()),
    'a dead engine is not called healthy while it comes back',
  );
  await writeFile(engine.flag, '');
  await engine.back(pid);
  t.equal(await engine.health(), 'healthy');
});
