import { oneLine } from '../../lib/printable.js';
import { exitCodes } from '../output.js';
import { createHubRequests, HubError, type HubOptions } from './hub-requests.js';

export { HubError };

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

/** A page of the largest repositories lists a thousand files. */
const mostPages = 100;

export type Hub = ReturnType<typeof createHub>;

/**
 * Client of the Hugging Face hub's HTTP API (huggingface.co/docs/hub/api): commit of a revision, files of a
 * commit, bytes of a file.
 */
export function createHub(options: HubOptions) {
  const { base, request, json, refusal, notTheApi, close } = createHubRequests(options);

  return {
    endpoint: base,

    /** The commit a branch, tag or commit means. */
    async resolveRevision(repository: string, revision: string, signal: AbortSignal): Promise<string> {
      const { body } = await json(
        `${base}/api/models/${repository}/revision/${encodeURIComponent(revision)}`,
        `${repository} at ${revision}`,
        signal,
      );
      const sha = (body as { sha?: unknown } | null)?.sha;
      if (typeof sha !== 'string' || !/^[0-9a-f]{40}$/.test(sha))
        throw new HubError(
          `${base} named no commit for ${repository}: check HF_ENDPOINT`,
          exitCodes.serviceError,
        );
      return sha;
    },

    /** All files of a commit, page by page. */
    async listFiles(repository: string, commit: string, signal: AbortSignal): Promise<HubFile[]> {
      const files: HubFile[] = [];
      let route: string | null = `${base}/api/models/${repository}/tree/${commit}?recursive=true`;
      for (let page = 0; route !== null; page += 1) {
        if (page === mostPages)
          throw new HubError(
            `${base} lists the files of ${repository} on more than ${mostPages} pages: check HF_ENDPOINT`,
            exitCodes.serviceError,
          );
        const answer: { body: unknown; next: string | null } = await json(
          route,
          `file list of ${repository}`,
          signal,
        );
        if (!Array.isArray(answer.body)) throw notTheApi();
        for (const entry of answer.body as unknown[]) {
          const file = readEntry(entry);
          if (file === undefined) throw notTheApi();
          if (file !== null) files.push(file);
        }
        route = answer.next;
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
      const name = file.path.split('/').map(encodeURIComponent).join('/');
      const route = `${base}/${repository}/resolve/${commit}/${name}`;
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
          `${base} announces ${file.path} with another checksum than its file list ` +
            `(${linkedChecksum}, not ${file.checksum.value})`,
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

    close,
  };
}

/**
 * A file of the list; null for a folder, undefined for what is neither.
 * @throws HubError for a path that leaves its folder
 */
function readEntry(entry: unknown): HubFile | null | undefined {
  const { type, path, size, oid, lfs } = (entry ?? {}) as Record<string, unknown>;
  if (typeof type === 'string' && type !== 'file') return null;
  const large = lfs as { oid?: unknown; size?: unknown } | undefined;
  const bytes = large?.size ?? size;
  const value = large === undefined ? oid : large.oid;
  const checksum = large === undefined ? /^[0-9a-f]{40}$/ : /^[0-9a-f]{64}$/;
  if (type !== 'file' || typeof path !== 'string') return undefined;
  if (typeof value !== 'string' || !checksum.test(value)) return undefined;
  if (typeof bytes !== 'number' || !Number.isSafeInteger(bytes) || bytes < 0) return undefined;
  if (path.split('/').some((part) => part === '..' || part === '') || /[\\\p{Cc}]/u.test(path))
    throw new HubError(
      `The hub lists a path that leaves its folder: ${oneLine(path)}`,
      exitCodes.serviceError,
    );
  return { path, size: bytes, checksum: { algorithm: large === undefined ? 'git-sha1' : 'sha256', value } };
}
