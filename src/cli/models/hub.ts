import { EnvHttpProxyAgent, fetch, type Dispatcher, type Response } from 'undici';
import { retryAfterMs } from '../../lib/retry.js';
import { CliError, exitCodes } from '../output.js';

/**
 * One file of a repository. LFS files are known by the SHA-256 of their content, small ones by their Git blob
 * id.
 */
export interface HubFile {
  path: string;
  /** Bytes. */
  size: number;
  checksum: { algorithm: 'sha256' | 'git-sha1'; value: string };
}

export interface HubOptions {
  /** `HF_ENDPOINT`: the hub or a mirror of it. */
  endpoint: string;
  token: string | undefined;
  /** How long a silent connection is waited for. */
  timeoutMs?: number;
}

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

export type Hub = ReturnType<typeof createHub>;

/**
 * Client of the Hugging Face hub's HTTP API (huggingface.co/docs/hub/api): commit of a revision, files of a
 * commit, bytes of a file.
 */
export function createHub({ endpoint, token, timeoutMs = 60_000 }: HubOptions) {
  const base = endpoint.replace(/\/+$/, '');
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
    for (let hop = 0; hop < 6; hop += 1) {
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
          `${url.origin} does not answer (${causeOf(error)}): check the connection, HTTPS_PROXY, or set HF_ENDPOINT to a mirror`,
          exitCodes.unreachable,
          true,
        );
      }
      linkedChecksum ??= response.headers.get('x-linked-etag')?.replace(/^(?:W\/)?"|"$/g, '') ?? null;
      const location = response.headers.get('location');
      if (!redirects.has(response.status) || location === null) return { response, linkedChecksum };
      await response.body?.cancel();
      url = new URL(location, url);
    }
    throw new HubError(`${address} redirects in circles`, exitCodes.serviceError);
  }

  async function json(
    route: string,
    what: string,
    signal?: AbortSignal,
  ): Promise<{ body: unknown; next: string | null }> {
    const { response } = await request(route, { accept: 'application/json' }, signal);
    if (!response.ok) throw await refusal(response, what);
    const next = /<([^>]+)>;\s*rel="next"/.exec(response.headers.get('link') ?? '')?.[1] ?? null;
    try {
      return { body: await response.json(), next: next === null ? null : new URL(next, base).href };
    } catch {
      throw new HubError(
        `${base} answered with something that is not the hub's API: check HF_ENDPOINT`,
        exitCodes.serviceError,
      );
    }
  }

  async function refusal(response: Response, what: string): Promise<HubError> {
    const { status, headers } = response;
    const said = headers.get('x-error-message') ?? '';
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
        `${base} has no ${what}${tail}: see --revision and HF_ENDPOINT; a private repository needs HF_TOKEN`,
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
        `${base} fails with ${status}${tail}: try again later, what has arrived is kept; or set HF_ENDPOINT to a mirror`,
        exitCodes.serviceError,
        true,
        retryAfterMs(headers.get('retry-after')) ?? undefined,
      );
    return new HubError(`${base} answers ${status} for ${what}${tail}`, exitCodes.serviceError);
  }

  return {
    endpoint: base,

    /** The commit a branch, tag or commit means. */
    async resolveRevision(repository: string, revision: string): Promise<string> {
      const { body } = await json(
        `${base}/api/models/${repository}/revision/${encodeURIComponent(revision)}`,
        `${repository} at ${revision}`,
      );
      const { sha } = body as { sha?: unknown };
      if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha))
        throw new HubError(
          `${base} named no commit for ${repository}: check HF_ENDPOINT`,
          exitCodes.serviceError,
        );
      return sha;
    },

    /** All files of a commit, page by page. */
    async listFiles(repository: string, commit: string): Promise<HubFile[]> {
      const files: HubFile[] = [];
      let route: string | null = `${base}/api/models/${repository}/tree/${commit}?recursive=true`;
      while (route !== null) {
        const { body, next }: { body: unknown; next: string | null } = await json(
          route,
          `file list of ${repository}`,
        );
        for (const entry of body as Array<{
          type: string;
          path: string;
          size: number;
          oid: string;
          lfs?: { oid: string; size: number };
        }>) {
          if (entry.type !== 'file') continue;
          if (entry.path.split('/').some((part) => part === '..' || part === '') || entry.path.includes('\\'))
            throw new HubError(
              `${repository} lists a path that leaves its folder: ${entry.path}`,
              exitCodes.serviceError,
            );
          files.push({
            path: entry.path,
            size: entry.lfs?.size ?? entry.size,
            checksum:
              entry.lfs === undefined
                ? { algorithm: 'git-sha1', value: entry.oid }
                : { algorithm: 'sha256', value: entry.lfs.oid },
          });
        }
        route = next;
      }
      return files;
    },

    /**
     * Bytes of a file from `offset`.
     * @returns the body and where it begins: 0 when the server does not do ranges
     * @throws HubError, also when the hub announces another checksum than its file list did
     */
    async open(
      repository: string,
      commit: string,
      file: HubFile,
      offset: number,
      signal: AbortSignal,
    ): Promise<{ body: AsyncIterable<Uint8Array>; offset: number }> {
      const route = `${base}/${repository}/resolve/${commit}/${file.path.split('/').map(encodeURIComponent).join('/')}`;
      const { response, linkedChecksum } = await request(
        route,
        { 'accept-encoding': 'identity', ...(offset > 0 ? { range: `bytes=${offset}-` } : {}) },
        signal,
      );
      if (response.status !== 200 && response.status !== 206)
        throw await refusal(response, `${repository}/${file.path}`);
      if (
        file.checksum.algorithm === 'sha256' &&
        linkedChecksum !== null &&
        linkedChecksum !== file.checksum.value
      ) {
        await response.body?.cancel();
        throw new HubError(
          `${base} announces ${file.path} with another checksum than its file list (${linkedChecksum}, not ${file.checksum.value})`,
          exitCodes.serviceError,
        );
      }
      if (response.body === null)
        throw new HubError(`${base} sent nothing for ${file.path}`, exitCodes.serviceError, true);
      const begins =
        response.status === 206
          ? Number(/^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1] ?? offset)
          : 0;
      return { body: response.body, offset: begins };
    },

    close: () => dispatcher.close(),
  };
}

function causeOf(error: unknown): string {
  const { cause, message } = error as { cause?: { code?: string; message?: string }; message?: string };
  return cause?.code ?? cause?.message ?? message ?? String(error);
}
