import { EnvHttpProxyAgent, fetch, type Dispatcher, type Response } from 'undici';
import { oneLine } from '../../lib/printable.js';
import { retryAfterMs } from '../../lib/retry.js';
import { CliError, exitCodes } from '../output.js';

export interface HubOptions {
  /** `HF_ENDPOINT`: the hub or a mirror of it. */
  endpoint: string;
  token: string | undefined;
  /** How long a silent connection is waited for. */
  timeoutMs?: number;
  /** How long one answer of the API may take in all. */
  answerMs?: number;
}

/** Bounds of the API's answers; a page of the largest repositories has half a megabyte. */
const largestAnswerBytes = 16 << 20;
const mostRedirects = 5;

/** Trouble with the hub, worded for a terminal; `retryable` when the same request may succeed later. */
export class HubError extends CliError {
  constructor(
    message: string,
    exitCode: number,
    readonly retryable = false,
    readonly retryAfterMs?: number,
  ) {
    super(message, exitCode);
    this.name = 'HubError';
  }
}

const redirects = new Set([301, 302, 303, 307, 308]);

/**
 * Requests to the hub, each with its bounds in time, size and redirects; refusals are worded for a terminal.
 */
export function createHubRequests({ endpoint, token, timeoutMs = 60_000, answerMs = 60_000 }: HubOptions) {
  const base = endpoint.replace(/\/+$/, '');
  if (!/^https?:$/.test(URL.parse(base)?.protocol ?? ''))
    throw new CliError(
      `HF_ENDPOINT is ${base}; it must be an address starting with http:// or https://`,
      exitCodes.usage,
    );
  const dispatcher: Dispatcher = new EnvHttpProxyAgent({
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    connect: { timeout: timeoutMs },
  });

  /**
   * Follows redirects itself: the token must not travel to the storage host, and the first answer names the
   * file's checksum.
   */
  async function request(
    address: string,
    headers: Record<string, string>,
    signal?: AbortSignal,
  ): Promise<{ response: Response; linkedChecksum: string | null }> {
    let url = new URL(address);
    let linkedChecksum: string | null = null;
    for (let hop = 0; hop <= mostRedirects; hop += 1) {
      const authorization =
        token !== undefined && url.origin === new URL(base).origin
          ? { authorization: `Bearer ${token}` }
          : {};
      let response: Response;
      try {
        response = await fetch(url, {
          dispatcher,
          redirect: 'manual',
          headers: { 'user-agent': 'ourvidz-worker', ...headers, ...authorization },
          ...(signal === undefined ? {} : { signal }),
        });
      } catch (error) {
        if (signal?.aborted === true) throw error;
        throw new HubError(
          `${url.origin} does not answer (${causeOf(error)}): ` +
            'check the connection, HTTPS_PROXY, or set HF_ENDPOINT to a mirror',
          exitCodes.unreachable,
          true,
        );
      }
      linkedChecksum ??= response.headers.get('x-linked-etag')?.replace(/^(?:W\/)?"|"$/g, '') ?? null;
      const location = response.headers.get('location');
      if (!redirects.has(response.status) || location === null) return { response, linkedChecksum };
      await response.body?.cancel();
      const next = URL.parse(location, url.href);
      if (next === null || !['http:', 'https:'].includes(next.protocol))
        throw new HubError(`${base} redirects to what is no web address`, exitCodes.serviceError);
      url = next;
    }
    throw new HubError(
      `${base} redirects more than ${mostRedirects} times: check HF_ENDPOINT`,
      exitCodes.serviceError,
    );
  }

  const notTheApi = () =>
    new HubError(`${base} answers with what is not the hub's API: check HF_ENDPOINT`, exitCodes.serviceError);

  /** One answer of the API, bounded in time and size, and the address of the page after it. */
  async function json(
    route: string,
    what: string,
    signal: AbortSignal,
  ): Promise<{ body: unknown; next: string | null }> {
    const deadline = AbortSignal.timeout(answerMs);
    try {
      const inTime = AbortSignal.any([signal, deadline]);
      const { response } = await request(route, { accept: 'application/json' }, inTime);
      if (!response.ok) throw await refusal(response, what);
      const link = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('link') ?? '')?.[1];
      const next = link === undefined ? null : URL.parse(link, base);
      return { body: JSON.parse(await boundedText(response)) as unknown, next: next?.href ?? null };
    } catch (error) {
      signal.throwIfAborted();
      if (deadline.aborted)
        throw new HubError(
          `${base} did not finish its ${what} in ${answerMs / 1000} s: try again later, or set HF_ENDPOINT to a mirror`,
          exitCodes.unreachable,
          true,
        );
      if (error instanceof SyntaxError) throw notTheApi();
      throw error;
    }
  }

  async function boundedText(response: Response): Promise<string> {
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for await (const part of (response.body ?? []) as AsyncIterable<Uint8Array>) {
      bytes += part.length;
      if (bytes > largestAnswerBytes)
        throw new HubError(
          `${base} answers with more than ${largestAnswerBytes >> 20} MiB: check HF_ENDPOINT`,
          exitCodes.serviceError,
        );
      parts.push(part);
    }
    return Buffer.concat(parts).toString('utf8');
  }

  async function refusal(response: Response, what: string): Promise<HubError> {
    const { status, headers } = response;
    const said = oneLine(headers.get('x-error-message') ?? '').slice(0, 200);
    await response.body?.cancel();
    const tail = said === '' ? '' : ` (${said})`;
    if (status === 401 || status === 403) {
      const cure =
        token === undefined
          ? 'set HF_TOKEN to an access token of an account that may read it'
          : "the token in HF_TOKEN may not read it: accept the model's terms on its page, or use another token";
      return new HubError(`${base} refuses ${what} with ${status}${tail}: ${cure}`, exitCodes.unauthorized);
    }
    if (status === 404)
      return new HubError(
        `${base} has no ${what}${tail}: check --revision and HF_ENDPOINT; a private repository needs HF_TOKEN`,
        exitCodes.notFound,
      );
    if (status === 429)
      return new HubError(
        `${base} allows no more requests for now (429)${tail}: try again later; with HF_TOKEN the limit is higher`,
        exitCodes.busy,
        true,
        retryAfterMs(headers.get('retry-after')) ?? undefined,
      );
    if (status >= 500)
      return new HubError(
        `${base} fails with ${status}${tail}: ` +
          'try again later, what has arrived is kept; or set HF_ENDPOINT to a mirror',
        exitCodes.serviceError,
        true,
        retryAfterMs(headers.get('retry-after')) ?? undefined,
      );
    return new HubError(`${base} answers ${status} for ${what}${tail}`, exitCodes.serviceError);
  }

  return { base, request, json, refusal, notTheApi, close: () => dispatcher.destroy() };
}

function causeOf(error: unknown): string {
  const { cause, message } = error as { cause?: { code?: string; message?: string }; message?: string };
  return cause?.code ?? cause?.message ?? message ?? String(error);
}
