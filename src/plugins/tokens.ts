import { createHash, createHmac, hkdfSync, randomBytes, timingSafeEqual } from 'node:crypto';
import { LRUCache } from 'lru-cache';
import { type Scope, scopes } from '../contract/document.js';

export interface TokenFacts {
  /** Name of the key it was made with. */
  key: string;
  /** Whose jobs it sees; a session of a key sees everybody's. */
  userId?: string;
  scopes: Scope[];
  /** Seconds since 1970. */
  expiresAt: number;
}

/** A token is sent as a header or in an address, a session as a cookie: one is never taken for the other. */
export type Kind = 'token' | 'session';
const prefixes: Record<Kind, string> = { token: 'ovt1.', session: 'ovs1.' };

/** Whether something sent in a key's place is meant as a token. */
export const isToken = (text: string): boolean => text.startsWith(prefixes.token);

/**
 * Tokens for pages, which must never hold a key: facts in the open, signed with a secret made of the digest of the key
 * that asked for them. Nothing is stored: every instance with that key knows them, and replacing it ends them all.
 */
export function issueToken(digest: Buffer, facts: TokenFacts, kind: Kind = 'token'): string {
  const { key, userId, scopes: granted, expiresAt } = facts;
  // Two sessions of one second are two: signing out ends one of them.
  const unique = kind === 'session' ? { n: randomBytes(9).toString('base64url') } : {};
  const text = JSON.stringify({ k: key, u: userId, s: granted, e: expiresAt, ...unique });
  const content = prefixes[kind] + Buffer.from(text).toString('base64url');
  return `${content}.${sign(digest, content, kind).toString('base64url')}`;
}

/** What a token says, if one of the digests of the key it names has signed it. It may have expired. */
export function readToken(
  token: string,
  digestsOf: (key: string) => Buffer[],
  kind: Kind = 'token',
): TokenFacts | null {
  if (!token.startsWith(prefixes[kind])) return null;
  const end = token.lastIndexOf('.');
  const [content, given] = [token.slice(0, end), Buffer.from(token.slice(end + 1), 'base64url')];
  const { k, u, s, e } = parse(content.slice(prefixes[kind].length));
  const isWhose = typeof u === 'string' || (u === undefined && kind === 'session');
  if (typeof k !== 'string' || !isWhose || !Array.isArray(s) || typeof e !== 'number') return null;
  const isSigned = digestsOf(k).some((digest) => {
    const expected = sign(digest, content, kind);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
  if (!isSigned) return null;
  const granted = scopes.filter((scope) => s.includes(scope));
  return { key: k, scopes: granted, expiresAt: e, ...(typeof u === 'string' ? { userId: u } : {}) };
}

/** What a page that holds a session proves it with: whoever only makes a browser send the cookie cannot know it. */
export const csrfTokenOf = (session: string): string =>
  createHash('sha256').update(`csrf ${session}`).digest('base64url');

function sign(digest: Buffer, content: string, kind: Kind): Buffer {
  const secret = Buffer.from(hkdfSync('sha256', digest, '', `ourvidz ${kind}s 1`, 32));
  return createHmac('sha256', secret).update(content).digest();
}

function parse(base64: string): Record<string, unknown> {
  try {
    return (JSON.parse(Buffer.from(base64, 'base64url').toString()) ?? {}) as Record<string, unknown>;
  } catch {
    return {};
  }
}

const codePrefix = 'ovl1.';
/** Whether something sent in a key's place is the code of a login link. */
export const isLoginCode = (text: string): boolean => text.startsWith(codePrefix);

/** Codes that each stand for somebody once, for a while, in this process alone. */
export function createLoginCodes<Whom extends object>(seconds: number) {
  const codes = new LRUCache<string, Whom>({ max: 100, ttl: seconds * 1000 });
  const digestOf = (code: string) => createHash('sha256').update(code).digest('hex');
  return {
    issue(whom: Whom): string {
      const code = codePrefix + randomBytes(24).toString('base64url');
      codes.set(digestOf(code), whom);
      return code;
    },
    take(code: string): Whom | null {
      const digest = digestOf(code);
      const whom = codes.get(digest);
      codes.delete(digest);
      return whom ?? null;
    },
  };
}
