import { unwatchFile, watchFile } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import { request } from 'undici';
import type { Trouble } from '../../lib/errors.js';
import { userAgent } from '../../lib/project.js';
import { keyHeaders } from '../../lib/supabase.js';
import { readStart } from './sender.js';

/** The part of a pino logger that is used here. */
export interface RegistrationLog {
  info(fields: object, message: string): void;
  warn(fields: object, message: string): void;
  error(fields: object, message: string): void;
}

export interface UrlRegistrationOptions {
  /** `RUNPOD_POD_ID`; without it there is nothing to register. */
  podId: string | undefined;
  /** Public URL stated by the operator; wins over the one derived from the pod id. */
  publicUrl?: string;
  /** File with the public URL, which may change while the service runs; wins over both. */
  urlFile?: string;
  urlFileIntervalMs?: number;
  supabaseUrl: string | undefined;
  serviceKey: string | undefined;
  log: RegistrationLog;
  periodMs?: number;
  /** Share of the period added or taken away at random, so that a fleet does not register in step. */
  jitter?: number;
  timeoutMs?: number;
  random?: () => number;
  now?: () => number;
}

/** Longer than any answer of `/health`; what stands at the address may be anything. */
const healthBytes = 65_536;

export type RegistrationState = 'disabled' | 'waiting' | 'registered' | 'unhealthy' | 'refused';
export type UrlRegistration = ReturnType<typeof createUrlRegistration>;

/** Address at which RunPod's proxy serves port 7860 of a pod. */
export function runpodUrl(podId: string): string {
  return `https://${podId}-7860.proxy.runpod.net/`;
}

/** Below the address, which may have a path of its own behind a proxy. */
function urlBelow(address: string, relative: string): URL {
  const base = new URL(address);
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return new URL(relative, base);
}

/**
 * Tells the Supabase function `update-worker-url` where this worker is (spec section 8).
 * Rules: no pod id, one warning and nothing else; no credentials, one error and nothing else; own `/health`
 * not healthy at the public address, skipped until it is; refused, logged and tried again next cycle; at
 * shutdown `inactive` is sent if it was registered.
 */
