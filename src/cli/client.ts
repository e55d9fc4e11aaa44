import type { Command } from 'commander';
import { readFileSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import path from 'node:path';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import type { ReadableStream as WebReadableStream } from 'node:stream/web';
import { EventSourceParserStream } from 'eventsource-parser/stream';
import { CliError, exitCodes, print } from './output.js';
import { readEnvironment } from '../lib/environment.js';
import { oneLine } from '../lib/printable.js';

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
  const url = (
    options.url ??
    settings['OURVIDZ_URL'] ??
    `http://127.0.0.1:${settings['PORT'] ?? '7860'}`
  ).replace(/\/+$/, '');
  const apiKey =
    options.key ??
    settings['WAN_WORKER_API_KEY'] ??
    (isLoopback(url)
      ? readGeneratedKey(path.resolve(workingFolder, settings['DATA_DIR'] ?? 'data'))
      : undefined);
  return { url, apiKey };
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

export type Client = ReturnType<typeof createClient>;

export interface RequestOptions {
  body?: unknown;
  headers?: Record<string, string>;
  signal?: AbortSignal;
}

/**
 * What the command line needs of the service's HTTP interface; failures are `CliError`s with their exit code.
 */
export function createClient({ url, apiKey }: Connection) {
  async function send(method: string, target: string, options: RequestOptions = {}): Promise<Response> {
    const address = new URL(target, `${url}/`);
    const headers: Record<string, string> = { ...options.headers };
    // Assets may lie on another host (Supabase): the key is only for the service itself.
    if (apiKey !== undefined && address.origin === new URL(url).origin)
      headers['authorization'] = `Bearer ${apiKey}`;
    if (options.body !== undefined) headers['content-type'] = 'application/json';
    let response: Response;
    try {
      response = await fetch(address, {
        method,
        headers,
        ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
        ...(options.signal ? { signal: options.signal } : {}),
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new CliError(
        `No service answers at ${url} (${causeOf(error)}). ` +
          'Start one with "npm start" or "npm run demo", or pass --url.',
        exitCodes.unreachable,
      );
    }
    if (!response.ok) throw await errorOf(response, url);
    return response;
  }

  return {
    url,
    /** JSON of a 2xx answer. */
    request: async <T>(method: string, target: string, options?: RequestOptions): Promise<T> => {
      const response = await send(method, target, options);
      const text = await response.text();
      try {
        return (text === '' ? {} : JSON.parse(text)) as T;
      } catch {
        throw new CliError(
          `${url} answered ${oneLine(target)} with something that is not JSON; is it an OurVidz worker?`,
          exitCodes.serviceError,
        );
      }
    },

    /** Events of a job after `lastEventId`, until the service ends the stream. */
    async *events(
      jobId: string,
      lastEventId: string | undefined,
      signal: AbortSignal,
    ): AsyncGenerator<{ id: string | undefined; event: string; data: unknown }> {
      const headers: Record<string, string> = {
        accept: 'text/event-stream',
        ...(lastEventId === undefined ? {} : { 'last-event-id': lastEventId }),
      };
      const response = await send('GET', `/jobs/${encodeURIComponent(jobId)}/events`, { headers, signal });
      if (!response.body) return;
      for await (const message of response.body
        .pipeThrough(new TextDecoderStream())
        .pipeThrough(new EventSourceParserStream())) {
        yield {
          id: message.id,
          event: message.event ?? 'message',
          data: JSON.parse(message.data) as unknown,
        };
      }
    },

    /** Writes an asset to a file that must not exist yet; half of one is not left behind. */
    download: async (assetUrl: string, file: string): Promise<void> => {
      const response = await send('GET', assetUrl);
      if (!response.body) throw new CliError(`${oneLine(assetUrl)} has no content`, exitCodes.serviceError);
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
            `The connection broke off in the middle of ${oneLine(assetUrl)}. The service still has the file.`,
            exitCodes.unreachable,
          );
        throw error;
      }
    },
  };
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
};

/** The service's own message with its details; `/enhance` has its own shape of failure. */
async function errorOf(response: Response, url: string): Promise<CliError> {
  const text = await response.text();
  const plain = `${url} answered ${response.status}`;
  let message: string;
  try {
    const body = JSON.parse(text) as {
      message?: string;
      error?: string;
      details?: Array<{ field: string; message: string }>;
    };
    const details = (body.details ?? []).map((detail) => `${detail.field}: ${detail.message}`);
    message = [body.message ?? body.error ?? plain, ...details].map((line) => oneLine(line)).join('\n  ');
  } catch {
    message = `${plain}: ${oneLine(text.slice(0, 200))}`;
  }
  if (response.status === 401)
    message +=
      '\nPass the key with --key or WAN_WORKER_API_KEY. ' +
      'A service that is given none writes one to DATA_DIR/api-key.';
  return new CliError(message, exitCodeByStatus[response.status] ?? exitCodes.serviceError);
}

function causeOf(error: unknown): string {
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
  return cause instanceof Error ? ((cause as NodeJS.ErrnoException).code ?? cause.message) : String(cause);
}

/** Client for the `--url` and `--key` given anywhere on the command line. */
export function clientOf(command: Command): Client {
  return createClient(resolveConnection(command.optsWithGlobals<ConnectionOptions>()));
}

export function isJson(command: Command): boolean {
  return command.optsWithGlobals<{ json?: boolean }>().json === true;
}

/** Asks the service and prints what it answers: JSON for scripts, else what `asText` makes of it. */
export async function ask<T>(
  command: Command,
  [method, target, body]: [method: string, target: string, body?: unknown],
  asText: (answer: T) => string,
): Promise<void> {
  const answer = await clientOf(command).request<T>(method, target, body === undefined ? {} : { body });
  print(isJson(command), answer, () => asText(answer));
}
