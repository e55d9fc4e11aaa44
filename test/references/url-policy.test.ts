import { isIP } from 'node:net';
import fc from 'fast-check';
import t from 'tap';
import { bareHost, checkUrl, isPublicAddress } from '../../src/services/references/url-policy.js';

const closed = { allowedHosts: [] };

/** Any way to write one part of an IPv4 address that a URL parser reads. */
const partAs = (value: number) =>
  fc.constantFrom(
    String(value),
    `0${value.toString(8)}`,
    `0x${value.toString(16)}`,
    `0X${value.toString(16).toUpperCase()}`,
    `00${value.toString(8)}`,
  );
const fullWidth = (text: string) =>
  text.replace(/[0-9]/g, (digit) => String.fromCodePoint(0xff10 + Number(digit)));
const percent = (text: string) =>
  [...text].map((character) => `%${character.charCodeAt(0).toString(16)}`).join('');

/** Special addresses of IPv4 as a number. */
const special = fc.oneof(
  ...(
    [
      [0x7f000000, 24],
      [0x0a000000, 24],
      [0xac100000, 20],
      [0xc0a80000, 16],
      [0xa9fe0000, 16],
      [0x64400000, 22],
      [0x00000000, 24],
      [0xe0000000, 28],
      [0xf0000000, 28],
    ] as const
  ).map(([base, bits]) => fc.nat({ max: 2 ** bits - 1 }).map((offset) => base + offset)),
  fc.constant(0xa9fea9fe),
  fc.constant(0x7f000001),
  fc.constant(0xa83f8110),
);
const bytesOf = (address: number) => [24, 16, 8, 0].map((shift) => Math.floor(address / 2 ** shift) % 256);

/** One address in any spelling: 1 to 4 parts, each decimal, octal or hexadecimal; or inside IPv6. */
const spelled = special.chain((address) => {
  const [a = 0, b = 0, c = 0, d = 0] = bytesOf(address);
  const hex = `${((a << 8) | b).toString(16)}:${((c << 8) | d).toString(16)}`;
  const dotted = [[a, b, c, d], [a, b, c * 256 + d], [a, (b * 256 + c) * 256 + d], [address]].map((parts) =>
    fc.tuple(...parts.map(partAs)).map((texts) => texts.join('.')),
  );
  const v4 = fc.oneof(...dotted);
  return fc.oneof(
    v4,
    v4.map((text) => `${text}.`),
    v4.map(fullWidth),
    v4.map(percent),
    fc.constantFrom(
      `[::ffff:${hex}]`,
      `[::ffff:${a}.${b}.${c}.${d}]`,
      `[0:0:0:0:0:FFFF:${hex}]`,
      `[64:ff9b::${hex}]`,
      `[2002:${hex}::]`,
      `[::${hex}]`,
    ),
  );
});
const around = fc.record({
  scheme: fc.constantFrom('https', 'http', 'HTTPS', 'hTTp'),
  port: fc.constantFrom('', ':443', ':80', ':6379', ':8443'),
  path: fc.constantFrom('', '/', '/a.png', '/?x=https://example.com', '/#@example.com'),
});

void t.test('no spelling of a special address passes', async (t) => {
  fc.assert(
    fc.property(
      spelled,
      around,
      (host, { scheme, port, path }) => !checkUrl(`${scheme}://${host}${port}${path}`, closed).allowed,
    ),
    { numRuns: 20_000 },
  );
  t.pass('20,000 spellings');
});

void t.test('no spelling of a special address passes as a redirect, either', async (t) => {
  const base = new URL('https://example.com/a/b.png');
  fc.assert(
    fc.property(
      spelled,
      around,
      fc.boolean(),
      (host, { scheme, port, path }, bare) =>
        !checkUrl(`${bare ? '' : `${scheme}:`}//${host}${port}${path}`, closed, base).allowed,
    ),
    { numRuns: 10_000 },
  );
  t.pass('10,000 spellings');
});

void t.test(
  'what passes is https, without credentials, on the standard port, at a public address or a full name',
  async (t) => {
    const tricky = fc
      .array(
        fc.constantFrom(
          'https',
          'http',
          ':',
          '/',
          '//',
          '@',
          '\\',
          '?',
          '#',
          '%',
          '.',
          '..',
          '[',
          ']',
          '127.0.0.1',
          'localhost',
          '::1',
          'example.com',
          'user',
          ':443',
          ':80',
          ' ',
          '\t',
          '\n',
          '\0',
          '%00',
          '%2f',
          '①',
          '。',
          '\u00ad',
          '\u200b',
          '0',
          '1',
          'é',
          'xn--',
          ';',
        ),
        { maxLength: 12 },
      )
      .map((parts) => parts.join(''));
    const texts = fc.oneof(
      fc.webUrl({ withFragments: true, withQueryParameters: true, validSchemes: ['http', 'https', 'ftp'] }),
      fc.string(),
      tricky,
      tricky.map((rest) => `https://${rest}`),
    );
    let passed = 0;
    fc.assert(
      fc.property(texts, (text) => {
        const answer = checkUrl(text, closed);
        if (!answer.allowed) return true;
        passed += 1;
        const host = bareHost(answer.url);
        // Nothing is repaired silently: the text begins with the very scheme and host that are used.
        return (
          answer.url.protocol === 'https:' &&
          answer.url.username === '' &&
          answer.url.password === '' &&
          answer.url.port === '' &&
          !answer.trusted &&
          (isIP(host) === 0
            ? host.includes('.') && !/(^|\.)(localhost|local|internal)$/.test(host)
            : isPublicAddress(host))
        );
      }),
      { numRuns: 20_000 },
    );
    t.ok(passed > 500, `${passed} of 20,000 passed`);
  },
);

void t.test('an exception of the operator opens that host and no other', async (t) => {
  const host = fc.constantFrom(
    'assets.test',
    'assets.test:8080',
    '10.0.0.5:9000',
    '127.0.0.1:9000',
    'localhost:9000',
    '[::1]:9000',
  );
  fc.assert(
    fc.property(host, host, fc.constantFrom('http', 'https'), (allowed, asked, scheme) => {
      const answer = checkUrl(`${scheme}://${asked}/a.png`, { allowedHosts: [allowed] });
      return allowed === asked ? answer.allowed && answer.trusted : !answer.allowed || !answer.trusted;
    }),
  );
  fc.assert(
    fc.property(
      host,
      spelled,
      around,
      (allowed, asked, { scheme, path }) =>
        !checkUrl(`${scheme}://${asked}:22${path}`, { allowedHosts: [allowed] }).allowed,
    ),
  );
  t.pass('exceptions are exact');
});

void t.test('ordinary addresses pass', async (t) => {
  for (const text of [
    'https://example.com/a.png',
    'https://cdn.example.co.uk/p/1/a.webp?token=a%20b&x=1#f',
    'https://PROJECT.supabase.co/storage/v1/object/sign/reference_images/u/a.png?token=ey.J',
    'https://8.8.8.8/a.png',
    'https://[2606:4700:4700::1111]/a.png',
    'https://bücher.example/ä.png',
    'https://example.com:443/a.png',
  ]) {
    t.match(checkUrl(text, closed), { allowed: true, trusted: false }, text);
  }
});
