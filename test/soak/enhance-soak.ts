import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { findFreePort, ownProgram } from '../../src/lib/processes.js';
import { createRandom, type Random } from '../chaos/random.js';
import { childProcesses, endProcess, residentMb, endWithThisProcess } from '../helpers/processes.js';
import { waitFor } from '../helpers/wait-for.js';
import { planRequest, type PlannedRequest } from './enhance-requests.js';

export interface EnhanceSoakReport {
  requests: number;
  seconds: number;
  /** Answers by kind and outcome. */
  outcomes: Record<string, number>;
  /** Requests that ended otherwise than their kind allows. */
  wrong: string[];
  /** Requests whose time ran out while the engine was held still. */
  timedOut: number;
  jobs: Record<string, number>;
  /** What the engine still counts as busy afterwards. */
  busySequences: number;
  engineRestarts: number;
  /** Resident memory, MiB, means of the second and the last tenth of the requests. */
  server: { secondTenthMb: number; lastTenthMb: number };
  engine: { secondTenthMb: number; lastTenthMb: number };
}

export const soakApiKey = 'key-of-the-enhance-soak-run';
const callers = 12;
const timeoutSeconds = 3;
/** Time and again the engine is stopped for longer than a request may take. */
const requestsBetweenPauses = 500;
const pauseMs = (timeoutSeconds + 1) * 1000;

/**
 * Sends `requests` of mixed kinds to the service on the pocket models from `callers` at once, more than its
 * line admits: answers, streams, conversations, clients that leave, bad and denied input, jobs whose prompts
 * are enhanced, an engine that stands still until requests time out.
 */
export async function runEnhanceSoak({
  requests,
  seed,
  say = () => {},
}: {
  requests: number;
  seed: number;
  say?: (line: string) => void;
}): Promise<EnhanceSoakReport> {
  const random = createRandom(seed);
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-enhance-soak-'));
  const port = await findFreePort();
  await writeFile(path.join(folder, 'deny.txt'), 'word: forbidden\n');
  const server = spawn(process.execPath, [...ownProgram('test/soak/server'), 'enhance'], {
    cwd: folder,
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      PORT: String(port),
      DATA_DIR: path.join(folder, 'data'),
      WAN_WORKER_API_KEY: soakApiKey,
      LOG_LEVEL: 'silent',
      RATE_LIMIT: 'off',
      ORT_DEVICE: 'cpu',
      DENY_LIST_FILE: path.join(folder, 'deny.txt'),
      ENHANCE_TIMEOUT_SECONDS: String(timeoutSeconds),
      ENHANCE_MAX_WAITING: '3',
      ENHANCE_CONCURRENCY: '8',
      ENHANCE_MAX_SESSIONS: '20',
      PREVIEW_EVERY_STEPS: '0',
    },
  });
  endWithThisProcess(server);
  const startedAt = performance.now();
  const base = `http://127.0.0.1:${port}`;
  const get = (route: string) =>
    fetch(`${base}${route}`, { headers: { authorization: `Bearer ${soakApiKey}` } });
  try {
    await waitFor(async () => (await get('/ready').catch(() => undefined))?.ok, {
      what: 'the server',
      timeoutMs: 90_000,
    });
    // The model loads once, before its requests have their short time.
    await waitFor(async () => (await planned('base', random).send(base)).status === 200, {
      what: 'the model',
      timeoutMs: 60_000,
    });
    const enginePid = qwenPid(server);

    const tally = createTally();
    const samples: Array<{ done: number; serverMb: number; engineMb: number }> = [];
    const pauses: Array<Promise<void>> = [];
    let sent = 0;
    const caller = async () => {
      while (sent < requests) {
        sent += 1;
        if (sent % requestsBetweenPauses === Math.floor(requestsBetweenPauses / 4))
          pauses.push(holdStill(enginePid));
        const request = planRequest(random, soakApiKey);
        const sentMs = performance.now();
        const outcome = await request
          .send(base)
          .catch((error: unknown) => ({ status: 0, text: String(error), id: undefined }));
        tally.add(request, outcome, performance.now() - sentMs);
        // The answer says a second or more; who turns up sooner meets the same line.
        if (outcome.status === 429) await sleep(300);
        if (tally.done % 20 === 0)
          samples.push({
            done: tally.done,
            serverMb: await residentMb(server.pid ?? 0),
            engineMb: await residentMb(enginePid),
          });
        if (tally.done % 200 === 0)
          say(
            `${tally.done} requests, server ${samples.at(-1)?.serverMb.toFixed(0)} MiB, engine ${samples.at(-1)?.engineMb.toFixed(0)} MiB, ${((performance.now() - startedAt) / 1000).toFixed(0)} s`,
          );
      }
    };
    await Promise.all(Array.from({ length: callers }, caller));
    await Promise.all(pauses);
    const jobs = await outcomesOf(tally.jobs, get);
    // A number the engine tells every half second while nothing is asked of it: an old one would say nothing.
    await sleep(1500);
    const metrics = await (await get('/metrics')).text();
    const metric = (name: string) =>
      Number(
        metrics
          .split('\n')
          .find((line) => line.startsWith(`${name} `))
          ?.split(' ')[1] ?? Number.NaN,
      );
    const tenth = (of: 'serverMb' | 'engineMb', from: number) => {
      const within = samples
        .filter(({ done }) => done > (from * requests) / 10 && done <= ((from + 1) * requests) / 10)
        .map((sample) => sample[of]);
      return within.reduce((sum, mb) => sum + mb, 0) / within.length;
    };
    return {
      requests: tally.done,
      seconds: (performance.now() - startedAt) / 1000,
      outcomes: tally.outcomes,
      wrong: tally.wrong,
      timedOut: tally.timedOut(),
      jobs,
      busySequences: metric('ourvidz_prompt_sequences_busy'),
      engineRestarts: metric('ourvidz_engine_restarts_total{engine="qwen"}'),
      server: { secondTenthMb: tenth('serverMb', 1), lastTenthMb: tenth('serverMb', 9) },
      engine: { secondTenthMb: tenth('engineMb', 1), lastTenthMb: tenth('engineMb', 9) },
    };
  } finally {
    await endProcess(server);
    await rm(folder, { recursive: true, force: true, maxRetries: 3 });
  }
}

