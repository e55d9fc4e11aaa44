import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { isAlive } from '../../src/lib/processes.js';
import type { EngineEvent } from '../../src/inference/engine-protocol.js';
import { EngineError } from '../../src/services/engines/engine-error.js';
import type { SupervisorOptions } from '../../src/services/engines/engine-options.js';
import { createSupervisor } from '../../src/services/engines/supervisor.js';
import type { EngineState } from '../../src/services/engines/engine-status.js';
import { generateParams, testEngine, until } from './support.js';

function supervise(test: Test, options: Partial<SupervisorOptions> & { onLoad?: string } = {}) {
  const supervisor = createSupervisor(testEngine(options));
  const states: EngineState[] = [];
  supervisor.onChange(() => {
    const { state } = supervisor.status();
    if (states.at(-1) !== state) states.push(state);
  });
  const outputDir = test.testdir();
  test.teardown(() => supervisor.stop({ force: true }));
  return {
    supervisor,
    states,
    outputDir,
    draw: (prompt: string, rest = {}, call = {}) =>
      supervisor.call('sdxl.generate', generateParams(prompt, outputDir, rest), call),
  };
}

async function failure(promise: Promise<unknown>): Promise<EngineError> {
  try {
    await promise;
  } catch (error) {
    if (error instanceof EngineError) return error;
    throw error;
  }
  throw new Error('expected a failure');
}

t.test('starts, loads, warms up, works and stops', async (t) => {
  const { supervisor, states, draw } = supervise(t);
  t.match(supervisor.status(), { state: 'stopped', pid: null, reason: 'not started yet' });
  supervisor.start();
  await supervisor.whenReady();
  t.same(states, ['starting', 'warming', 'ready']);
  const events: EngineEvent[] = [];
  const result = await draw(
    'a circle',
    { numImages: 2 },
    { onEvent: (event: EngineEvent) => events.push(event) },
  );
  t.equal(result.files.length, 2);
  t.same(events.filter((event) => event.kind === 'progress' && event.stage === 'denoise').length, 4);
  t.ok(events.some((event) => event.kind === 'computeDone'));
  t.match(supervisor.status(), {
    state: 'ready',
    jobsProcessed: 1,
    errorCount: 0,
    restarts: 0,
    loaded: { model: { name: 'test engine' } },
  });
  await until('a memory report', () => supervisor.status().memory !== null);
  const { pid } = supervisor.status();
  await supervisor.stop({ force: false });
  t.match(supervisor.status(), { state: 'stopped', pid: null });
  t.notOk(isAlive(pid ?? 0), 'its process is gone');
});

t.test('a crash at work rejects the call with its cause and the engine is back at once', async (t) => {
  const { supervisor, states, draw } = supervise(t, { restartBaseMs: 60_000 });
  supervisor.start();
  const error = await failure(draw('crashes always'));
  t.match(error, {
    code: 'engine_died',
    retryable: true,
    exit: { signal: 'SIGKILL', code: null, reason: null, lastStage: 'denoise 1/4' },
  });
  await supervisor.whenReady({ patient: true });
  t.notOk(states.includes('backing_off'), 'the first restart after a crash at work does not wait');
  t.match(supervisor.status(), { errorCount: 1, restarts: 1 });
  t.equal((await draw('a circle')).files.length, 1);
});

t.test(
  'crashes at work in a row are followed by growing delays; an answered request forgets them',
  async (t) => {
    const { supervisor, states, draw } = supervise(t, { restartBaseMs: 30 });
    supervisor.start();
    await failure(draw('crashes always'));
    await failure(draw('crashes always'));
    await supervisor.whenReady({ patient: true });
    t.equal(states.filter((state) => state === 'backing_off').length, 1);
    await draw('a circle');
    await failure(draw('crashes always'));
    await supervisor.whenReady({ patient: true });
    t.equal(states.filter((state) => state === 'backing_off').length, 1, 'no delay after a success');
  },
);

t.test('keeps the last lines and says exit code and stage', async (t) => {
  const { supervisor, draw } = supervise(t);
  supervisor.start();
  const error = await failure(draw('exits 3'));
  t.match(error.message, /ended with exit code 3 during denoise 1\/4/);
  t.ok(supervisor.logs().some((line) => line.includes('giving up')));
});

t.test('a process stopped by SIGSTOP is found by its silent heartbeat', async (t) => {
  const { supervisor, draw } = supervise(t, { heartbeatTimeoutMs: 600 });
  supervisor.start();
  const error = await failure(draw('stops'));
  t.match(error, { code: 'engine_died', exit: { signal: 'SIGKILL', reason: /no heartbeat/ } });
  await supervisor.whenReady({ patient: true });
});

