import { createHash, timingSafeEqual } from 'node:crypto';
import { readFile, stat } from 'node:fs/promises';
import type { FastifyBaseLogger } from 'fastify';
import { type Scope, scopes } from '../contract/document.js';
import { errors } from '../lib/errors.js';
import {
  createLoginCodes,
  isLoginCode,
  isToken,
  issueToken,
  type Kind,
  readToken,
  type TokenFacts,
} from './tokens.js';
import { LRUCache } from 'lru-cache';

/** Who asks: the name of a key, and what it may do. */
export interface Caller {
  name: string;
  scopes: ReadonlySet<Scope>;
  /** The one user a token is for; absent: a key, which sees everything. */
  userId?: string;
  /** When a token or a session ends; absent: a key. Seconds since 1970. */
  expiresAt?: number;
}

export interface KeyRing {
  /**
   * Who has this key or token; null: nobody.
   * @throws AppError `unauthorized` for a token that was good once
   */
  find(credential: string): Promise<Caller | null>;
  /** A token with some of the scopes of a key. @throws AppError `foreign`, `forbidden` */
  issue(caller: Caller, facts: Omit<TokenFacts, 'key'>): string;
  sessions: Sessions;
}

/** Browsers that are signed in: each holds a signed cookie, which says what a token says. */
export interface Sessions {
  /** Of a key: as long as usual; of a token: as long as the token. */
  begin(caller: Caller): { session: string; expiresAt: number };
  /** null: nobody's. @throws AppError `unauthorized` for one that is over */
  find(session: string): Promise<Caller | null>;
  end(session: string): void;
  /** For a link that signs in once. @throws AppError `foreign` */
  issueCode(caller: Caller): { code: string; seconds: number };
  /** Who made the link, the first time; null: nobody. */
  takeCode(code: string): Caller | null;
}

const sessionSeconds = 7 * 86_400;
const codeSeconds = 900;

interface KeyEntry {
  caller: Caller;
  digest: Buffer;
}

const leastCharacters = 16;
export const nameForm = /^[\w.-]{1,64}$/;
const digestForm = /^[0-9a-f]{64}$/;

/**
 * The keys of callers: one that may do everything, and those of a file, which is read again when it has
 * changed. A file that cannot be understood changes nothing: the keys before it stay.
 * @throws when the file cannot be understood at the start
 */
export async function openKeyRing({
  apiKey,
  file,
  log,
  lookEveryMs = 1000,
}: {
  apiKey: string | undefined;
  file?: string | undefined;
  log: Pick<FastifyBaseLogger, 'info' | 'error'>;
  lookEveryMs?: number;
}): Promise<KeyRing> {
  const own: KeyEntry[] =
    apiKey === undefined
      ? []
      : [{ caller: { name: 'default', scopes: new Set(scopes) }, digest: sha256(apiKey) }];
  let entries = own;
  let seen = '';
  let lookedAtMs = -Infinity;
  let looking: Promise<void> | undefined;
  let lastProblem = '';

  async function read(path: string): Promise<void> {
    const found = await stat(path);
    const version = `${found.ino}:${found.size}:${found.mtimeMs}`;
    if (version === seen) return;
    // What cannot be understood is said once.
    seen = version;
    if (!found.isFile()) throw new Error('it is no regular file');
    entries = [...own, ...parseKeys(await readFile(path, 'utf8'))];
    const names = entries.map(({ caller }) => caller.name);
    lastProblem = '';
    log.info({ event: 'api_keys', names }, 'read the API keys');
  }

  function look(path: string): Promise<void> {
    if (performance.now() - lookedAtMs < lookEveryMs) return looking ?? Promise.resolve();
    lookedAtMs = performance.now();
    looking = read(path)
      .catch((error: unknown) => {
        const { message } = error as Error;
        if (message === lastProblem) return;
        lastProblem = message;
        log.error({ event: 'api_keys' }, `API_KEYS_FILE is not used as it is now: ${message}`);
      })
      .finally(() => {
        looking = undefined;
      });
    return looking;
  }

  if (file !== undefined)
    await read(file).catch((error: unknown) => {
      throw new Error(`API_KEYS_FILE (${file}): ${(error as Error).message}`, { cause: error });
    });

  const codes = createLoginCodes<Caller>(codeSeconds);
  // Signed out here; elsewhere the browser has forgotten them.
  const ended = new LRUCache<string, true>({ max: 10_000, ttl: sessionSeconds * 1000 });

  return {
    async find(key) {
      if (file !== undefined) await look(file);
      if (isToken(key)) return ofSigned(key, 'token');
      if (isLoginCode(key)) return null;
      const digest = sha256(key);
      // All of them, whichever fits: how long it takes tells nothing.
      let found: Caller | null = null;
      for (const entry of entries) if (timingSafeEqual(entry.digest, digest)) found = entry.caller;
      return found;
    },
    issue({ name, scopes: own, userId }, facts) {
      if (userId !== undefined) throw errors.foreign('This needs a key; a token makes no tokens');
      const missing = facts.scopes.find((scope) => !own.has(scope));
      if (missing !== undefined) throw errors.forbidden(missing);
      return issueToken(digestOf(name), { ...facts, key: name });
    },
    sessions: {
      begin({ name, scopes: held, userId, expiresAt }) {
        const key = userId === undefined ? name : name.slice(0, -userId.length - 1);
        const ends = expiresAt ?? Math.floor(Date.now() / 1000) + sessionSeconds;
        const facts = {
          key,
          scopes: [...held],
          expiresAt: ends,
          ...(userId === undefined ? {} : { userId }),
        };
        return { session: issueToken(digestOf(key), facts, 'session'), expiresAt: ends };
      },
      async find(session) {
        if (file !== undefined) await look(file);
        return ended.has(session) ? null : ofSigned(session, 'session');
      },
      end: (session) => void ended.set(session, true),
      issueCode(caller) {
        if (caller.userId !== undefined) throw errors.foreign('This needs a key; a token makes no links');
        return { code: codes.issue(caller), seconds: codeSeconds };
      },
      takeCode: (code) => codes.take(code),
    },
  };

  function digestOf(name: string): Buffer {
    const digest = entries.find(({ caller }) => caller.name === name)?.digest;
    if (digest === undefined) throw errors.unauthorized();
    return digest;
  }

  /** What a key may not do any more, its tokens and sessions may not either. */
  function ofSigned(text: string, kind: Kind): Caller | null {
    const named = (name: string) => entries.filter(({ caller }) => caller.name === name);
    const facts = readToken(text, (name) => named(name).map(({ digest }) => digest), kind);
    if (facts === null) return null;
    const { key, userId, expiresAt } = facts;
    if (expiresAt * 1000 <= Date.now())
      throw errors.unauthorized(
        kind === 'token'
          ? 'The token has expired: ask for another one'
          : 'You were signed out: sign in again',
      );
    const held = new Set(named(key).flatMap(({ caller }) => [...caller.scopes]));
    return {
      name: userId === undefined ? key : `${key}/${userId}`,
      scopes: new Set(facts.scopes.filter((one) => held.has(one))),
      expiresAt,
      ...(userId === undefined ? {} : { userId }),
    };
  }
}

