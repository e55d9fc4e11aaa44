/** The product's own picture process, whose name server knows hostile names. */
import dns from 'node:dns/promises';
import { syncBuiltinESMExports } from 'node:module';
import { names } from './names.js';

const lookup = async (hostname: string) => {
  const addresses = names[hostname];
  if (addresses === undefined)
    throw Object.assign(new Error(`getaddrinfo ENOTFOUND ${hostname}`), { code: 'ENOTFOUND' });
  return addresses.map((address) => ({ address, family: address.includes(':') ? 6 : 4 }));
};
Object.assign(dns, { lookup });
syncBuiltinESMExports();
await import('../../src/services/references/picture-child.js');
