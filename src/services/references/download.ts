import { lookup as systemLookup } from 'node:dns/promises';
import { open } from 'node:fs/promises';
import { isIP, type LookupFunction } from 'node:net';
import { Transform } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { Agent, request } from 'undici';
import { bareHost, checkUrl, isPublicAddress, notNow, type ReferencePolicy, refusal } from './url-policy.js';
import { orAborted } from '../../lib/wait.js';

export interface ResolvedAddress {
  address: string;
  family: 4 | 6;
}
export type Resolve = (hostname: string) => Promise<ResolvedAddress[]>;

export interface DownloadOptions {
  policy: ReferencePolicy;
  maxBytes: number;
  /** From the first name look-up to the last byte, redirects included. */
  timeoutMs: number;
  maxRedirects?: number;
  resolve?: Resolve;
}

const redirects = new Set([301, 302, 303, 307, 308]);
const laterStatuses = new Set([408, 425, 429]);
const certificateError =
  /^(CERT_|ERR_TLS_CERT|DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_)/;

export const resolveBySystem: Resolve = async (hostname) =>
  (await systemLookup(hostname, { all: true })).map(({ address, family }) => ({
    address,
    family: family === 6 ? 6 : 4,
  }));

/**
 * Downloads a reference into `file`. The name is resolved here and the connection goes to the very address
 * that was checked, so that a second answer of a hostile name server has no effect; every redirect passes the
 * same checks.
 * @throws AppError `invalidParameters` naming `field` for refusals, `unavailable` for what may work later
 */
export async function download(
  reference: { url: string; field: string },
  file: string,
  options: DownloadOptions,
  signal: AbortSignal,
): Promise<void> {
  const { field } = reference;
  const { policy, maxRedirects = 3, timeoutMs } = options;
  const deadline = AbortSignal.timeout(timeoutMs);
  const either = AbortSignal.any([signal, deadline]);
  let base: URL | undefined;
  let text = reference.url;
  try {
    for (let hop = 0; hop <= maxRedirects; hop += 1) {
      const answer = checkUrl(text, policy, base);
      if (!answer.allowed)
        throw refusal(
          field,
          answer.rule,
          hop === 0 ? answer.problem : `redirects to an address that is refused: it ${answer.problem}`,
        );
      const next = await downloadOnce(field, answer, file, options, either);
      if (next === null) return;
      [base, text] = [answer.url, next];
    }
  } catch (error) {
    signal.throwIfAborted();
    if (deadline.aborted) throw notNow(field, `it took longer than ${timeoutMs / 1000} s`, error);
    throw error;
  }
  throw refusal(field, 'redirects', `redirects more than ${maxRedirects} times`);
}

/** One request. Null when the file is complete, else the address it redirects to. */
async function downloadOnce(
  field: string,
  { url, trusted }: { url: URL; trusted: boolean },
  file: string,
  { maxBytes, timeoutMs, resolve = resolveBySystem }: DownloadOptions,
  signal: AbortSignal,
): Promise<string | null> {
  const addresses = await resolveChecked(field, url, trusted, resolve, signal);
  const agent = new Agent({
    connect: { lookup: pinnedTo(addresses), timeout: timeoutMs },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    pipelining: 0,
  });
  try {
    const { statusCode, headers, body } = await request(url, {
      dispatcher: agent,
      signal,
      headers: { accept: 'image/*', 'accept-encoding': 'identity', 'user-agent': 'ourvidz-worker' },
    });
    body.on('error', () => {});
    if (redirects.has(statusCode) && typeof headers.location === 'string') return headers.location;
    if (statusCode >= 500 || laterStatuses.has(statusCode))
      throw notNow(field, `its server answered ${statusCode}`);
    if (statusCode !== 200)
      throw refusal(field, 'reachable', `cannot be fetched: its server answered ${statusCode}`);
    const tooLarge = () => refusal(field, 'size', `is larger than ${maxBytes} bytes`);
    if (Number(headers['content-length'] ?? 0) > maxBytes) throw tooLarge();
    let bytes = 0;
    const limit = new Transform({
      transform(chunk: Buffer, _encoding, done) {
        bytes += chunk.length;
        if (bytes > maxBytes) done(tooLarge());
        else done(null, chunk);
      },
    });
    // Opened before anything can fail: a stream that opens its own file may still create it after the caller
    // has cleaned up.
    const target = await open(file, 'w');
    await pipeline(body, limit, target.createWriteStream(), { signal });
    return null;
  } catch (error) {
    throw asReferenceError(field, error);
  } finally {
    await agent.destroy().catch(() => {});
  }
}

async function resolveChecked(
  field: string,
  url: URL,
  trusted: boolean,
  resolve: Resolve,
  signal: AbortSignal,
): Promise<ResolvedAddress[]> {
  const host = bareHost(url);
  if (isIP(host) !== 0) return [{ address: host, family: isIP(host) === 6 ? 6 : 4 }];
  const addresses = await orAborted(resolve(host), signal).catch((error: unknown) => {
    signal.throwIfAborted();
    if ((error as NodeJS.ErrnoException).code === 'ENOTFOUND')
      throw refusal(field, 'resolvable', 'names a host that does not exist');
    throw notNow(field, 'its host name could not be looked up', error);
  });
  if (addresses.length === 0) throw refusal(field, 'resolvable', 'names a host without addresses');
  // One bad address among good ones is a trick or a mistake; neither is worth a connection.
  if (!trusted && !addresses.every(({ address }) => isPublicAddress(address)))
    throw refusal(field, 'publicAddress', 'must not point to a private, local or reserved address');
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

function asReferenceError(field: string, error: unknown): unknown {
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (certificateError.test(code))
    return refusal(field, 'certificate', 'has a server whose certificate cannot be trusted');
  if (
    error instanceof Error &&
    (code.startsWith('UND_ERR') ||
      ('syscall' in error && error.syscall !== 'open' && error.syscall !== 'write') ||
      code.startsWith('ERR_SSL') ||
      code === 'ERR_STREAM_PREMATURE_CLOSE' ||
      code === 'EPROTO')
  ) {
    return notNow(field, `the connection failed (${code})`, error);
  }
  return error;
}
