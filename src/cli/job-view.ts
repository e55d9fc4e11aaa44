import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Client } from './client.js';
import { CliError, exitCodes, formatFields, shorten } from './output.js';
import type { JobProgressDisplay } from './progress-view.js';
import type { components } from '../contract/generated.js';

/** Seconds without any answer after which following a job gives up; the job itself goes on. */
const giveUpAfterSeconds = 60;

/**
 * Follows a job to its end by its event stream, resuming where it broke off (a restart of the service in
 * between is no reason to lose sight of the job), and returns the finished job.
 */
export async function followJob(
  client: Client,
  jobId: string,
  display: JobProgressDisplay,
  signal: AbortSignal,
): Promise<JobView> {
  let lastEventId: string | undefined;
  let attempts = 1;
  let failingSinceMs: number | null = null;
  const target = `/jobs/${encodeURIComponent(jobId)}`;
  for (;;) {
    try {
      for await (const message of client.events(jobId, lastEventId, signal)) {
        failingSinceMs = null;
        lastEventId = message.id ?? lastEventId;
        if (message.event === 'progress') display.update(message.data as ProgressView);
        if (message.event === 'state') {
          const state = message.data as Pick<JobView, 'status' | 'attempts'>;
          if (state.attempts > attempts)
            display.note(`Attempt ${state.attempts}: the one before was interrupted`);
          attempts = Math.max(attempts, state.attempts);
        }
      }
      const job = await client.request<JobView>('GET', target, { signal });
      failingSinceMs = null;
      if (isFinished(job.status)) return job;
    } catch (error) {
      if (signal.aborted) throw error;
      const isFinal =
        error instanceof CliError &&
        error.exitCode !== exitCodes.unreachable &&
        error.exitCode !== exitCodes.busy;
      failingSinceMs ??= Date.now();
      if (isFinal || Date.now() - failingSinceMs > giveUpAfterSeconds * 1000) throw error;
    }
    await sleep(500, undefined, { signal });
  }
}

/** A job as `GET /jobs/{id}` shows it. */
export type JobView = components['schemas']['Job'];
export type ProgressView = components['schemas']['JobProgress'];

export function isFinished(status: JobView['status']): boolean {
  return status === 'completed' || status === 'failed' || status === 'cancelled';
}

interface Token {
  token: string;
  weight?: number;
}

/**
 * `metadata.explain` of a job for people: one line a subject; empty when the job was not asked to explain
 * itself.
 */
export function formatExplanation(explain: unknown): string {
  if (typeof explain !== 'object' || explain === null) return '';
  const {
    tokens,
    negative_tokens: negative,
    timesteps,
    sigmas,
    timings,
    text_cache: cache,
    ...rest
  } = explain as Record<string, unknown>;
  return formatFields({
    tokens: formatTokens(tokens),
    ...(Array.isArray(negative) && negative.length > 0 ? { negative_tokens: formatTokens(negative) } : {}),
    timesteps: formatNumbers(timesteps, 0),
    sigmas: formatNumbers(sigmas, 3),
    seconds: formatRecord(timings, (value) => value.toFixed(3)),
    text_cache: formatRecord(cache, String),
    ...rest,
  });
}

/** Words as the tokenizer cut them, with their weights where they have one: `a red·1.3 circle`. */
function formatTokens(tokens: unknown): string | undefined {
  if (!Array.isArray(tokens)) return undefined;
  return (tokens as Token[])
    .map(({ token, weight }) =>
      weight === undefined || weight === 1 ? token : `${token}·${Number(weight.toFixed(3))}`,
    )
    .join(' ');
}

function formatNumbers(values: unknown, digits: number): string | undefined {
  return Array.isArray(values)
    ? shorten((values as number[]).map((value) => Number(value.toFixed(digits))).join(' '), 400)
    : undefined;
}

function formatRecord(record: unknown, show: (value: number) => string): string | undefined {
  if (typeof record !== 'object' || record === null) return undefined;
  return Object.entries(record as Record<string, number>)
    .map(([key, value]) => `${key} ${show(value)}`)
    .join(', ');
}

/**
 * Saves a finished job's assets as `{prompt in short}-{seed}.{ext}` in `folder` (created when missing); a
 * name that is taken gets a number, nothing is overwritten. Returns absolute paths in the order of the
 * assets. Where the service names places in a bucket instead of addresses (`ASSET_URLS=path`) nothing can be
 * fetched: the place is returned as it is.
 */
export async function saveAssets(
  client: Client,
  job: JobView,
  prompt: string,
  folder: string,
): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const { seed, seeds } = job.metadata as { seed?: unknown; seeds?: unknown };
  const files: string[] = [];
  for (const [index, asset] of job.assets.entries()) {
    if (!/^(\/|https?:\/\/)/.test(asset)) {
      files.push(asset);
      continue;
    }
    const extension = /\.[a-z0-9]{1,8}$/i.exec(new URL(asset, client.url).pathname)?.[0] ?? '.bin';
    // Only a number becomes part of a file's name: anything else could lead out of the folder.
    const own: unknown = (Array.isArray(seeds) ? seeds : [seed])[index];
    const name = `${slugOf(prompt)}-${Number.isSafeInteger(own) ? Number(own) : index}`;
    files.push(await saveUnderFreeName(client, asset, path.resolve(folder, name), extension));
  }
  return files;
}

async function saveUnderFreeName(
  client: Client,
  asset: string,
  stem: string,
  extension: string,
): Promise<string> {
  for (let number = 1; ; number += 1) {
    const file = `${stem}${number === 1 ? '' : `-${number}`}${extension}`;
    try {
      await client.download(asset, file);
      return file;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EEXIST') throw error;
    }
  }
}

/** A file name of at most 60 letters, digits and dashes; letters of every script stay. */
export function slugOf(prompt: string): string {
  const slug = prompt
    .toLowerCase()
    .normalize('NFC')
    .replace(/[^\p{L}\p{N}]+/gu, '-')
    .replace(/^-+|-+$/g, '');
  return [...slug].slice(0, 60).join('').replace(/-+$/, '') || 'picture';
}
