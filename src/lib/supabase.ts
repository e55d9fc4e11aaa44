/**
 * What is known of Supabase itself: its keys and where they may go, and what its errors mean.
 */

/** What a key says of itself; nothing of it is proven by that. */
export interface KeyFacts {
  kind: 'secret' | 'publishable' | 'jwt' | 'unknown';
  role?: string;
  expiresAtMs?: number;
}

export function readServiceKey(key: string): KeyFacts {
  if (key.startsWith('sb_secret_')) return { kind: 'secret' };
  if (key.startsWith('sb_publishable_')) return { kind: 'publishable' };
  const payload = key.split('.').length === 3 ? (key.split('.')[1] ?? '') : '';
  try {
    const claims = JSON.parse(Buffer.from(payload, 'base64url').toString('utf8')) as Record<string, unknown>;
    const { role, exp } = claims;
    return {
      kind: 'jwt',
      ...(typeof role === 'string' ? { role } : {}),
      ...(typeof exp === 'number' && Number.isFinite(exp) ? { expiresAtMs: exp * 1000 } : {}),
    };
  } catch {
    return { kind: 'unknown' };
  }
}

const dayMs = 24 * 3_600_000;
const soonMs = 14 * dayMs;

/** What is wrong with a key by what it says itself, or soon will be; null when nothing is. */
export function keyTrouble(
  key: string,
  nowMs = Date.now(),
): { severity: 'error' | 'warning'; message: string } | null {
  const { kind, role, expiresAtMs } = readServiceKey(key);
  const error = (message: string) => ({ severity: 'error' as const, message });
  if (kind === 'publishable')
    return error('SUPABASE_SERVICE_KEY is a publishable key: it may not write; use the secret one');
  if (expiresAtMs !== undefined && expiresAtMs <= nowMs)
    return error(`SUPABASE_SERVICE_KEY expired on ${new Date(expiresAtMs).toISOString()}`);
  if (kind === 'jwt' && (role === undefined || role === 'anon'))
    return error(`SUPABASE_SERVICE_KEY has the role ${quoted(role)}, not service_role: it may not write`);
  const warning = (message: string) => ({ severity: 'warning' as const, message });
  if (expiresAtMs !== undefined && expiresAtMs - nowMs < soonMs)
    return warning(`SUPABASE_SERVICE_KEY expires on ${new Date(expiresAtMs).toISOString()}`);
  if (kind === 'jwt' && role !== 'service_role')
    return warning(
      `SUPABASE_SERVICE_KEY has the role ${quoted(role)}, not service_role: it may write what policies allow it`,
    );
  return null;
}

const quoted = (text: string | undefined) =>
  text === undefined ? 'none' : `"${text.replace(/[^\w-]/g, '').slice(0, 40)}"`;

/**
 * How Supabase knows the caller. Its new keys are no JWTs: as a bearer token they are refused, so they are
 * sent as `apikey` alone.
 */
export function keyHeaders(key: string): Record<string, string> {
  return isJwtless(key) ? { apikey: key } : { apikey: key, authorization: `Bearer ${key}` };
}

const isJwtless = (key: string) => /^sb_(secret|publishable)_/.test(key);

/** Whether what is sent there may be read by nobody on the way: TLS, or never leaving this machine. */
export function isConfidential(address: string): boolean {
  const { protocol, hostname } = new URL(address);
  return protocol === 'https:' || isLoopback(hostname);
}

function isLoopback(hostname: string): boolean {
  return (
    hostname === 'localhost' ||
    hostname.endsWith('.localhost') ||
    hostname === '[::1]' ||
    /^127(\.\d{1,3}){3}$/.test(hostname)
  );
}

export const sameOrigin = (one: string, other: string): boolean =>
  new URL(one).origin === new URL(other).origin;

/** The names newer servers send instead of a number; others fall back to the HTTP status. */
const namedCodes: Readonly<Record<string, number>> = {
  NoSuchBucket: 404,
  NoSuchKey: 404,
  NoSuchUpload: 404,
  EntityTooLarge: 413,
  InvalidMimeType: 415,
  AccessDenied: 403,
  InvalidJWT: 403,
  SignatureDoesNotMatch: 403,
  ResourceAlreadyExists: 409,
  KeyAlreadyExists: 409,
  BucketAlreadyExists: 409,
  ResourceLocked: 423,
  LockTimeout: 503,
  SlowDown: 429,
  DatabaseTimeout: 544,
  DatabaseConnectionLimit: 503,
  DatabaseReadOnly: 503,
  InternalError: 500,
  DatabaseError: 500,
  S3Error: 500,
  Aborted: 500,
  AbortedTerminate: 500,
};

/**
 * The status an error stands for. The Storage API answers HTTP 400 to nearly everything and puts the real
 * status into the body, where it is a number or, in newer servers, a name.
 */
export function realStatus(httpStatus: number, bodyCode: string | undefined): number {
  if (bodyCode === undefined) return httpStatus;
  const number = Number(bodyCode);
  if (Number.isInteger(number) && number >= 400 && number < 600) return number;
  return namedCodes[bodyCode] ?? httpStatus;
}

/** Code and text of an error's body: JSON from the API, plain text from what stands before or behind it. */
export function readErrorBody(body: string): { statusCode?: string; message: string } {
  const start = body.slice(0, 200);
  try {
    const { statusCode, code, message } = JSON.parse(body) as Record<string, unknown>;
    const named = [statusCode, code].find((value) => typeof value === 'string' || typeof value === 'number');
    return {
      ...(named === undefined ? {} : { statusCode: String(named) }),
      message: typeof message === 'string' ? message.slice(0, 200) : start,
    };
  } catch {
    return { message: start };
  }
}
