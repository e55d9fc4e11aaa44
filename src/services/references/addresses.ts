import { isIP } from 'node:net';
import ipaddr from 'ipaddr.js';

/** Global unicast IPv6 as IANA assigns it; what lies outside is not the public internet. */
const globalUnicast = ipaddr.parseCIDR('2000::/3') as [ipaddr.IPv6, number];
/** In public ranges, yet answered by the machine's own cloud host: Azure's WireServer. */
const hostServices = new Set(['168.63.129.16']);

/**
 * Whether an address is on the public internet. Everything IANA lists as special is not: private, loopback, link-local,
 * carrier-grade NAT, multicast, reserved, and the IPv6 forms that carry an IPv4 address inside (mapped, NAT64, 6to4, Teredo),
 * whatever that address is: no honest resolver answers with them.
 */
export function isPublicAddress(address: string): boolean {
  // ipaddr.js also reads forms that no resolver answers with, such as "1.2.3".
  if (isIP(address) === 0) return false;
  const parsed = ipaddr.parse(address);
  if (parsed.range() !== 'unicast' || hostServices.has(parsed.toString())) return false;
  return parsed.kind() === 'ipv4' || parsed.match(globalUnicast);
}
