import type { Command } from 'commander';
import { readFileSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream as WebReadableStream } from 'node:stream/web';
import { type Client, ConnectionError, createClient, OurVidzError } from '../../client/index.js';
import { CliError, exitCodes, print } from './output.js';
import { openUrl, readEnvironment, Refused } from '../lib/environment.js';
import { oneLine } from '../lib/printable.js';

export type { Client };

export interface Connection {
  /** Origin of the service, without a trailing slash. */
  url: string;
  apiKey: string | undefined;
}

export interface ConnectionOptions {
  url?: string | undefined;
  key?: string | undefined;
}

/**
 * Where the service is and with which key: flags first, then the environment, then `.env` of the working
 * folder. A service on this machine without a configured key writes a generated one to `DATA_DIR/api-key`;
 * that file is read only when the address is a loopback one, so that a local key never travels.
 */
export function resolveConnection(
  options: ConnectionOptions,
  environment: NodeJS.ProcessEnv = process.env,
  workingFolder = process.cwd(),
): Connection {
  const settings = readEnvironment(environment, workingFolder);
  const [name, given] =
    options.url !== undefined
      ? ['--url', options.url]
      : settings['OURVIDZ_URL'] !== undefined
        ? ['OURVIDZ_URL', settings['OURVIDZ_URL']]
        : ['PORT', `http://127.0.0.1:${settings['PORT'] ?? '7860'}`];
  const url = readAddress(name, given);
  const apiKey =
    options.key ??
    settings['WAN_WORKER_API_KEY'] ??
    (isLoopback(url)
      ? readGeneratedKey(path.resolve(workingFolder, settings['DATA_DIR'] ?? 'data'))
      : undefined);
  return { url, apiKey };
}

/** What is refused may hold a password, and is not shown. */
function readAddress(name: string, given: string): string {
  try {
    return openUrl('http:', 'https:')(given) ?? given;
  } catch (error) {
    if (!(error instanceof Refused)) throw error;
    const rule = name === 'PORT' ? 'the number of a port' : error.message;
    throw new CliError(
      `${name} must be ${rule}. The key has its own place: --key or WAN_WORKER_API_KEY.`,
      exitCodes.usage,
    );
  }
}

/**
 * The key a service without `WAN_WORKER_API_KEY` generated for itself, if there is one in its data folder.
 */
export function readGeneratedKey(dataDir: string): string | undefined {
  try {
    return readFileSync(path.join(dataDir, 'api-key'), 'utf8').trim() || undefined;
  } catch {
    return undefined;
  }
}

function isLoopback(url: string): boolean {
  if (!URL.canParse(url)) return false;
  const { hostname } = new URL(url);
  return hostname === 'localhost' || hostname === '[::1]' || hostname.startsWith('127.');
}

/**
 * Writes an asset to a file that must not exist yet; half of one is not left behind. @throws CliError, or what the
 * client throws
 */
export async function download(client: Client, asset: string, file: string): Promise<void> {
  const response = await client.openAsset(asset);
  if (!response.body) throw new CliError(`${oneLine(asset)} has no content`, exitCodes.serviceError);
  const target = await open(file, 'wx');
  try {
    await pipeline(
      Readable.fromWeb(response.body as WebReadableStream<Uint8Array>),
      target.createWriteStream(),
    );
  } catch (error) {
    await rm(file, { force: true });
    // undici's word for a body that ends early is a TypeError, "terminated"
    if (error instanceof TypeError)
      throw new CliError(
        `The connection broke off in the middle of ${oneLine(asset)}. The service still has the file.`,
        exitCodes.unreachable,
      );
    throw error;
  }
}

const exitCodeByStatus: Readonly<Record<number, number>> = {
  400: exitCodes.usage,
  404: exitCodes.notFound,
  409: exitCodes.usage,
  413: exitCodes.usage,
  422: exitCodes.usage,
  401: exitCodes.unauthorized,
  403: exitCodes.unauthorized,
  408: exitCodes.busy,
  429: exitCodes.busy,
  503: exitCodes.busy,
  507: exitCodes.busy,
};