/** `{ "keys": [{ "name", "scopes": […] or ["all"], "key" or "sha256" }] }`. @throws with the reason in words */
function parseKeys(text: string): KeyEntry[] {
  const entries = entriesIn(text).map((one, index) => parseKey(one, `keys[${index}]`));
  const digests = new Set(entries.map(({ digest }) => digest.toString('hex')));
  if (digests.size < entries.length) throw new Error('two entries have the same key');
  return entries;
}

/** The entries of a file of keys, unchecked. @throws with the reason in words */
export function entriesIn(text: string): unknown[] {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    // The parser's own words would quote what stands there.
    throw new Error('it is not valid JSON');
  }
  if (typeof value !== 'object' || value === null) throw new Error('it must be an object with "keys"');
  const { keys } = value as { keys?: unknown };
  if (!Array.isArray(keys)) throw new Error('"keys" must be a list');
  return keys;
}

function parseKey(one: unknown, place: string): KeyEntry {
  const { name, scopes: wanted, key, sha256: digest } = (one ?? {}) as Record<string, unknown>;
  if (typeof name !== 'string' || !nameForm.test(name))
    throw new Error(`${place}.name must be 1 to 64 letters, digits, dots or dashes`);
  if (!Array.isArray(wanted) || wanted.length === 0)
    throw new Error(`${place}.scopes must list at least one of ${scopes.join(', ')}, or all`);
  const unknown = (wanted as unknown[]).find((scope) => scope !== 'all' && !scopes.includes(scope as Scope));
  if (unknown !== undefined)
    throw new Error(`${place}.scopes has ${JSON.stringify(unknown)}; there are ${scopes.join(', ')} and all`);
  if ((key === undefined) === (digest === undefined))
    throw new Error(`${place} must have either "key" or "sha256"`);
  if (key !== undefined && (typeof key !== 'string' || key.length < leastCharacters))
    throw new Error(`${place}.key must have at least ${leastCharacters} characters`);
  if (digest !== undefined && (typeof digest !== 'string' || !digestForm.test(digest)))
    throw new Error(`${place}.sha256 must be 64 small hexadecimal digits`);
  return {
    caller: { name, scopes: new Set(wanted.includes('all') ? scopes : (wanted as Scope[])) },
    digest: typeof key === 'string' ? sha256(key) : Buffer.from(digest as string, 'hex'),
  };
}

const sha256 = (text: string) => createHash('sha256').update(text).digest();
