import { once } from 'node:events';
import { lookup as systemLookup } from 'node:dns/promises';
import { open } from 'node:fs/promises';
import http, { type IncomingMessage } from 'node:http';
import https from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { Duplex, type Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { createBrotliDecompress, createGunzip, createInflate, createZstdDecompress } from 'node:zlib';
import { orAborted } from '../../lib/wait.js';
import { bareHost, checkUrl, isPublicAddress, PictureProblem } from './url-policy.js';

export interface ResolvedAddress {
  address: string;
  family: 4 | 6;
}
export type Resolve = (hostname: string) => Promise<ResolvedAddress[]>;

/** Plain data: it is handed to another process. */
export interface DownloadTask {
  kind: 'download';
  url: string;
  /** Where the bytes go. */
  file: string;
  /** The operator's exceptions, see `ReferencePolicy`. */
  allowedHosts: readonly string[];
  maxBytes: number;
  /** From the first name look-up to the last byte, redirects included. */
  timeoutMs: number;
}

const maxRedirects = 3;
const redirects = new Set([301, 302, 303, 307, 308]);
const laterStatuses = new Set([408, 425, 429]);
const maxHeaderBytes = 16_384;
const certificateError =
  /^(CERT_|ERR_TLS_CERT|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_)/;
/** Of the file that is written; every other system error is the connection's. */
const fileCalls = new Set(['open', 'write', 'close', 'fsync']);

const resolveBySystem: Resolve = async (hostname) =>
  (await systemLookup(hostname, { all: true })).map(({ address, family }) => ({
    address,
    family: family === 6 ? 6 : 4,
  }));

/**
 * Downloads a reference into a file. The name is resolved here and the connection goes to the very address
 * that was checked, so that a second answer of a hostile name server has no effect; every redirect passes the
 * same checks.
 * @throws PictureProblem
 */
export async function download(task: DownloadTask, resolve: Resolve = resolveBySystem): Promise<void> {
  const deadline = AbortSignal.timeout(task.timeoutMs);
  let base: URL | undefined;
  let text = task.url;
  try {
    for (let hop = 0; hop <= maxRedirects; hop += 1) {
      const answer = checkUrl(text, task, base);
      if (!answer.allowed)
        throw new PictureProblem(
          answer.rule,
          hop === 0 ? answer.problem : `redirects to an address that is refused: it ${answer.problem}`,
        );
      const next = await downloadOnce(answer, task, resolve, deadline);
      if (next === null) return;
      [base, text] = [answer.url, next];
    }
  } catch (error) {
    if (deadline.aborted) throw new PictureProblem(null, `it took longer than ${task.timeoutMs / 1000} s`);
    throw error;
  }
  throw new PictureProblem('redirects', `redirects more than ${maxRedirects} times`);
}

/** One request. Null when the file is complete, else the address it redirects to. */
async function downloadOnce(
  { url, trusted }: { url: URL; trusted: boolean },
  { file, maxBytes }: DownloadTask,
  resolve: Resolve,
  signal: AbortSignal,
): Promise<string | null> {
  const addresses = await resolveChecked(url, trusted, resolve, signal);
  const { get } = url.protocol === 'https:' ? https : http;
  const request = get(url, {
    agent: false,
    lookup: pinnedTo(addresses),
    signal,
    maxHeaderSize: maxHeaderBytes,
    headers: { accept: 'image/*', 'accept-encoding': 'identity', 'user-agent': 'ourvidz-worker' },
  });
  // After the answer has begun, what goes wrong is told by its body.
  request.on('error', () => {});
  // No server is asked to change the protocol.
  request.on('upgrade', (_response, socket) => {
    socket.destroy();
    request.emit('error', Object.assign(new Error('the server changed the protocol'), { code: 'EPROTO' }));
  });
  try {
    const [response] = (await once(request, 'response', { signal })) as [IncomingMessage];
    const { statusCode = 0, headers } = response;
    if (redirects.has(statusCode) && headers.location !== undefined) return headers.location;
    if (statusCode >= 500 || laterStatuses.has(statusCode))
      throw new PictureProblem(null, `its server answered ${statusCode}`);
    if (statusCode !== 200)
      throw new PictureProblem('reachable', `cannot be fetched: its server answered ${statusCode}`);
    if (Number(headers['content-length'] ?? 0) > maxBytes) throw tooLarge(maxBytes);
    const decoders = decodersOf(headers['content-encoding'] ?? '');
    const target = await open(file, 'w');
    const stages = decoders.flatMap((decoder) => [decoder, limitedTo(maxBytes)]);
    await pipeline([response, limitedTo(maxBytes), ...stages, target.createWriteStream()], { signal });
    return null;
  } catch (error) {
    throw asPictureProblem(error);
  } finally {
    request.destroy();
  }
}

function limitedTo(maxBytes: number): Duplex {
  return Duplex.from(async function* (chunks: AsyncIterable<Buffer>) {
    let bytes = 0;
    for await (const chunk of chunks) {
      bytes += chunk.length;
      if (bytes > maxBytes) throw tooLarge(maxBytes);
      yield chunk;
    }
  });
}

/** Asked for none, some servers encode anyhow. */
const encodings: Readonly<Record<string, () => Transform>> = {
  gzip: createGunzip,
  'x-gzip': createGunzip,
  deflate: createInflate,
  br: createBrotliDecompress,
  zstd: createZstdDecompress,
};
const maxEncodings = 2;

/** What was encoded last is decoded first. */
function decodersOf(header: string): Transform[] {
  const names = header
    .toLowerCase()
    .split(',')
    .map((name) => name.trim())
    .filter((name) => name !== '' && name !== 'identity');
  if (names.length > maxEncodings)
    throw new PictureProblem('encoding', 'is encoded too many times by its server');
  return names.reverse().map((name) => {
    const create = Object.hasOwn(encodings, name) ? encodings[name] : undefined;
    if (create === undefined)
      throw new PictureProblem('encoding', 'comes in a content-encoding that is not known here');
    return create();
  });
}

const tooLarge = (maxBytes: number) => new PictureProblem('size', `is larger than ${maxBytes} bytes`);

async function resolveChecked(
  url: URL,
  trusted: boolean,
  resolve: Resolve,
  signal: AbortSignal,
): Promise<ResolvedAddress[]> {
  const host = bareHost(url);
  if (isIP(host) !== 0) return [{ address: host, family: isIP(host) === 6 ? 6 : 4 }];
  const addresses = await orAborted(resolve(host), signal).catch((error: unknown) => {
    if ((error as NodeJS.ErrnoException).code === 'ENOTFOUND')
      throw new PictureProblem('resolvable', 'names a host that does not exist');
    throw new PictureProblem(null, 'its host name could not be looked up');
  });
  if (addresses.length === 0) throw new PictureProblem('resolvable', 'names a host without addresses');
  // One bad address among good ones is a trick or a mistake; neither is worth a connection.
  if (!trusted && !addresses.every(({ address }) => isPublicAddress(address)))
    throw new PictureProblem('publicAddress', 'must not point to a private, local or reserved address');
  return addresses;
}

/** Name look-up for the socket that knows only the checked addresses. */
function pinnedTo(addresses: ResolvedAddress[]): LookupFunction {
  return (_hostname, options, callback) => {
    const first = addresses[0];
    if (first === undefined) callback(new Error('no address'), '');
    else if (options.all === true) callback(null, addresses);
    else callback(null, first.address, first.family);
  };
}

function asPictureProblem(error: unknown): unknown {
  const { code = '', syscall } = error as NodeJS.ErrnoException;
  if (certificateError.test(code))
    return new PictureProblem('certificate', 'has a server whose certificate cannot be trusted');
  if (/^(Z_|ERR_ZLIB|ERR__?ERROR|ERR_BROTLI|ERR_ZSTD|ZSTD_|ERR_PADDING|ERR_FORMAT)/.test(code))
    return new PictureProblem('encoding', 'comes in a content-encoding that is broken');
  const ofConnection = syscall !== undefined && !fileCalls.has(syscall);
  if (ofConnection || /^(ECONN|EPROTO|HPE_|ERR_SSL|ERR_TLS|ERR_STREAM_PREMATURE_CLOSE)/.test(code))
    return new PictureProblem(null, `the connection failed (${code})`);
  return error;
}