function planned(kind: string, random: Random): PlannedRequest {
  return planRequest(random, soakApiKey, kind);
}

function qwenPid(server: ChildProcess): number {
  const found = childProcesses(server.pid ?? 0).find(({ command }) => / qwen\b/.test(command));
  if (found === undefined) throw new Error("the engine's process was not found");
  return found.pid;
}

async function holdStill(pid: number): Promise<void> {
  process.kill(pid, 'SIGSTOP');
  await sleep(pauseMs);
  process.kill(pid, 'SIGCONT');
}

function createTally() {
  const outcomes: Record<string, number> = {};
  const wrong: string[] = [];
  const jobs: string[] = [];
  let timeouts = 0;
  return {
    outcomes,
    wrong,
    jobs,
    timedOut: () => timeouts,
    get done() {
      return Object.values(outcomes).reduce((sum, count) => sum + count, 0);
    },
    add(
      request: PlannedRequest,
      { status, text, id }: { status: number; text: string; id?: string | undefined },
      tookMs: number,
    ): void {
      const timedOut = /Timed out after/.test(text);
      if (timedOut) timeouts += 1;
      if (id !== undefined && status === 202) jobs.push(id);
      const key = `${request.kind} ${status}`;
      outcomes[key] = (outcomes[key] ?? 0) + 1;
      const full = request.asksModel && status === 429;
      if (!(request.allowed.includes(status) || full || (timedOut && tookMs >= timeoutSeconds * 1000)))
        wrong.push(`${request.kind}: ${status} ${text.slice(0, 300)}`);
    },
  };
}

async function outcomesOf(
  ids: readonly string[],
  get: (route: string) => Promise<Response>,
): Promise<Record<string, number>> {
  const counts: Record<string, number> = {};
  for (const id of ids) {
    const job = await waitFor(
      async () => {
        const view = (await (await get(`/jobs/${id}`)).json()) as {
          status: string;
          metadata?: { enhancement_source?: string };
        };
        return ['completed', 'failed'].includes(view.status) ? view : undefined;
      },
      { what: `job ${id}`, timeoutMs: 120_000 },
    );
    counts[job.status] = (counts[job.status] ?? 0) + 1;
  }
  return counts;
}
