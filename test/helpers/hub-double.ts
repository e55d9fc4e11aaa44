import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

export const commit = 'c0ffee0123456789c0ffee0123456789c0ffee01';

/** What a file's next answer does instead of being right; each is used once, in order. */
export type Mischief =
  | { kind: 'status'; status: number; retryAfter?: string; message?: string }
  /** Ends the connection after so many bytes. */
  | { kind: 'cut'; after: number }
  | { kind: 'corrupt' }
  | { kind: 'announce-other' }
  | { kind: 'no-ranges' };

export interface Served {
  file: string;
  from: number;
  bytes: number;
  authorization: string | undefined;
}

/**
 * A double of the Hugging Face hub (not part of this project), after its API: revisions, paged tree with LFS
 * entries, `resolve` that redirects LFS files to a storage host of its own with `X-Linked-Etag`, byte ranges.
 * Any commit means the files given.
 */
export async function startHubDouble(
  repositories: Record<string, Record<string, Buffer>>,
  {
    token,
    bytesPerMs = Infinity,
    pageSize = 5,
  }: { token?: string; bytesPerMs?: number; pageSize?: number } = {},
) {
  const served: Served[] = [];
  const apiRequests: Array<{ url: string; authorization: string | undefined }> = [];
  const mischief = new Map<string, Mischief[]>();
  const settings = { bytesPerMs, size: new Map<string, number>() };
  const isLfs = (name: string) => /\.(onnx|onnx_data|gguf|safetensors)$/.test(name);
  const sha256 = (body: Buffer) => createHash('sha256').update(body).digest('hex');
  const blobId = (body: Buffer) =>
    createHash('sha1').update(`blob ${body.length}\0`).update(body).digest('hex');

  const api = createServer((request, response) => void answer(request, response));
  const storage = createServer((request, response) => {
    const file = decodeURIComponent((request.url ?? '').slice(1));
    const [repository = '', name = ''] = file.split('|');
    void send(request, response, name, repositories[repository]?.[name]);
  });
  const [apiOrigin, storageOrigin] = [await listen(api), await listen(storage)];

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const url = new URL(request.url ?? '/', apiOrigin);
    const { authorization } = request.headers;
    apiRequests.push({ url: request.url ?? '', authorization });
    const refuse = (status: number, headers: Record<string, string> = {}) =>
      void response.writeHead(status, headers).end();
    const general = mischief.get('api')?.shift();
    if (general?.kind === 'status')
      return refuse(
        general.status,
        general.retryAfter === undefined ? {} : { 'retry-after': general.retryAfter },
      );
    if (token !== undefined && authorization !== `Bearer ${token}`)
      return refuse(401, { 'x-error-message': 'Invalid username or password.' });
    const listing = /^\/api\/models\/([^/]+\/[^/]+)\/(revision|tree)\/([^/]+)$/.exec(url.pathname);
    const file = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(url.pathname);
    const repository = listing?.[1] ?? file?.[1] ?? '';
    const files = repositories[repository];
    if (files === undefined) return refuse(404, { 'x-error-message': 'Repository not found' });
    if (listing?.[2] === 'revision') {
      if (listing[3] === 'no-such-branch')
        return refuse(404, { 'x-error-message': 'Invalid rev id: no-such-branch' });
      return void response
        .writeHead(200, { 'content-type': 'application/json' })
        .end(JSON.stringify({ sha: commit, siblings: [] }));
    }
    if (listing?.[2] === 'tree') {
      const entries = Object.entries(files).map(([name, body]) => {
        const size = settings.size.get(name) ?? body.length;
        return isLfs(name)
          ? {
              type: 'file',
              oid: blobId(Buffer.from('pointer')),
              size,
              path: name,
              lfs: { oid: sha256(body), size, pointerSize: 134 },
            }
          : { type: 'file', oid: blobId(body), size, path: name };
      });
      const from = Number(url.searchParams.get('cursor') ?? 0);
      const link =
        from + pageSize < entries.length
          ? { link: `<${apiOrigin}${url.pathname}?recursive=true&cursor=${from + pageSize}>; rel="next"` }
          : {};
      return void response
        .writeHead(200, { 'content-type': 'application/json', ...link })
        .end(
          JSON.stringify([
            { type: 'directory', path: 'folder', oid: '', size: 0 },
            ...entries.slice(from, from + pageSize),
          ]),
        );
    }
    const name = decodeURIComponent(file?.[3] ?? '');
    const body = files[name];
    if (body === undefined) return refuse(404, { 'x-error-message': 'Entry not found' });
    if (!isLfs(name)) return send(request, response, name, body);
    const other = mischief.get(name)?.[0]?.kind === 'announce-other';
    if (other) mischief.get(name)?.shift();
    response
      .writeHead(302, {
        location: `${storageOrigin}/${encodeURIComponent(`${repository}|${name}`)}`,
        'x-linked-etag': `"${other ? 'f'.repeat(64) : sha256(body)}"`,
        'x-linked-size': String(body.length),
        'x-repo-commit': commit,
      })
      .end();
  }

  async function send(
    request: IncomingMessage,
    response: ServerResponse,
    name: string,
    body: Buffer | undefined,
  ): Promise<void> {
    const trick = mischief.get(name)?.shift();
    if (trick?.kind === 'status' || body === undefined) {
      const status = trick?.kind === 'status' ? trick : { status: 404 };
      response
        .writeHead(status.status, {
          ...('retryAfter' in status && status.retryAfter !== undefined
            ? { 'retry-after': status.retryAfter }
            : {}),
        })
        .end();
      return;
    }
    const asked =
      trick?.kind === 'no-ranges' ? 0 : Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? '')?.[1] ?? 0);
    const entry: Served = { file: name, from: asked, bytes: 0, authorization: request.headers.authorization };
    served.push(entry);
    const content =
      trick?.kind === 'corrupt'
        ? Buffer.from(body).fill(0x55, Math.floor(body.length / 2), Math.floor(body.length / 2) + 8)
        : body;
    response.writeHead(asked > 0 ? 206 : 200, {
      'content-length': body.length - asked,
      etag: '"x"',
      ...(asked > 0 ? { 'content-range': `bytes ${asked}-${body.length - 1}/${body.length}` } : {}),
    });
    const step = 16_384;
    const closed = once(response, 'close');
    for (let at = asked; at < body.length; at += step) {
      if (trick?.kind === 'cut' && at - asked >= trick.after) {
        response.destroy();
        return;
      }
      const chunk = content.subarray(at, Math.min(at + step, body.length));
      if (response.destroyed) return;
      entry.bytes += chunk.length;
      if (!response.write(chunk)) await Promise.race([once(response, 'drain'), closed]);
      if (Number.isFinite(settings.bytesPerMs)) await sleep(chunk.length / settings.bytesPerMs);
    }
    response.end();
  }

  return {
    origin: apiOrigin,
    served,
    apiRequests,
    /** The next answers for a file (`api`: for any API request). */
    misbehave(file: string, ...tricks: Mischief[]): void {
      mischief.set(file, tricks);
    },
    /** Claims another size in the file list. */
    claimSize(file: string, bytes: number): void {
      settings.size.set(file, bytes);
    },
    setSpeed(speed: number): void {
      settings.bytesPerMs = speed;
    },
    bytesOf: (file: string) =>
      served.filter((entry) => entry.file === file).reduce((sum, { bytes }) => sum + bytes, 0),
    close: async () =>
      Promise.all(
        [api, storage].map(
          (server) =>
            new Promise<void>((resolve) => {
              server.close(() => resolve());
              server.closeAllConnections();
            }),
        ),
      ),
  };
}

export type HubDouble = Awaited<ReturnType<typeof startHubDouble>>;

async function listen(server: Server): Promise<string> {
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
}
