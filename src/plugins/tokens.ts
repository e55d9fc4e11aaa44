import { createHmac, hkdfSync, timingSafeEqual } from 'node:crypto';
import { type Scope, scopes } from '../contract/document.js';

export interface TokenFacts {
  /** Name of the key it was made with. */
  key: string;
  /** Whose jobs it sees. */
  userId: string;
  scopes: Scope[];
  /** Seconds since 1970. */
  expiresAt: number;
}

const prefix = 'ovt1.';

/** Whether something sent in a key's place is meant as a token. */
export const isToken = (text: string): boolean => text.startsWith(prefix);

/**
 * Tokens for pages, which must never hold a key: facts in the open, signed with a secret made of the digest of the key
 * that asked for them. Nothing is stored: every instance with that key knows them, and replacing it ends them all.
 */
export function issueToken(digest: Buffer, { key, userId, scopes: granted, expiresAt }: TokenFacts): string {
  const facts = JSON.stringify({ k: key, u: userId, s: granted, e: expiresAt });
  const content = prefix + Buffer.from(facts).toString('base64url');
  return `${content}.${sign(digest, content).toString('base64url')}`;
}

/** What a token says, if one of the digests of the key it names has signed it. It may have expired. */
export function readToken(token: string, digestsOf: (key: string) => Buffer[]): TokenFacts | null {
  const end = token.lastIndexOf('.');
  const [content, given] = [token.slice(0, end), Buffer.from(token.slice(end + 1), 'base64url')];
  const { k, u, s, e } = parse(content.slice(prefix.length));
  if (typeof k !== 'string' || typeof u !== 'string' || !Array.isArray(s) || typeof e !== 'number')
    return null;
  const isSigned = digestsOf(k).some((digest) => {
    const expected = sign(digest, content);
    return given.length === expected.length && timingSafeEqual(given, expected);
  });
  return isSigned
    ? { key: k, userId: u, scopes: scopes.filter((scope) => s.includes(scope)), expiresAt: e }
    : null;
}

function sign(digest: Buffer, content: string): Buffer {
  const secret = Buffer.from(hkdfSync('sha256', digest, '', 'ourvidz tokens 1', 32));
  return createHmac('sha256', secret).update(content).digest();
}

function parse(base64: string): Record<string, unknown> {
  try {
    return (JSON.parse(Buffer.from(base64, 'base64url').toString()) ?? {}) as Record<string, unknown>;
  } catch {
    return {};
  }
}
