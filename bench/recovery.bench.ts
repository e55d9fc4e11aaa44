/**
 * How long an engine is away after each kind of trouble, on the real service with its real limits and delays: from the
 * blow to `ready` again. Gate: each within what docs/operations.md states plus the time a start takes.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { startService } from '../test/helpers/service-process.js';
import { markdownTable } from './statistics.js';

type Kind = 'sdxl' | 'wan';
interface State { status: string; restarts: number; uptime: number; reason: string | null }

const service = await startService({ env: { LOG_LEVEL: 'error' }, readyTimeoutMs: 180_000 });
try {
  const rows: Array<[string, string, string, string]> = [];
  let missed = 0;
  for (const kind of ['sdxl', 'wan'] as const) {
    // Behind a restart on request nothing that happened before counts.
    const fresh = await away(kind, 'restart on request', () => service.send('POST', `/worker/restart/${kind}`).then(() => undefined));
    note(kind, 'restart on request', fresh, 0, fresh);
    note(kind, 'kill -9', await away(kind, 'kill -9', () => signal(kind, 'SIGKILL')), 0, fresh);
    const baseSeconds = kind === 'sdxl' ? 10 : 15;
    note(kind, 'kill -9 again at once', await away(kind, 'kill -9 again', () => signal(kind, 'SIGKILL')), baseSeconds * 1.2, fresh);
    await service.send('POST', `/worker/restart/${kind}`);
    await ready(kind, 'restart');
    note(kind, 'SIGSTOP', await away(kind, 'SIGSTOP', () => signal(kind, 'SIGSTOP')), 21, fresh);
  }
  process.stdout.write(`${markdownTable(['engine', 'trouble', 'away, s', 'stated: at most, s, and a start'], rows)}\n`);
  process.exitCode = missed > 0 ? 1 : 0;

  function note(kind: Kind, trouble: string, seconds: number, statedSeconds: number, startSeconds: number): void {
    // A start takes its time again, on a machine that may be busier now.
    if (seconds > statedSeconds + 2 * startSeconds + 2) missed += 1;
    rows.push([kind, trouble, seconds.toFixed(1), statedSeconds === 0 ? '0' : String(statedSeconds)]);
  }
} finally {
  await service.cleanUp();
}

async function state(kind: Kind): Promise<State> {
  return (await service.getJson('/worker/status') as { workers: Record<Kind, State> }).workers[kind];
}

async function ready(kind: Kind, what: string, restarts = -1): Promise<void> {
  const deadline = Date.now() + 120_000;
  for (;;) {
    const now = await state(kind);
    if (now.status === 'ready' && now.restarts > restarts) return;
    if (Date.now() > deadline) throw new Error(`${kind} is not back after ${what}: ${JSON.stringify(now)}`);
    await sleep(50);
  }
}

/** Seconds from the blow to `ready`. */
async function away(kind: Kind, what: string, blow: () => Promise<void>): Promise<number> {
  const { restarts } = await state(kind);
  const startedAt = performance.now();
  await blow();
  await ready(kind, what, restarts);
  return (performance.now() - startedAt) / 1000;
}

/** The engine's process is a child of the service, named by its argument. */
async function signal(kind: Kind, name: NodeJS.Signals): Promise<void> {
  const { childProcesses } = await import('../test/helpers/processes.js');
  const child = childProcesses(service.pid()).find(({ command }) => command.endsWith(`engine-process.js ${kind}`));
  if (child === undefined) throw new Error(`there is no ${kind} process`);
  process.kill(child.pid, name);
}
