import { spawn } from 'node:child_process';
import { mkdir } from 'node:fs/promises';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Job } from '../../client/index.js';
import { type Client, download } from './client.js';
import { formatFields, isWatched, shorten, writeNote } from './output.js';
import type { JobProgressDisplay } from './progress-view.js';
import { oneLine } from '../lib/printable.js';
import { catalogue, isJobType } from '../services/catalogue.js';

/**
 * Follows a job to its end by its event stream (a restart of the service in between is no reason to lose sight of the
 * job), and returns the finished job.
 */
export async function followJob(
  client: Client,
  jobId: string,
  display: JobProgressDisplay,
  signal: AbortSignal,
): Promise<Job> {
  let attempts = 1;
  const over = new AbortController();
  const waiting = tellWhyItWaits(client, jobId, display, AbortSignal.any([signal, over.signal]));
  try {
    for await (const { event, data } of client.followJob(jobId, { signal })) {
      if (event === 'progress') display.update(data);
      if (event === 'preview') display.preview(Buffer.from(data.base64, 'base64'));
      if (event !== 'state') continue;
      if (data.attempts > attempts) display.note(`Attempt ${data.attempts}: the one before was interrupted`);
      attempts = Math.max(attempts, data.attempts);
    }
  } finally {
    over.abort();
    await waiting;
  }
  return client.getJob({ id: jobId }, { signal });
}

interface Note {
  field: string;
  text: string;
  note: string;
}

/** What of the job did not act as it was meant; of a demo model also what it can do, in one sentence. */
export async function notesFor(client: Client, job: Job): Promise<string[]> {
  const notes = Array.isArray(job.metadata['prompt_notes']) ? (job.metadata['prompt_notes'] as Note[]) : [];
  const lines = notes.map(({ field, text, note }) => oneLine(`Note on ${field}: "${text}": ${note}`));
  return lines.length === 0 ? [] : [...lines, ...(await sentenceOf(client, job))];
}

/** Of the model that drew it, where that is a demo model. */
export async function sentenceOf(client: Client, job: Job): Promise<string[]> {
  const engine = isJobType(job.type) ? catalogue[job.type].engine : 'sdxl';
  const capabilities = await client.getCapabilities().catch(() => null);
  const sentence = capabilities?.engines[engine]?.world?.sentence;
  return sentence === undefined ? [] : [oneLine(sentence)];
}

const askEveryMs = 2000;

/** A queued job has no events: its place in line and what it waits for are asked for, until it begins. */
async function tellWhyItWaits(
  client: Client,
  id: string,
  display: JobProgressDisplay,
  signal: AbortSignal,
): Promise<void> {
  try {
    for (;;) {
      const job = await client.getJob({ id }, { signal });
      if (job.status !== 'queued') return;
      const why = job.waiting?.message ?? `${job.queue_position ?? 0} ahead`;
      display.update({ ...job.progress, stage: `waiting: ${why}` });
      await sleep(askEveryMs, undefined, { signal });
    }
  } catch {
    // the event stream says what is wrong, or the job is over
  }
}

/** How far a job is, as its events say. */
export type ProgressView = Job['progress'];

/** e.g. `denoise 7/15, about 3 s left` */
export function describeProgress(progress: ProgressView): string {
  const step = progress.steps > 0 ? ` ${progress.step}/${progress.steps}` : '';
  const eta = progress.eta_seconds === null ? '' : `, about ${formatSeconds(progress.eta_seconds)} left`;
  return `${progress.stage}${step}${eta}`;
}

export function formatSeconds(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
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
    graph_seconds: graphs,
    text_cache: cache,
    ...rest
  } = explain as Record<string, unknown>;
  return formatFields({
    tokens: formatTokens(tokens),
    ...(Array.isArray(negative) && negative.length > 0 ? { negative_tokens: formatTokens(negative) } : {}),
    timesteps: formatNumbers(timesteps, 0),
    sigmas: formatNumbers(sigmas, 3),
    seconds: formatRecord(timings, (value) => value.toFixed(3)),
    graph_seconds: formatRecord(graphs, (value) => value.toFixed(3)),
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
  job: Job,
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
    const extension = /\.[a-z0-9]{1,8}$/i.exec(new URL(client.addressOf(asset)).pathname)?.[0] ?? '.bin';
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
      await download(client, asset, file);
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

const viewers: Partial<Record<NodeJS.Platform, string>> = { darwin: 'open', win32: 'explorer' };

/** With the viewer this machine has for it, an address with the browser; the command line does not wait for it. */
export function openFile(file: string): void {
  const viewer = viewers[process.platform] ?? 'xdg-open';
  spawn(viewer, [file], { stdio: 'ignore', detached: true })
    .on('error', () => writeNote(`${viewer} is not here: open ${file} yourself`))
    .unref();
}

/** Whether somebody sits here who can look at a page: at a terminal, and on Linux at a desktop. */
export function hasDesktop(
  isTerminal = isWatched(),
  { CI = '', DISPLAY = '', WAYLAND_DISPLAY = '' }: NodeJS.ProcessEnv = process.env,
  platform = process.platform,
): boolean {
  const hasScreen = platform === 'darwin' || platform === 'win32' || DISPLAY + WAYLAND_DISPLAY !== '';
  return isTerminal && CI === '' && hasScreen;
}
