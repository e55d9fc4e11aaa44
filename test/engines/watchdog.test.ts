import t from 'tap';
import type { PendingRequest } from '../../src/services/engines/engine-requests.js';
import {
  createWatchdog,
  defaultStageLimitsMs,
  measuredLimitMs,
} from '../../src/services/engines/watchdog.js';

/** A watchdog on a clock of its own, looking as often as it wants to. */
function watch() {
  let nowMs = 5_000_000;
  const requests: PendingRequest[] = [];
  const watchdog = createWatchdog(
    {
      helloTimeoutMs: 60_000,
      heartbeatTimeoutMs: 20_000,
      cancelGraceMs: 60_000,
      stageLimitsMs: defaultStageLimitsMs,
    },
    () => nowMs,
  );
  return {
    watchdog,
    requests,
    now: () => nowMs,
    /** This process stands still. */
    standStill(seconds: number) {
      nowMs += seconds * 1000;
    },
    look: () => watchdog.look(requests)?.reason ?? null,
    /** The first reason within so many seconds, with a heartbeat a second or none. */
    pass(seconds: number, { beats = true } = {}): string | null {
      for (const end = nowMs + seconds * 1000; nowMs < end;) {
        nowMs += watchdog.intervalMs;
        if (beats) watchdog.beat();
        const reason = watchdog.look(requests)?.reason ?? null;
        if (reason !== null) return reason;
      }
      return null;
    },
    ask(stage: PendingRequest['stage'], more: Partial<PendingRequest> = {}): PendingRequest {
      const request: PendingRequest = {
        method: 'sdxl.generate',
        jobId: 'job',
        stage,
        step: 0,
        steps: 0,
        sinceMs: nowMs,
        longestStepMs: 0,
        cancelledAtMs: null,
        computeDone: false,
        onEvent: undefined,
        expectedStageSeconds: {},
        resolve: () => {},
        reject: () => {},
        ...more,
      };
      requests.push(request);
      return request;
    },
  };
}

t.test('a process that never says hello', async (t) => {
  const { pass } = watch();
  t.equal(pass(59), null);
  t.equal(pass(2), 'did not report in within 60 s of its start');
});

t.test('a heart that stops, not one that was not heard because this process stood still', async (t) => {
  const { watchdog, pass, standStill, look } = watch();
  watchdog.hello();
  t.equal(pass(60), null);
  standStill(600);
  t.equal(look(), null, 'beats wait unread');
  t.equal(pass(18, { beats: false }), null);
  t.equal(pass(3, { beats: false }), 'no heartbeat for 20 s');
});

t.test('a request without progress; standing still itself is not its fault', async (t) => {
  const { watchdog, pass, standStill, look, ask } = watch();
  watchdog.hello();
  ask('text');
  t.equal(pass(200), null);
  standStill(5000);
  t.equal(look(), null);
  t.equal(pass(98), null);
  t.equal(pass(4), 'no progress in stage text for 300 s');
});

t.test('waiting behind another one is no hang; waiting for nobody is', async (t) => {
  const { watchdog, pass, requests, ask, now } = watch();
  watchdog.hello();
  const first = ask('denoise', { steps: 4 });
  ask('waiting');
  for (let step = 0; step < 5; step += 1) {
    first.sinceMs = now();
    t.equal(pass(500), null);
  }
  requests.shift();
  t.equal(pass(119), null);
  t.equal(pass(2), 'no progress in stage waiting for 120 s');
});

t.test('a cancellation that is not heard: three of its longest steps, at least the grace', async (t) => {
  for (const [longestStepMs, seconds] of [
    [1000, 60],
    [100_000, 300],
  ] as const) {
    const { watchdog, pass, ask, now } = watch();
    watchdog.hello();
    const request = ask('denoise', { steps: 4, longestStepMs, cancelledAtMs: now() });
    t.equal(pass(seconds - 1), null);
    t.equal(pass(2), `did not stop within ${seconds} s after a cancellation`);
    t.equal(request.stage, 'denoise');
  }
});

t.test('limits from measured times: by the part, never above the default, never impatient', async (t) => {
  t.equal(measuredLimitMs('denoise', 600_000, undefined, 25), 600_000, 'nothing measured');
  t.equal(measuredLimitMs('denoise', 600_000, 500, 25), 200_000, 'ten times the 20 s a step takes');
  t.equal(measuredLimitMs('denoise', 600_000, 2, 25), 60_000, 'quick stages have a minute');
  t.equal(measuredLimitMs('denoise', 600_000, 5000, 1), 600_000, 'the default is the most');
  t.equal(
    measuredLimitMs('text', 300_000, 0.001, 1),
    300_000,
    'a text that was known already says nothing about a new one',
  );
});