t.test('a hang is found by the watchdog of its stage, a long native call is not taken for one', async (t) => {
  const { supervisor, draw } = supervise(t, { stageLimitsMs: { denoise: 700 } });
  supervisor.start();
  t.equal((await draw('blocks 400')).files.length, 1, 'blocked main thread, beating heart');
  const error = await failure(draw('hangs'));
  t.match(error.exit?.reason, /no progress in stage denoise/);
  t.match(error.exit?.lastStage, 'denoise 1/4');
});

t.test('a clock that is set back neither hides a hang nor makes an engine younger', async (t) => {
  const { supervisor, draw } = supervise(t, { stageLimitsMs: { denoise: 700 }, stablePeriodMs: 0 });
  supervisor.start();
  await supervisor.whenReady();
  const { now } = Date;
  t.teardown(() => {
    Date.now = now;
  });
  const setBack = () => {
    Date.now = () => now() - 3_600_000;
  };
  const error = await failure(draw('hangs', {}, { onEvent: setBack }));
  t.match(error.exit?.reason, /no progress in stage denoise/);
  await supervisor.whenReady({ patient: true });
  t.ok(supervisor.status().uptimeSeconds >= 0);
});

t.test(
  'a request that is being encoded beside a long native step of another one is not taken for a hang, nor for deaf',
  async (t) => {
    const { supervisor, draw } = supervise(t, {
      stageLimitsMs: { denoise: 20_000, encode: 1500 },
      cancelGraceMs: 1500,
    });
    supervisor.start();
    await supervisor.whenReady();
    const { pid } = supervisor.status();
    for (const cancelled of [false, true]) {
      const controller = new AbortController();
      const encoded = draw('encodes slowly', {}, { signal: controller.signal });
      // The main thread is gone for longer than an encoding may be silent.
      const blocking = draw('blocks 3000');
      if (cancelled) setTimeout(() => controller.abort(), 200);
      t.equal((await encoded).files.length, 1);
      t.equal((await blocking).files.length, 1);
    }
    t.equal(supervisor.status().pid, pid, 'the same process');
    const [hung, beside] = await Promise.all([
      failure(draw('hangs in encode')),
      failure(draw('is slow', { steps: 200 })),
    ]);
    t.match(
      hung,
      { bystander: false, exit: { reason: /no progress in stage encode/, lastStage: 'encode 1/1' } },
      'a hang is still found',
    );
    t.equal(beside.bystander, true, 'and not blamed on who computed');
  },
);

t.test('cancels between steps; a lost cancel ends the process', async (t) => {
  const { supervisor, draw } = supervise(t);
  supervisor.start();
  const first = new AbortController();
  const drawing = draw(
    'is slow',
    { steps: 100 },
    {
      signal: first.signal,
      onEvent: (event: EngineEvent) => {
        if (event.kind === 'progress' && event.step === 2) first.abort();
      },
    },
  );
  t.match(await failure(drawing), { code: 'cancelled', retryable: false });
  const { pid } = supervisor.status();
  const second = new AbortController();
  const deaf = draw(
    'is slow and ignores cancel',
    { steps: 500 },
    {
      signal: second.signal,
      onEvent: (event: EngineEvent) => {
        if (event.kind === 'progress' && event.step === 2) second.abort();
      },
    },
  );
  t.match(await failure(deaf), { code: 'engine_died', exit: { reason: /did not stop/ } });
  await supervisor.whenReady({ patient: true });
  t.not(supervisor.status().pid, pid);
});

t.test('typed errors leave the process alone, a lost device replaces it', async (t) => {
  const { supervisor, draw } = supervise(t);
  supervisor.start();
  t.match(await failure(draw('runs out of memory')), { code: 'out_of_memory', retryable: true });
  t.match(await failure(draw('is invalid')), {
    code: 'invalid_parameters',
    retryable: false,
    field: 'config.width',
  });
  t.match(supervisor.status(), { state: 'ready', restarts: 0 });
  t.match(await failure(draw('loses the device')), { code: 'device_lost', retryable: true });
  await until('the restart', () => supervisor.status().restarts === 1);
  await supervisor.whenReady({ patient: true });
});

