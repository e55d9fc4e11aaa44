import { constants, createReadStream, createWriteStream } from 'node:fs';
import { copyFile, mkdir, open, rename, rm } from 'node:fs/promises';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';
import { retry } from '../../lib/retry.js';
import { CliError, exitCodes } from '../output.js';
import { addFile, beginChecksum, sizeOf } from './files.js';
import { HubError, type Hub, type HubFile } from './hub.js';

/** A connection that brought as much is no failed attempt: the next begins at once, and counts from one. */
const leastProgressBytes = 1 << 20;
/** However long the hub asks to wait. */
const longestRetryAfterMs = 300_000;

export interface DownloadOptions {
  hub: Pick<Hub, 'endpoint' | 'open'>;
  repository: string;
  commit: string;
  signal: AbortSignal;
  /** Bytes that are now on this disk; negative when some were thrown away. */
  onBytes(count: number): void;
  note(text: string): void;
  /** The same file on this machine, if there is one: a blob of the hub's own cache. */
  cached?: string;
  /** Attempts in a row that bring next to nothing before giving up. */
  attempts?: number;
  firstDelayMs?: number;
}

/**
 * Fetches one file to `target`, by way of `<target>.part`, which a later call goes on with after any
 * interruption. Only a file whose checksum is right gets its name.
 * @throws CliError `failed` when the content is wrong twice or the disk is full, HubError when the hub keeps
 *   refusing
 */
export async function downloadFile(file: HubFile, target: string, options: DownloadOptions): Promise<void> {
  if ((await sizeOf(target)) === file.size) {
    options.onBytes(file.size);
    return;
  }
  const part = `${target}.part`;
  await mkdir(path.dirname(target), { recursive: true });
  if (
    options.cached !== undefined &&
    (await sizeOf(part)) === null &&
    (await sizeOf(options.cached)) === file.size
  )
    await copyCached(options.cached, part, options.signal);
  for (let wrong = 0; ; wrong += 1) {
    const found = await fillPart(file, part, options);
    if (found === file.checksum.value) break;
    await rm(part, { force: true });
    options.onBytes(-file.size);
    if (wrong === 1)
      throw new CliError(
        `${file.path} arrived twice with a wrong checksum (${found}, not ${file.checksum.value}): something ` +
          `between here and ${options.hub.endpoint} alters downloads; try another network or HF_ENDPOINT`,
        exitCodes.failed,
      );
    options.note(`${file.path} has a wrong checksum: fetching it again`);
  }
  await rename(part, target);
}

/** Shares the blocks where the file system can; else copies what an interruption may end anywhere. */
async function copyCached(cached: string, part: string, signal: AbortSignal): Promise<void> {
  await copyFile(cached, part, constants.COPYFILE_FICLONE_FORCE).catch(() =>
    pipeline(createReadStream(cached), createWriteStream(part), { signal }),
  );
}

/** Brings `part` to the file's size, going on where it ends. @returns the checksum of the whole */
async function fillPart(
  file: HubFile,
  part: string,
  { hub, repository, commit, signal, onBytes, note, attempts = 6, firstDelayMs = 1000 }: DownloadOptions,
): Promise<string> {
  const handle = await open(part, 'a+').catch(explainDisk);
  try {
    let size = (await handle.stat()).size;
    if (size > file.size) {
      await handle.truncate(0);
      size = 0;
    }
    let hash = beginChecksum(file);
    await addFile(hash, part, size, { signal });
    onBytes(size);

    /** Goes on where the file ends, until it is whole or the connection breaks. */
    async function fetchRest(): Promise<void> {
      const source = await hub.open(repository, commit, file, size, signal);
      if (source.offset !== size) {
        // a server without ranges sends the whole again
        await handle.truncate(0);
        onBytes(-size);
        size = 0;
        hash = beginChecksum(file);
        if (source.offset !== 0)
          throw new HubError(
            `${hub.endpoint} sent another part of ${file.path} than asked for`,
            exitCodes.serviceError,
            true,
          );
      }
      for await (const chunk of source.body) {
        if (size + chunk.length > file.size)
          throw new HubError(`${hub.endpoint} sent more of ${file.path} than it has`, exitCodes.serviceError);
        await handle.appendFile(chunk).catch(explainDisk);
        hash.update(chunk);
        size += chunk.length;
        onBytes(chunk.length);
      }
      if (size < file.size)
        throw new HubError(`the connection to ${hub.endpoint} ended early`, exitCodes.unreachable, true);
    }

    while (size < file.size)
      await retry(
        async () => {
          const before = size;
          try {
            await fetchRest();
          } catch (error) {
            const failure = asFailure(error, hub.endpoint, signal);
            if (size - before < leastProgressBytes) throw failure;
          }
        },
        {
          backoff: { baseMs: firstDelayMs, maxMs: 60_000, jitter: 0 },
          attempts,
          signal,
          isRetryable: (error) => error instanceof HubError && error.retryable,
          afterMs: (error) =>
            error instanceof HubError ? Math.min(error.retryAfterMs ?? 0, longestRetryAfterMs) : 0,
          onRetry: (error, _tries, delayMs) =>
            note(
              `${file.path}: ${String((error as Error).message.split(':')[0])}; again in ${delayMs / 1000} s`,
            ),
        },
      );
    return hash.digest('hex');
  } finally {
    await handle.close();
  }
}

/** A failure that may be tried again; everything else is thrown. */
function asFailure(error: unknown, endpoint: string, signal: AbortSignal): HubError {
  if (signal.aborted || (error instanceof CliError && !(error instanceof HubError && error.retryable)))
    throw error;
  if (error instanceof HubError) return error;
  const { cause, message } = error as { cause?: { code?: string }; message?: string };
  return new HubError(
    `the connection to ${endpoint} broke (${cause?.code ?? message ?? String(error)}): ` +
      'what has arrived is kept, run the command again',
    exitCodes.unreachable,
    true,
  );
}

function explainDisk(error: NodeJS.ErrnoException): never {
  if (error.code === 'ENOSPC' || error.code === 'EDQUOT')
    throw new CliError(
      'The disk is full. What has arrived is kept: free some space and run the command again',
      exitCodes.failed,
    );
  if (error.code === 'EACCES' || error.code === 'EROFS')
    throw new CliError(
      `${error.path ?? 'The folder'} cannot be written: choose another one with --to`,
      exitCodes.failed,
    );
  throw error;
}
