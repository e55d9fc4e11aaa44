import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

export interface ReferencePolicy {
  /**
   * Operator's exceptions: `host:port`, `host` (standard ports) or an origin (`http://10.0.0.5:9000`). They
   * may be private and speak plain http; every other host must be public, by https on port 443.
   */
  allowedHosts: readonly string[];
}

export type PolicyAnswer =
  | { allowed: true; url: URL; /** Named by the operator: its addresses are not checked. */ trusted: boolean }
  | { allowed: false; rule: ReferenceRule; problem: string };

export const isDataUrl = (text: string): boolean => /^\s*data:/i.test(text);

/**
 * The bytes of a `data:` address (RFC 2397); what it says of its type does not count. Line breaks and blanks in
 * base64 are those of the program that wrote it. @throws PictureProblem
 */
export function readDataUrl(text: string): Buffer {
  const [, parameters, data] = /^\s*data:([^,]{0,200}),(.*)$/is.exec(text) ?? [];
  if (parameters === undefined || data === undefined)
    throw new PictureProblem('url', 'must have a comma in front of the data, as in data:image/png;base64,…');
  // Bytes, not text: those of a picture are seldom UTF-8. Percent-encoding may stand around base64, too.
  const decoded = data.replace(/%([0-9a-f]{2})/gi, (_, hex: string) =>
    String.fromCharCode(parseInt(hex, 16)),
  );
  if (!/;\s*base64\s*$/i.test(parameters)) return Buffer.from(decoded, 'latin1');
  if (!/^[\w+/-]*=*$/.test(decoded.replace(/\s+/g, '')))
    throw new PictureProblem('url', 'has characters that are not base64 behind ";base64,"');
  return Buffer.from(decoded, 'base64');
}

const longestUrl = 2048;
/** Names that mean the machine or its network, whatever a resolver says. */
const localName = /(^|\.)(localhost|local|internal|intranet|lan|home|corp|arpa)$/;

/** Decides on an address before anything is sent. `base` is the address that redirected here. */
export function checkUrl(text: string, { allowedHosts }: ReferencePolicy, base?: URL): PolicyAnswer {
  const refuse = (rule: ReferenceRule, problem: string): PolicyAnswer => ({ allowed: false, rule, problem });
  if (text.length > longestUrl) return refuse('url', `must not be longer than ${longestUrl} characters`);
  // What parsers read differently must not get past this one: it is refused instead of repaired.
  if (/[\s\\\p{Cc}]/u.test(text))
    return refuse('url', 'must not contain spaces, control characters or backslashes');
  if (base === undefined && !/^[a-z][a-z0-9+.-]*:/i.test(text))
    return refuse('url', 'must be an https address');
  if (base === undefined && /^https?:/i.test(text) && !/^https?:\/\/[^/]/i.test(text))
    return refuse('url', 'must be a complete address, such as https://example.com/picture.png');
  const url = URL.parse(text, base?.href);
  if (url === null) return refuse('url', 'is not an address that can be read');
  if (url.protocol !== 'https:' && url.protocol !== 'http:')
    return refuse('scheme', 'must be an https address');
  if (url.username !== '' || url.password !== '')
    return refuse('credentials', 'must not contain a user name or password');
  if (allowedHosts.some((entry) => matches(entry, url))) return { allowed: true, url, trusted: true };
  const host = bareHost(url);
  if (isIP(host) !== 0 ? !isPublicAddress(host) : localName.test(host))
    return refuse('publicAddress', 'must not point to a private, local or reserved address');
  if (isIP(host) === 0 && !host.includes('.')) return refuse('publicAddress', 'must have a full host name');
  if (url.protocol !== 'https:') return refuse('scheme', 'must be an https address');
  if (url.port !== '') return refuse('port', 'must use the standard port');
  return { allowed: true, url, trusted: false };
}

/** Host without the brackets of IPv6 and the dot that ends a full name. */
export function bareHost(url: URL): string {
  return url.hostname
    .replace(/^\[|\]$/g, '')
    .replace(/\.$/, '')
    .toLowerCase();
}

function matches(entry: string, url: URL): boolean {
  if (entry.includes('://')) return URL.parse(entry)?.origin === url.origin;
  return URL.parse(`${url.protocol}//${entry}`)?.host === url.host;
}

/** Global unicast IPv6 as IANA assigns it; what lies outside is not the public internet. */
const globalUnicast = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number];
/** In public ranges, yet answered by the machine's own cloud host: Azure's WireServer. */
const hostServices = new Set(['168.63.129.16']);

/**
 * Whether an address is on the public internet. Everything IANA lists as special is not: private, loopback,
 * link-local, carrier-grade NAT, multicast, reserved, and the IPv6 forms that carry an IPv4 address inside
 * (mapped, NAT64, 6to4, Teredo), whatever that address is: no honest resolver answers with them.
 */
export function isPublicAddress(address: string): boolean {
  // ipaddr.js also reads forms that no resolver answers with, such as "1.2.3".
  if (isIP(address) === 0) return false;
  const parsed = ipaddr.parse(address);
  if (parsed.range() !== 'unicast' || hostServices.has(parsed.toString())) return false;
  return parsed.kind() === 'ipv4' || parsed.match(globalUnicast);
}

export type ReferenceRule =
  | 'url'
  | 'scheme'
  | 'credentials'
  | 'port'
  | 'publicAddress'
  | 'resolvable'
  | 'certificate'
  | 'redirects'
  | 'reachable'
  | 'size'
  | 'type'
  | 'pixels'
  | 'decodable'
  | 'encoding'
  | 'owner'
  | 'expired';

/**
 * What is wrong with a reference, in words that follow the field's name. Without a rule another attempt may
 * succeed.
 */
export class PictureProblem extends Error {
  constructor(
    readonly rule: ReferenceRule | null,
    problem: string,
    options?: ErrorOptions,
  ) {
    super(problem, options);
  }
}
