import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { findFreePort, ownProgram } from '../../src/lib/processes.js';
import { endWithThisProcess } from './processes.js';
import { waitFor } from './wait-for.js';

export interface ServiceOptions {
  /** Settings beside the test's own; a variable set to undefined is left out. */
  env?: Record<string, string | undefined>;
  /** Another program that serves in its place, with its arguments; default: the service itself. */
  program?: [name: string, ...args: string[]];
  /** Folder of the embedded queue and the assets; a temporary one, removed by `cleanUp`, when absent. */
  dataDir?: string;
  /** `ready`: engines warm; `health`: the process answers; `none`: only started. */
  until?: 'ready' | 'health' | 'none';
  readyTimeoutMs?: number;
}

export const testApiKey = 'test-key-of-the-service-process-helper';

/**
 * Starts the real service (`dist/src/server.js`) in a process of its own, on a free port, with nothing of the
 * caller's environment but PATH and HOME; models are the pocket ones, or those in OURVIDZ_TEST_MODELS.
 * `restart` starts it again on the same port and data, as an operator would.
 */
export async function startService(options: ServiceOptions = {}) {
  const ownsDataDir = options.dataDir === undefined;
  const dataDir = options.dataDir ?? (await mkdtemp(path.join(tmpdir(), 'ourvidz-test-')));
  const port = await findFreePort();
  const [program, ...args] = options.program ?? ['src/server'];
  const baseUrl = `http://127.0.0.1:${port}`;
  const logLines: string[] = [];
  let child: ChildProcess;
  let exited: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;

  const authorized = (init: RequestInit = {}): RequestInit => ({
    ...init,
    headers: {
      authorization: `Bearer ${testApiKey}`,
      ...(init.headers as Record<string, string> | undefined),
    },
  });
  const get = (route: string) => fetch(`${baseUrl}${route}`, authorized());

  function launch(extraEnv: Record<string, string | undefined> = {}): void {
    const settings = {
      PATH: process.env['PATH'],
      HOME: process.env['HOME'],
      HOST: '127.0.0.1',
      PORT: String(port),
      DATA_DIR: dataDir,
      WAN_WORKER_API_KEY: testApiKey,
      LOG_LEVEL: 'info',
      RATE_LIMIT: 'off',
      ORT_DEVICE: 'cpu',
      ALLOW_POCKET_MODELS: 'on',
      MODELS_DIR: process.env['OURVIDZ_TEST_MODELS'],
      ...options.env,
      ...extraEnv,
    };
    const env = Object.fromEntries(
      Object.entries(settings).filter((entry): entry is [string, string] => entry[1] !== undefined),
    );
    // No .env of the checkout may leak in: the working folder is the data folder.
    child = spawn(process.execPath, [...ownProgram(program), ...args], {
      cwd: dataDir,
      env,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    endWithThisProcess(child);
    const collect = (chunk: Buffer) =>
      logLines.push(
        ...chunk
          .toString('utf8')
          .split('\n')
          .filter((line) => line !== ''),
      );
    child.stdout?.on('data', collect);
    child.stderr?.on('data', collect);
    exited = new Promise((resolve) => child.once('exit', (code, signal) => resolve({ code, signal })));
  }

  async function waitUntil(until: 'ready' | 'health' | 'none'): Promise<void> {
    if (until === 'none') return;
    let last = 'no answer';
    await waitFor(
      async () => {
        if (child.exitCode !== null || child.signalCode !== null)
          throw new Error(`The service ended while starting:\n${logLines.slice(-40).join('\n')}`);
        const answer = await get(`/${until}`).catch(() => undefined);
        if (answer) last = `${answer.status} ${await answer.text()}`;
        return answer?.ok;
      },
      {
        what: () => `GET /${until}; last: ${last}\n${logLines.slice(-40).join('\n')}`,
        timeoutMs: options.readyTimeoutMs ?? 120_000,
      },
    );
  }

  async function kill(signal: NodeJS.Signals = 'SIGKILL') {
    if (child.exitCode === null && child.signalCode === null) child.kill(signal);
    return exited;
  }

  launch();
  try {
    await waitUntil(options.until ?? 'ready');
  } catch (error) {
    await kill();
    throw error;
  }

  return {
    baseUrl,
    port,
    dataDir,
    apiKey: testApiKey,
    /** Of the process running now. */
    pid: () => child.pid as number,
    /** Every line written to stdout and stderr so far, over restarts. */
    logs: () => logLines,
    exited: () => exited,
    kill,
    /** Starts the process again on the same port and data. */
    restart: async (
      extraEnv: Record<string, string | undefined> = {},
      until: 'ready' | 'health' | 'none' = 'ready',
    ) => {
      await kill();
      launch(extraEnv);
      await waitUntil(until);
    },
    waitUntil,
    /** With the API key. */
    get,
    getJson: async (route: string): Promise<unknown> => (await get(route)).json(),
    send: (method: 'POST' | 'DELETE', route: string, body?: unknown, headers: Record<string, string> = {}) =>
      fetch(
        `${baseUrl}${route}`,
        authorized({
          method,
          headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        }),
      ),
    /** Ends the process gracefully (at once when it does not within 15 s) and removes its data. */
    cleanUp: async () => {
      const timer = setTimeout(() => void kill(), 15_000);
      await kill('SIGTERM');
      clearTimeout(timer);
      if (ownsDataDir) await rm(dataDir, { recursive: true, force: true, maxRetries: 3 });
    },
  };
}

export type ServiceProcess = Awaited<ReturnType<typeof startService>>;
