import { createHmac } from 'node:crypto';
import { Agent, request } from 'undici';
import { userAgent } from '../../lib/project.js';
import { retryAfterMs } from '../../lib/retry.js';
import { keyHeaders } from '../../lib/supabase.js';

export type Delivery =
  | { outcome: 'accepted' }
  /** Worth another try; the receiver may have said when. */
  | { outcome: 'again'; reason: string; status?: number; afterMs?: number; doubt?: Doubt }
  /** 410: the receiver is gone for good. */
  | { outcome: 'refused'; reason: string };
/**
 * Whether the receiver refused whoever sends this, or perhaps only what was sent: 401, and a function that is
 * not deployed, are about the sender; other 403 and 404 may be about the job.
 */
type Doubt = 'sender' | 'perhaps the job';

export type CallbackSender = ReturnType<typeof createCallbackSender>;

const quotedBytes = 500;
/** A receiver may ask for patience, not for ever. */
const longestRetryAfterMs = 3_600_000;

/** Sends one callback. Redirects are not followed: a webhook that moves must be told so by its operator. */
export function createCallbackSender({
  credentials = () => ({}),
  timeoutMs = 20_000,
  now = Date.now,
}: {
  /** What may be sent to an address of what this service knows. */
  credentials?: (url: string) => Credentials;
  timeoutMs?: number;
  now?: () => number;
} = {}) {
  const agent = new Agent({
    connect: { timeout: Math.min(timeoutMs, 10_000) },
    headersTimeout: timeoutMs,
    bodyTimeout: timeoutMs,
    keepAliveTimeout: 10_000,
  });
  return {
    async send(entry: { id: string; url: string; body: string }, signal?: AbortSignal): Promise<Delivery> {
      try {
        const response = await request(entry.url, {
          dispatcher: agent,
          method: 'POST',
          body: entry.body,
          headers: callbackHeaders({ ...entry, atMs: now() }, credentials(entry.url)),
          signal: AbortSignal.any([
            AbortSignal.timeout(timeoutMs),
            ...(signal === undefined ? [] : [signal]),
          ]),
        });
        const { statusCode } = response;
        if (statusCode >= 200 && statusCode < 300) {
          // The status alone counts: a body that never ends must not repeat the delivery.
          void response.body.dump({ limit: 16_384 }).catch(() => {});
          return { outcome: 'accepted' };
        }
        const text = (await readStart(response.body, quotedBytes).catch(() => '')).trim();
        const reason = `${statusCode}${text === '' ? '' : ` ${text}`}`;
        if (statusCode === 410) return { outcome: 'refused', reason };
        const doubt = doubtIn(statusCode, text);
        const afterMs = retryAfterMs(response.headers['retry-after'], now());
        return {
          outcome: 'again',
          reason,
          status: statusCode,
          ...(afterMs === null ? {} : { afterMs: Math.min(afterMs, longestRetryAfterMs) }),
          ...(doubt === null ? {} : { doubt }),
        };
      } catch (error) {
        const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error;
        return {
          outcome: 'again',
          reason:
            cause instanceof Error
              ? `${(cause as NodeJS.ErrnoException).code ?? cause.name}: ${cause.message}`
              : String(cause),
        };
      }
    },
    /** Ends what is being sent: its entries stay in the outbox. */
    close: () => agent.destroy(),
  };
}

/** The gateway of Supabase says of a function that is not deployed: "Requested function was not found". */
function doubtIn(status: number, text: string): Doubt | null {
  if (status === 401 || (status === 404 && /function was not found/i.test(text))) return 'sender';
  return status === 403 || status === 404 ? 'perhaps the job' : null;
}

/** First bytes of an answer; the rest is left unread, however long it is. */
export async function readStart(
  body: AsyncIterable<Uint8Array> & { destroy(): unknown },
  maxBytes: number,
): Promise<string> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    size += chunk.length;
    if (size >= maxBytes) {
      body.destroy();
      break;
    }
  }
  return Buffer.concat(chunks).subarray(0, maxBytes).toString('utf8');
}

export interface Credentials {
  /** `whsec_` and base64 (Standard Webhooks); absent: not signed. */
  secret?: string | undefined;
  serviceKey?: string | undefined;
}

/** Of an address with user and password: `request` leaves them out. */
function basicAuthorization(url: string): Record<string, string> | undefined {
  const { username, password } = new URL(url);
  if (username + password === '') return undefined;
  const text = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { authorization: `Basic ${Buffer.from(text).toString('base64')}` };
}

/** Headers of one delivery: the id is stable over retries, the time is this attempt's. */
export function callbackHeaders(
  { id: entryId, url, body, atMs }: { id: string; url: string; body: string; atMs: number },
  { secret, serviceKey }: Credentials,
): Record<string, string> {
  const id = headerId(entryId);
  const timestamp = String(Math.floor(atMs / 1000));
  return {
    'content-type': 'application/json',
    'user-agent': userAgent(),
    'webhook-id': id,
    'webhook-timestamp': timestamp,
    'idempotency-key': id,
    ...(basicAuthorization(url) ?? (serviceKey === undefined ? {} : keyHeaders(serviceKey))),
    ...(secret === undefined
      ? {}
      : { 'webhook-signature': `v1,${sign(secret, `${id}.${timestamp}.${body}`)}` }),
  };
}

/**
 * Ids may hold what a producer wrote: made fit for a header, and free of the dots that separate the signed
 * parts.
 */
function headerId(id: string): string {
  return encodeURIComponent(Buffer.from(id, 'utf8').toString('utf8'))
    .replaceAll('%3A', ':')
    .replaceAll('.', '%2E');
}

function sign(secret: string, content: string): string {
  return createHmac('sha256', Buffer.from(secret.replace(/^whsec_/, ''), 'base64'))
    .update(content)
    .digest('base64');
}
