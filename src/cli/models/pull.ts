import { existsSync } from 'node:fs';
import { mkdir, readdir, rename, rm, statfs, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { CliError, exitCodes } from '../output.js';
import { selectFiles, type ModelLocations, type PublishedModel } from './catalogue.js';
import { downloadFile, type DownloadOptions } from './download.js';
import type { Hub, HubFile } from './hub.js';
import { readRecord, recordName, type SourceRecord, sizeOf, takeLock } from './files.js';

export interface PullPlan {
  model: PublishedModel;
  quantisation: string | undefined;
  commit: string;
  files: HubFile[];
  /** Bytes of all files, and those of them that are already here. */
  totalBytes: number;
  presentBytes: number;
  /** Where the folder will stand, and where it grows until it is whole. */
  folder: string;
  incoming: string;
  /**
   * `same`: it stands there already; `other`: another commit, quantisation or a folder of unknown origin
   * does.
   */
  standing: 'nothing' | 'same' | 'other';
}

/** Files at once: small ones overlap with big ones; the hub's limit is on requests, not on bytes. */
const parallel = 3;
/** Left free on the disk: the service's own files need some room. */
const spareBytes = 1 << 30;

/** Asks the hub what there is; writes nothing. */
export async function planPull(
  model: PublishedModel,
  {
    quantisation,
    revision = model.revision,
    hub,
    locations,
    signal,
  }: {
    quantisation: string | undefined;
    revision?: string | undefined;
    hub: Hub;
    locations: ModelLocations;
    signal: AbortSignal;
  },
): Promise<PullPlan> {
  const commit = /^[0-9a-f]{40}$/.test(revision)
    ? revision
    : await hub.resolveRevision(model.repository, revision, signal);
  const files = selectFiles(model, quantisation, await hub.listFiles(model.repository, commit, signal));
  const folder = path.join(locations.modelsDir, model.folder);
  const incoming = path.join(
    locations.modelsDir,
    '.incoming',
    `${model.name}${quantisation === undefined ? '' : `-${quantisation}`}-${commit.slice(0, 12)}`,
  );
  const present = await Promise.all(
    files.map(
      async (file) =>
        (await sizeOf(path.join(incoming, file.path))) ??
        (await sizeOf(path.join(incoming, `${file.path}.part`))) ??
        0,
    ),
  );
  const record = await readRecord(folder);
  const same =
    record !== null &&
    record.commit === commit &&
    record.quantisation === quantisation &&
    record.name === model.name;
  return {
    model,
    quantisation,
    commit,
    files,
    folder,
    incoming,
    totalBytes: files.reduce((sum, { size }) => sum + size, 0),
    presentBytes: present.reduce((sum, size) => sum + size, 0),
    standing: same ? 'same' : existsSync(folder) ? 'other' : 'nothing',
  };
}

/** @throws CliError `failed` naming what is needed and what is free */
export async function requireSpace(plan: PullPlan): Promise<void> {
  const { bavail, bsize } = await statfs(nearestFolder(plan.folder));
  const [needed, free] = [plan.totalBytes - plan.presentBytes + spareBytes, bavail * bsize];
  if (needed > free)
    throw new CliError(
      `${plan.model.name} needs ${gigabytes(needed)} more under ${plan.folder}, ${gigabytes(free)} are free: ` +
        'free some space, or choose another disk with --to or MODELS_DIR',
      exitCodes.failed,
    );
}

export interface PullOptions extends Pick<
  DownloadOptions,
  'hub' | 'signal' | 'onBytes' | 'note' | 'attempts' | 'firstDelayMs'
> {
  cacheDir: string;
  /** Replace what stands in the folder. */
  force: boolean;
}

/** Downloads what is missing, checks it, and puts the whole folder in place in one rename. */
export async function runPull(plan: PullPlan, { cacheDir, force, ...options }: PullOptions): Promise<void> {
  const { model, commit, folder, incoming } = plan;
  if (plan.standing === 'other' && !force)
    throw new CliError(
      `${folder} holds something else (another revision, quantisation or origin): ` +
        '--force replaces it, --to takes another models folder',
      exitCodes.usage,
    );
  await requireSpace(plan);
  const release = await takeLock(path.join(path.dirname(incoming), `${model.name}.lock`), model.name);
  // The first failure stops the others: one message, not three.
  const stop = new AbortController();
  const signal = AbortSignal.any([options.signal, stop.signal]);
  try {
    await mkdir(incoming, { recursive: true });
    const waiting = [...plan.files].sort((a, b) => b.size - a.size);
    await Promise.all(
      Array.from({ length: parallel }, async () => {
        for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) {
          await downloadFile(file, path.join(incoming, file.path), {
            ...options,
            repository: model.repository,
            commit,
            signal,
            cached: cachedBlob(cacheDir, model.repository, file),
          });
        }
      }),
    ).catch((error: unknown) => {
      stop.abort();
      throw error;
    });
    const record: SourceRecord = {
      name: model.name,
      repository: model.repository,
      commit,
      ...(plan.quantisation === undefined ? {} : { quantisation: plan.quantisation }),
      files: plan.files,
    };
    await writeFile(path.join(incoming, recordName), `${JSON.stringify(record, null, 2)}\n`);
    await place(incoming, folder);
  } finally {
    await release();
  }
  // Nothing else in progress: the folder for it goes too.
  const leftovers = await readdir(path.dirname(incoming)).catch(() => ['']);
  if (leftovers.length === 0) await rm(path.dirname(incoming), { recursive: true, force: true });
}

async function place(incoming: string, folder: string): Promise<void> {
  await mkdir(path.dirname(folder), { recursive: true });
  const old = `${incoming}.replaced`;
  const replaces = existsSync(folder);
  if (replaces) await rename(folder, old);
  await rename(incoming, folder);
  if (replaces) await rm(old, { recursive: true, force: true });
}

export function nearestFolder(folder: string): string {
  let at = folder;
  while (!existsSync(at) && path.dirname(at) !== at) at = path.dirname(at);
  return at;
}

export function gigabytes(bytes: number): string {
  return bytes < 1e8 ? `${(bytes / 1e6).toFixed(1)} MB` : `${(bytes / 1e9).toFixed(bytes < 1e10 ? 2 : 1)} GB`;
}

/** Where the hub's own tools would have kept this file. */
function cachedBlob(cacheDir: string, repository: string, file: HubFile): string {
  return path.join(cacheDir, `models--${repository.replaceAll('/', '--')}`, 'blobs', file.checksum.value);
}
