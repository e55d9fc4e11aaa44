import { EnvHttpProxyAgent, fetch, type Response } from 'undici';
import type { HubFile } from '../models/hub.js';
import { HubError } from '../models/hub.js';
import { exitCodes } from '../output.js';
import type { PinnedPackage } from './catalogue.js';

/** An index page is far smaller; nothing larger is read. */
const mostPageBytes = 32 << 20;

/**
 * Files of PyPI (its simple API, PEP 503 and PEP 691) and of an npm registry, or of mirrors of them. Where a file lies is
 * all that is taken from an index: its size and checksum are pinned.
 */
export function createPackageIndex({ pypi, npm }: { pypi: string; npm: string }, timeoutMs = 60_000) {
  const dispatcher = new EnvHttpProxyAgent({ headersTimeout: timeoutMs, bodyTimeout: timeoutMs });
  const addresses = new Map<string, string>();

  async function get(
    address: string,
    headers: Record<string, string>,
    signal: AbortSignal,
  ): Promise<Response> {
    const response = await fetch(address, {
      dispatcher,
      headers: { 'user-agent': 'ourvidz-worker', ...headers },
      signal,
    }).catch((error: unknown) => {
      signal.throwIfAborted();
      const { cause, message } = error as { cause?: { code?: string }; message: string };
      const reason = cause?.code ?? message;
      throw new HubError(
        `${new URL(address).origin} does not answer (${reason}): check the connection, HTTPS_PROXY, or set ` +
          'PIP_INDEX_URL to a mirror',
        exitCodes.unreachable,
        true,
      );
    });
    if (response.ok) return response;
    await response.body?.cancel();
    const again = response.status >= 500 || response.status === 429;
    const origin = new URL(address).origin;
    throw new HubError(`${origin} answers ${response.status} for ${address}`, exitCodes.serviceError, again);
  }

  async function addressOf({ name, version, file }: PinnedPackage, signal: AbortSignal): Promise<string> {
    if (file.endsWith('.tgz')) return `${npm}/${name}/-/${name}-${version}.tgz`;
    const known = addresses.get(file);
    if (known !== undefined) return known;
    const page = `${pypi}/${name}/`;
    const accept = 'application/vnd.pypi.simple.v1+json, text/html;q=0.5';
    const response = await get(page, { accept }, signal);
    const text = await readPage(response, page);
    const href = response.headers.get('content-type')?.includes('json')
      ? (JSON.parse(text) as { files?: Array<{ filename: string; url: string }> }).files?.find(
          ({ filename }) => filename === file,
        )?.url
      : [...text.matchAll(/<a\s[^>]*?href="([^"]+)"/gi)]
          .map(([, link]) => (link ?? '').replaceAll('&amp;', '&'))
          .find((link) => decodeURIComponent(new URL(link, page).pathname).endsWith(`/${file}`));
    if (href === undefined)
      throw new HubError(
        `${page} has no ${file}: set PIP_INDEX_URL to an index that has`,
        exitCodes.notFound,
      );
    const address = new URL(href, page).href;
    addresses.set(file, address);
    return address;
  }

  return {
    endpoint: pypi,
    /** Bytes of a package's file from `offset`, and where they begin: 0 when the server does not do ranges. */
    async open(pinned: PinnedPackage, offset: number, signal: AbortSignal) {
      const address = await addressOf(pinned, signal);
      const range: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
      const response = await get(address, { 'accept-encoding': 'identity', ...range }, signal);
      if (response.body === null) throw new HubError(`${address} sent nothing`, exitCodes.serviceError, true);
      const begins = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
      return { body: response.body, offset: response.status === 206 ? Number(begins ?? offset) : 0 };
    },
    close: () => dispatcher.close(),
  };
}
export type PackageIndex = ReturnType<typeof createPackageIndex>;

/** As the downloader of models knows a file. */
export function asHubFile({ file, bytes, sha256 }: PinnedPackage): HubFile {
  return { path: file, size: bytes, checksum: { algorithm: 'sha256', value: sha256 } };
}

async function readPage(response: Response, page: string): Promise<string> {
  const chunks: Uint8Array[] = [];
  let bytes = 0;
  for await (const chunk of (response.body ?? []) as AsyncIterable<Uint8Array>) {
    bytes += chunk.length;
    if (bytes > mostPageBytes)
      throw new HubError(`${page} is no package index: it does not end`, exitCodes.serviceError);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks).toString('utf8');
}