/** What the command line says of an error, and the code it ends with. */
export function asCliError(error: unknown): CliError {
  if (error instanceof CliError) return error;
  if (error instanceof ConnectionError)
    return new CliError(
      `${error.message} (${causeOf(error)}). Start one with "npm start" or "npm run demo", or pass --url.`,
      exitCodes.unreachable,
    );
  if (!(error instanceof OurVidzError))
    return new CliError(error instanceof Error ? error.message : String(error), exitCodes.serviceError);
  // what the sentence says already is not said again
  const details = error.details
    .filter(({ message }) => !error.message.includes(message))
    .map(({ field, message }) => (message.includes(field) ? message : `${field}: ${message}`));
  const request = error.requestId === undefined ? '' : `\nRequest ${oneLine(error.requestId)}`;
  const help =
    error.status === 401
      ? '\nPass the key with --key or WAN_WORKER_API_KEY.\n' +
        'A service that is given none writes one to DATA_DIR/api-key.'
      : '';
  return new CliError(
    [error.message, ...details].map((line) => oneLine(line)).join('\n  ') + help + request,
    exitCodeByStatus[error.status] ?? exitCodes.serviceError,
  );
}

function causeOf({ cause }: ConnectionError): string {
  const inner = cause instanceof Error && cause.cause instanceof Error ? cause.cause : cause;
  return inner instanceof Error ? ((inner as NodeJS.ErrnoException).code ?? inner.message) : String(inner);
}

/** An id as it is, or the one that begins so. @throws CliError when none does, or several do */
export async function wholeId(client: Client, begun: string): Promise<string> {
  if (!/^[0-9a-f-]{1,35}$/i.test(begun)) return begun;
  const { jobs } = await client.listJobs({ id_prefix: begun, limit: 5 });
  return onlyOne(
    begun,
    jobs.map(({ id }) => id),
    'job',
  );
}

/** The id, or the one among the newest that begins so. */
export async function wholeLetter(client: Client, begun: string): Promise<string> {
  const { dead_letters: letters } = await client.listDeadLetters({ limit: 100 });
  const ids = letters.map(({ id }) => id);
  return amongNewest(begun, ids, 'dead letter');
}

/** The same of given-up callbacks. */
export async function wholeCallback(client: Client, begun: string): Promise<string> {
  const ids = (await client.listCallbacks({ limit: 100 })).dead.map(({ id }) => id);
  return amongNewest(begun, ids, 'callback');
}

/** Older ones are not listed: they are asked for as they were written. */
const amongNewest = (begun: string, ids: readonly string[], what: string): string =>
  ids.some((id) => id.startsWith(begun)) ? onlyOne(begun, ids, what) : begun;

/** The same of instances; `self` is the one asked. */
export async function wholeInstance(client: Client, begun: string): Promise<string> {
  if (begun === 'self') return begun;
  const { worker_id: own = '', instances = [] } = await client.getWorkerStatus({ scope: 'cluster' });
  const ids = new Set([own, ...instances.map(({ worker_id: id }) => id)]);
  return onlyOne(begun, [...ids], 'instance');
}

/** The one of those that begins so. @throws CliError */
function onlyOne(begun: string, ids: readonly string[], what: string): string {
  const found = ids.filter((id) => id.toLowerCase().startsWith(begun.toLowerCase()));
  const [id] = found;
  if (id === undefined) throw new CliError(`There is no ${what} ${oneLine(begun)}`, exitCodes.notFound);
  if (found.length === 1 || id.length === begun.length) return id;
  const some = found.slice(0, 5).map((one) => oneLine(one));
  throw new CliError(
    `Several ids begin with ${oneLine(begun)}; write more of it: ${some.join(', ')}${found.length > 5 ? ', …' : ''}`,
    exitCodes.usage,
  );
}

/** Client for the `--url` and `--key` given anywhere on the command line. */
export function clientOf(command: Command): Client {
  const { url, apiKey: key } = resolveConnection(command.optsWithGlobals<ConnectionOptions>());
  return createClient({ url, key });
}

export function isJson(command: Command): boolean {
  return command.optsWithGlobals<{ json?: boolean }>().json === true;
}

/** Asks the service and prints what it answers: JSON for scripts, else what `asText` makes of it. */
export async function ask<T>(
  command: Command,
  question: (client: Client) => Promise<T>,
  asText: (answer: T) => string,
): Promise<void> {
  const answer = await question(clientOf(command));
  print(isJson(command), answer, () => asText(answer));
}
