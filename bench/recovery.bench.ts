/**
 * How long an engine is away after each kind of failure, until it is `ready` again, and what `/health`
 * says meanwhile. First the real service with real engines, limits and delays, at kill and stop; then, for
 * what real engines do not do on command, the test engine under the same supervisor. Gate: each within what
 * docs/operations.md states plus a start.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { SupervisorOptions } from '../src/services/engines/engine-options.js';
import { createSupervisor } from '../src/services/engines/supervisor.js';
import { generateParams, testEngine, until } from '../test/engines/support.js';
import { childProcesses } from '../test/helpers/processes.js';
import { startService } from '../test/helpers/service-process.js';
import { markdownTable } from './statistics.js';

type Kind = 'sdxl' | 'wan';
interface State {
  status: string;
  restarts: number;
  reason: string | null;
}
interface Away {
  seconds: number;
  health: string[];
}

const rows: string[][] = [];
let missed = 0;

/** `stated` seconds, and a start, which takes its time again on a machine that may be busier now. */
function note(
  engine: string,
  trouble: string,
  { seconds, health }: Away,
  stated: number,
  start: number,
): void {
  const late = seconds > stated + 2 * start + 2;
  if (late) missed += 1;
  rows.push([
    engine,
    trouble,
    seconds.toFixed(1),
    stated === 0 ? 'at once' : `${stated} s`,
    `${health.join(' → ')}${late ? ' LATE' : ''}`,
  ]);
}

await realEngines();
await Promise.all([testEngines(), crashLoop('sdxl', 150), crashLoop('wan', 225)]);
process.stdout.write(
  `${markdownTable(['engine', 'trouble', 'until ready, s', 'stated, before a start', '`/health` meanwhile'], rows)}\n`,
);
process.exitCode = missed > 0 ? 1 : 0;

async function realEngines(): Promise<void> {
  const service = await startService({ env: { LOG_LEVEL: 'error' }, readyTimeoutMs: 180_000 });
  try {
    for (const kind of ['sdxl', 'wan'] as const) {
      // Behind a restart on request nothing that happened before counts.
      const restarted = await away(kind, 'a restart', () =>
        service.send('POST', `/worker/restart/${kind}`).then(() => undefined),
      );
      const start = restarted.seconds;
      note(kind, 'restart on request', restarted, 0, start);
      note(kind, 'kill -9', await away(kind, 'kill -9', () => signal(kind, 'SIGKILL')), 0, start);
      note(
        kind,
        'kill -9 again at once',
        await away(kind, 'kill -9 again', () => signal(kind, 'SIGKILL')),
        (kind === 'sdxl' ? 10 : 15) * 1.2,
        start,
      );
      await away(kind, 'a restart', () =>
        service.send('POST', `/worker/restart/${kind}`).then(() => undefined),
      );
      note(kind, 'SIGSTOP', await away(kind, 'SIGSTOP', () => signal(kind, 'SIGSTOP')), 21, start);
    }
  } finally {
    await service.cleanUp();
  }

  async function away(kind: Kind, what: string, blow: () => Promise<void>): Promise<Away> {
    const state = async () =>
      ((await service.getJson('/worker/status')) as { workers: Record<Kind, State> }).workers[kind];
    const { restarts } = await state();
    const health: string[] = [];
    const startedAt = performance.now();
    await blow();
    for (;;) {
      const now = await state();
      const { status } = (await service.getJson('/health')) as { status: string };
      if (health.at(-1) !== status) health.push(status);
      const seconds = (performance.now() - startedAt) / 1000;
      if (now.status === 'ready' && now.restarts > restarts) return { seconds, health };
      if (seconds > 120) throw new Error(`${kind} is not back after ${what}: ${JSON.stringify(now)}`);
      await sleep(50);
    }
  }

  /** The engine's process is a child of the service, named by its argument. */
  async function signal(kind: Kind, name: NodeJS.Signals): Promise<void> {
    const child = childProcesses(service.pid()).find(({ command }) =>
      command.endsWith(`engine-main.js ${kind}`),
    );
    if (child === undefined) throw new Error(`there is no ${kind} process`);
    process.kill(child.pid, name);
  }
}

/** Limits of the product but for the stage's, which is minutes long. */
function supervised(options: Partial<SupervisorOptions> & { kind?: Kind; onLoad?: string } = {}) {
  const { entry, env, log, load, kind } = testEngine(options);
  const { onLoad: _, ...settings } = options;
  return createSupervisor({ entry, env, log, load, ...settings, kind });
}

async function testEngines(): Promise<void> {
  const stageSeconds = 5;
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-recovery-'));
  const supervisor = supervised({
    stageLimitsMs: { denoise: stageSeconds * 1000 },
    recycleGrowthBytes: 50 * 2 ** 20,
  });
  supervisor.start();
  try {
    const startedAt = performance.now();
    await supervisor.whenReady();
    const start = (performance.now() - startedAt) / 1000;
    for (const [trouble, prompt, stated] of [
      [`hang in a step, limit ${stageSeconds} s`, 'hangs', stageSeconds + 1],
      ['device broken', 'breaks for good', 0],
      ['device lost', 'loses the device', 0],
      ['leak beyond the growth limit', 'leaks', 0],
    ] as const) {
      const { restarts } = supervisor.status();
      const blowAt = performance.now();
      await supervisor.call('sdxl.generate', generateParams(prompt, folder)).catch(() => {});
      await until(
        trouble,
        () => supervisor.status().restarts > restarts && supervisor.status().state === 'ready',
        60_000,
      );
      note(
        'test engine',
        trouble,
        { seconds: (performance.now() - blowAt) / 1000, health: [] },
        stated,
        start,
      );
      // A success, so that the next trouble is a first one.
      await supervisor.call('sdxl.generate', generateParams('a circle', folder));
    }
  } finally {
    await supervisor.stop({ force: true });
    await rm(folder, { recursive: true, force: true });
  }
}

/** Crashes whenever it starts: how long until it is given up. */
async function crashLoop(kind: Kind, stated: number): Promise<void> {
  const supervisor = supervised({ kind, onLoad: 'crash' });
  const startedAt = performance.now();
  supervisor.start();
  await until('the end of the crash loop', () => supervisor.status().state === 'failed', 400_000);
  note(
    `test engine as ${kind}`,
    'crash at each of 5 starts, until `failed`',
    { seconds: (performance.now() - startedAt) / 1000, health: [] },
    stated * 1.2,
    1,
  );
  await supervisor.stop({ force: true });
}
