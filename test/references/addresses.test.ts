import fc from 'fast-check';
import t from 'tap';
import { isPublicAddress } from '../../src/services/references/url-policy.js';

const publicOnes = [
  '8.8.8.8',
  '1.1.1.1',
  '93.184.216.34',
  '172.15.255.255',
  '172.32.0.1',
  '100.63.255.255',
  '100.128.0.1',
  '169.253.255.255',
  '223.255.255.255',
  '2606:4700:4700::1111',
  '2a00:1450:4001:81b::200e',
];
const others: Record<string, string[]> = {
  'this network': ['0.0.0.0', '0.1.2.3'],
  loopback: ['127.0.0.1', '127.255.255.254', '::1'],
  private: ['10.0.0.1', '172.16.0.1', '172.31.255.255', '192.168.1.1', 'fc00::1', 'fdff::1', 'fec0::1'],
  'link-local and metadata services': [
    '169.254.0.1',
    '169.254.169.254',
    'fe80::1',
    'fd00:ec2::254',
    '100.100.100.200',
    '192.0.0.192',
    '168.63.129.16',
  ],
  'carrier-grade NAT': ['100.64.0.1', '100.127.255.255'],
  'multicast and broadcast': ['224.0.0.1', '239.255.255.250', '255.255.255.255', 'ff02::1'],
  'reserved, documentation, benchmarks': [
    '192.0.2.1',
    '198.51.100.1',
    '203.0.113.1',
    '198.18.0.1',
    '240.0.0.1',
    '192.88.99.1',
    '2001:db8::1',
    '100::1',
    '3fff::1',
    '5f00::1',
    '4000::1',
    '::',
  ],
  'IPv4 inside IPv6': [
    '::ffff:127.0.0.1',
    '::ffff:8.8.8.8',
    '::127.0.0.1',
    '64:ff9b::7f00:1',
    '64:ff9b::808:808',
    '64:ff9b:1::a00:1',
    '2002:7f00:1::1',
    '2002:808:808::1',
    '2001:0:4136:e378:8000:63bf:3fff:fdd2',
  ],
  'not addresses': ['', 'localhost', '1.2.3', '999.1.1.1', '1.2.3.4.5', '::g', 'fe80::1%eth0%'],
};

void t.test('public addresses are public', async (t) => {
  for (const address of publicOnes) t.equal(isPublicAddress(address), true, address);
});

for (const [kind, addresses] of Object.entries(others)) {
  void t.test(`refused: ${kind}`, async (t) => {
    for (const address of addresses) t.equal(isPublicAddress(address), false, address);
  });
}

/** The special ranges of IPv4 (IANA registry), as first and last address. */
const specialRanges: Array<[number, number]> = (
  [
    ['0.0.0.0', 8],
    ['10.0.0.0', 8],
    ['100.64.0.0', 10],
    ['127.0.0.0', 8],
    ['169.254.0.0', 16],
    ['172.16.0.0', 12],
    ['192.0.0.0', 24],
    ['192.0.2.0', 24],
    ['192.168.0.0', 16],
    ['198.18.0.0', 15],
    ['198.51.100.0', 24],
    ['203.0.113.0', 24],
    ['224.0.0.0', 4],
    ['240.0.0.0', 4],
  ] as const
).map(([base, bits]) => {
  const first = base.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);
  return [first, first + 2 ** (32 - bits) - 1];
});
const dotted = (number: number) =>
  [24, 16, 8, 0].map((shift) => Math.floor(number / 2 ** shift) % 256).join('.');

void t.test('every address of a special range is refused, written as IPv4 or inside IPv6', async (t) => {
  const special = fc
    .constantFrom(...specialRanges)
    .chain(([first, last]) =>
      fc.integer({ min: 0, max: last - first }).map((offset) => dotted(first + offset)),
    );
  fc.assert(
    fc.property(special, (address) => {
      const [a = 0, b = 0, c = 0, d = 0] = address.split('.').map(Number);
      const hex = `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
      return [address, `::ffff:${address}`, `::ffff:${hex}`, `64:ff9b::${hex}`, `2002:${hex}::1`].every(
        (text) => !isPublicAddress(text),
      );
    }),
    { numRuns: 2000 },
  );
  t.pass('2,000 addresses');
});