export function createUrlRegistration(options: UrlRegistrationOptions) {
  const {
    podId,
    supabaseUrl,
    serviceKey,
    log,
    periodMs = 300_000,
    jitter = 0.1,
    timeoutMs = 10_000,
    random = Math.random,
    now = Date.now,
  } = options;
  let workerUrl = options.publicUrl ?? (podId === undefined ? undefined : runpodUrl(podId));
  let state: RegistrationState = 'disabled';
  let refusal = '';
  let nextTryAtMs: number | null = null;
  let announced: string | undefined;
  let loop: Promise<void> | undefined;
  let stopping = new AbortController();
  let wake: (() => void) | undefined;
  let unfollow: (() => void) | undefined;

  async function isHealthy(url: string): Promise<boolean> {
    try {
      const response = await request(urlBelow(url, 'health'), {
        headers: { 'user-agent': userAgent() },
        signal: AbortSignal.any([stopping.signal, AbortSignal.timeout(timeoutMs)]),
      });
      const body = JSON.parse(await readStart(response.body, healthBytes)) as { status?: unknown };
      // Degraded still works, with less than there could be.
      return response.statusCode === 200 && (body.status === 'healthy' || body.status === 'degraded');
    } catch {
      return false;
    }
  }

  async function send(
    url: string,
    status: 'active' | 'inactive',
    signal?: AbortSignal,
  ): Promise<{ accepted: boolean; reason: string }> {
    try {
      const response = await request(urlBelow(supabaseUrl ?? '', 'functions/v1/update-worker-url'), {
        method: 'POST',
        headers: {
          ...keyHeaders(serviceKey ?? ''),
          'content-type': 'application/json',
          'user-agent': userAgent(),
        },
        body: JSON.stringify({ worker_url: url, timestamp: new Date(now()).toISOString(), status }),
        signal: AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal === undefined ? [] : [signal])]),
      });
      const text = await readStart(response.body, 200);
      return {
        accepted: response.statusCode >= 200 && response.statusCode < 300,
        reason: `${response.statusCode} ${text}`.trim(),
      };
    } catch (error) {
      return { accepted: false, reason: error instanceof Error ? error.message : String(error) };
    }
  }

  async function registerOnce(): Promise<void> {
    const url = workerUrl;
    if (url === undefined) return;
    if (!(await isHealthy(url))) {
      if (stopping.signal.aborted) return;
      state = 'unhealthy';
      log.warn(
        { worker_url: url },
        'not registered: own /health is unhealthy or not reached at the public address; trying again next cycle',
      );
      return;
    }
    const answer = await send(url, 'active', stopping.signal);
    if (stopping.signal.aborted && !answer.accepted) {
      // broken off on its way, so it may have arrived: taken back at the end, unless the last one was refused
      if (state !== 'refused') announced = url;
      return;
    }
    if (answer.accepted) {
      state = 'registered';
      announced = url;
      log.info({ worker_url: url }, 'registered the worker URL');
    } else {
      state = 'refused';
      refusal = answer.reason;
      log.error(
        { worker_url: url, reason: answer.reason },
        'the worker URL was not accepted; trying again next cycle',
      );
    }
  }

  async function run(): Promise<void> {
    while (!stopping.signal.aborted) {
      const url = workerUrl;
      await registerOnce();
      if (url !== workerUrl) continue;
      const pause = periodMs * (1 + jitter * (2 * random() - 1));
      nextTryAtMs = now() + pause;
      const woken = new Promise<void>((resolve) => {
        wake = resolve;
      });
      await Promise.race([
        delay(pause, undefined, { signal: stopping.signal, ref: false }).catch(() => undefined),
        woken,
      ]);
    }
  }

  function setUrl(url: string): void {
    if (url === workerUrl) return;
    workerUrl = url;
    wake?.();
  }

  return {
    start(): void {
      if (loop !== undefined) return;
      if (workerUrl === undefined && options.urlFile === undefined)
        return log.warn({}, 'RUNPOD_POD_ID is not set: the worker URL is not registered');
      if (supabaseUrl === undefined || serviceKey === undefined) {
        return log.error({}, 'SUPABASE_URL or SUPABASE_SERVICE_KEY is not set: URL registration is off');
      }
      state = 'waiting';
      stopping = new AbortController();
      if (options.urlFile !== undefined)
        unfollow = followUrlFile(
          options.urlFile,
          setUrl,
          options.urlFileIntervalMs === undefined ? {} : { intervalMs: options.urlFileIntervalMs },
        );
      loop = run();
    },
    /** A new public address is registered at once, not at the next cycle. */
    setUrl,
    state: () => state,
    /** What keeps this worker from being known; null while it is, or nobody asked for it. */
    trouble(): Trouble | null {
      if (workerUrl === undefined) return null;
      const common = {
        code: 'registration_failed',
        severity: 'error' as const,
        target: 'registration',
        what: 'Nobody is told where this worker is',
        nextTryAtMs,
      };
      if (state === 'unhealthy')
        return {
          ...common,
          cause: `its own /health is not reached, or not well, at ${workerUrl}`,
          cure: 'Open port 7860 of the pod as HTTP, or set PUBLIC_URL to the address that leads here.',
        };
      if (state === 'refused')
        return {
          ...common,
          cause: `update-worker-url answers: ${refusal}`,
          cure: 'Deploy the function update-worker-url, and set SUPABASE_SERVICE_KEY to what it expects.',
        };
      return null;
    },
    /** Ends the cycle; says `inactive` when the orchestrator had been told `active`. */
    async stop(): Promise<void> {
      stopping.abort();
      unfollow?.();
      await loop;
      loop = undefined;
      if (announced === undefined) return;
      const answer = await send(announced, 'inactive');
      if (!answer.accepted)
        log.warn(
          { worker_url: announced, reason: answer.reason },
          'the orchestrator could not be told that this worker is going away',
        );
      announced = undefined;
      state = 'disabled';
    },
  };
}

/**
 * Follows a file that holds a public address, as tunnels write it: its first word, now and after every
 * change. What is no http address is left out. Polls, because change events of network volumes cannot be
 * relied on. Returns the function that ends it.
 */
export function followUrlFile(
  file: string,
  onUrl: (url: string) => void,
  { intervalMs = 2000 } = {},
): () => void {
  async function look(): Promise<void> {
    const [word = ''] = (await readFile(file, 'utf8').catch(() => '')).trim().split(/\s+/);
    if (/^https?:/.test(word) && URL.canParse(word)) onUrl(word);
  }
  const listener = () => void look();
  watchFile(file, { interval: intervalMs, persistent: false }, listener);
  void look();
  return () => unwatchFile(file, listener);
}