t.test('after a failed job the device is looked at: it works, or its process is replaced', async (t) => {
  const { supervisor, draw } = supervise(t);
  supervisor.start();
  t.match(await failure(draw('runs out of memory')), { code: 'out_of_memory' });
  t.match(supervisor.status(), { lastOperation: { ok: false, message: /no memory left/ }, failuresInRow: 1 });
  await until('the look', () => supervisor.status().lastOperation?.ok === true);
  t.match(supervisor.status(), { restarts: 0, failuresInRow: 1 });
  const { pid } = supervisor.status();
  t.match(await failure(draw('breaks for good')), { code: 'engine_failed' });
  await until(
    'another process',
    () => supervisor.status().restarts === 1 && supervisor.status().state === 'ready',
  );
  t.not(supervisor.status().pid, pid);
  t.match(supervisor.status(), {
    lastExit: { reason: /its device no longer works: an illegal memory access/, signal: 'SIGKILL' },
    lastOperation: { ok: true },
    recovering: false,
  });
  t.ok(
    supervisor.logs().some((line) => /supervisor was killed \(its device no longer works/.test(line)),
    'the reason stands among its lines',
  );
  t.equal((await draw('a circle')).files.length, 1);
});

t.test('three jobs in a row that fail cost the process its place', async (t) => {
  const { supervisor, draw } = supervise(t);
  supervisor.start();
  for (let time = 0; time < 3; time += 1)
    t.match(await failure(draw('runs out of memory')), { code: 'out_of_memory' });
  await until(
    'another process',
    () => supervisor.status().restarts === 1 && supervisor.status().state === 'ready',
  );
  t.match(supervisor.status(), { failuresInRow: 0, errorCount: 3 }, 'a recycling is no error');
});

t.test('crashes while loading back off, growing, and recover by themselves', async (t) => {
  const flag = path.join(t.testdir({}), 'go');
  const { supervisor, states } = supervise(t, { onLoad: `crash-until:${flag}`, maxFailedStarts: 50 });
  supervisor.start();
  await until('three failed starts', () => supervisor.status().errorCount >= 3);
  t.ok(states.includes('backing_off'));
  await until('a reason', () =>
    /exit code 7 during load; next start in/.test(supervisor.status().reason ?? ''),
  );
  writeFileSync(flag, '');
  await supervisor.whenReady({ patient: true });
  t.ok(supervisor.logs().some((line) => line.includes('cannot allocate device memory')));
});

t.test('a crash loop ends in failed with the reason; a restart on request tries again', async (t) => {
  const { supervisor } = supervise(t, { onLoad: 'crash', maxFailedStarts: 2, restartBaseMs: 20 });
  supervisor.start();
  await until('failed', () => supervisor.status().state === 'failed');
  t.match(supervisor.status().reason, /2 starts in a row failed; the last one died from SIGSEGV during load/);
  t.match(await failure(supervisor.whenReady()), { code: 'engine_unavailable' });
  const before = supervisor.status().errorCount;
  supervisor.restart({ force: false });
  await until('two more starts', () => supervisor.status().errorCount === before + 2);
});

t.test('a missing model is failed at once', async (t) => {
  const { supervisor } = supervise(t, { onLoad: 'missing' });
  supervisor.start();
  await until('failed', () => supervisor.status().state === 'failed');
  t.match(supervisor.status(), { errorCount: 1, reason: /no model in none/ });
});

t.test('a start that hangs is killed by the watchdog', async (t) => {
  const { supervisor } = supervise(t, { onLoad: 'hang', stageLimitsMs: { load: 300 } });
  supervisor.start();
  await until('a reason', () => /no progress in stage load/.test(supervisor.status().reason ?? ''));
  t.match(supervisor.status(), { loaded: null, jobsProcessed: 0 });
  const silent = supervise(t, { env: { TEST_ENGINE_SILENT: '1' }, helloTimeoutMs: 300 });
  silent.supervisor.start();
  await until('a reason', () => /did not report in/.test(silent.supervisor.status().reason ?? ''));
});

t.test('restart drains first; force does not', async (t) => {
  const { supervisor, states, draw } = supervise(t);
  supervisor.start();
  await supervisor.whenReady();
  const { pid } = supervisor.status();
  const drawing = draw('is slow', { steps: 10 });
  await until('busy', () => supervisor.status().state === 'busy');
  supervisor.restart({ force: false });
  t.equal(supervisor.status().state, 'draining');
  const later = draw('a circle');
  t.equal((await drawing).files.length, 1, 'the running request ended well');
  t.equal((await later).files.length, 1, 'the next one waited for the new process');
  t.not(supervisor.status().pid, pid);
  t.ok(states.includes('restarting'));
  t.notOk(states.includes('backing_off'));
  const forced = draw('is slow', { steps: 1000 });
  await until('busy', () => supervisor.status().state === 'busy');
  supervisor.restart({ force: true });
  t.match(await failure(forced), { code: 'engine_died', exit: { reason: 'restart' } });
  await supervisor.whenReady();
  t.equal(supervisor.status().errorCount, 0, 'a restart on request is no error');
});

t.test('recycles after N jobs and on memory growth', async (t) => {
  const byJobs = supervise(t, { recycleAfterJobs: 2 });
  byJobs.supervisor.start();
  for (const prompt of ['one', 'two', 'three']) await byJobs.draw(prompt);
  t.match(byJobs.supervisor.status(), { restarts: 1, errorCount: 0, jobsProcessed: 3 });

  const byMemory = supervise(t, { recycleGrowthBytes: 60 * 2 ** 20 });
  byMemory.supervisor.start();
  for (const prompt of ['leaks', 'leaks']) await byMemory.draw(prompt);
  await until('the recycling', () => byMemory.supervisor.status().restarts === 1);
});

t.test('recycles under steady load, too, where one request begins before the last has ended', async (t) => {
  for (const options of [{ recycleAfterJobs: 3 }, { recycleGrowthBytes: 60 * 2 ** 20 }]) {
    const { supervisor, states, draw } = supervise(t, options);
    supervisor.start();
    await supervisor.whenReady();
    await until('its first measure', () => supervisor.status().memory !== null);
    const drawing: Array<Promise<unknown>> = [];
    while (!states.includes('draining') && drawing.length < 100) {
      drawing.push(draw('leaks, encodes slowly'));
      await sleep(100);
    }
    await Promise.all(drawing);
    t.ok(drawing.length < 100, JSON.stringify(options));
    await until('its replacement', () => supervisor.status().restarts >= 1);
    t.equal(supervisor.status().errorCount, 0);
  }
});

t.test('a restart while it is being ended for another: it ends first', async (t) => {
  const { supervisor, draw } = supervise(t);
  supervisor.start();
  const drawing = draw('encodes slowly');
  await until('work', () => supervisor.status().state === 'busy');
  const { pid } = supervisor.status();
  let ended = false;
  const ending = supervisor.stop({ force: false, rest: 'stopped to make room for wan' }).then(() => {
    ended = true;
  });
  supervisor.restart({ force: false });
  await drawing;
  await until('its end', () => ended);
  await ending;
  t.notOk(isAlive(pid ?? 0));
  await supervisor.whenReady({ patient: true });
  t.match(supervisor.status(), { state: 'ready', errorCount: 0 });
});

t.test('a process that cannot even be started is a failed start like others', async (t) => {
  // one environment string of this length is more than Linux takes, and fork throws
  const { supervisor } = supervise(t, {
    env: { PATH: process.env['PATH'], TOO_LONG: 'x'.repeat(200_000) },
    maxFailedStarts: 2,
    failedRetryMs: 0,
  });
  supervisor.start();
  await until('failed', () => supervisor.status().state === 'failed');
  t.match(supervisor.status(), { state: 'failed', reason: /E2BIG/, lastExit: { reason: /E2BIG/ } });
  t.match(await failure(supervisor.whenReady()), { code: 'engine_unavailable' });
});

t.test('a cancelled request may finish loading its model: others wait for the same one', async (t) => {
  const { supervisor, draw } = supervise(t, { cancelGraceMs: 200 });
  supervisor.start();
  const controller = new AbortController();
  const drawing = draw(
    'loads first',
    {},
    {
      signal: controller.signal,
      onEvent: (event: EngineEvent) => {
        if (event.kind === 'progress' && event.stage === 'load') controller.abort();
      },
    },
  );
  t.match(await failure(drawing), { code: 'cancelled' });
  t.match(supervisor.status(), { restarts: 0, errorCount: 0 });
});

t.test('a lazy engine starts with its first request and can be released', async (t) => {
  const { supervisor, draw } = supervise(t, { lazy: true });
  t.equal(supervisor.status().pid, null);
  await draw('a circle');
  t.ok(supervisor.status().pid);
  await supervisor.stop({ force: false });
  t.match(supervisor.status(), { state: 'stopped', reason: 'starts with its first request' });
  await draw('a circle');
  t.equal(supervisor.status().state, 'ready');
});

t.test('a healthy busy engine is never killed: 1,000 quick requests', async (t) => {
  const { supervisor, draw } = supervise(t, {
    heartbeatTimeoutMs: 1000,
    stageLimitsMs: { denoise: 1000, waiting: 1000, text: 1000, decode: 1000, encode: 1000 },
  });
  supervisor.start();
  for (let block = 0; block < 20; block += 1)
    await Promise.all(
      Array.from({ length: 50 }, (_, index) => draw(index === 7 ? 'blocks 30' : `picture ${index}`)),
    );
  t.match(supervisor.status(), { jobsProcessed: 1000, restarts: 0, errorCount: 0 });
});
