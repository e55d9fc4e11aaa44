import t from 'tap';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { ownFile } from '../../src/lib/processes.js';
import { download, type Resolve } from '../../src/services/references/download.js';
import { createReferenceFetcher } from '../../src/services/references/fetcher.js';
import { PictureProblem } from '../../src/services/references/url-policy.js';
import { names } from './names.js';
import { failureOf, noStorage, signal, startServer, temporaryFolder } from './support.js';

const field = 'metadata.reference_image_url';
const entry = ownFile('test/references/names-child');

/**
 * Addresses that are refused, with the rule that refuses them. PORT is a listening server of the test's own.
 */
const table: Array<[url: string, rule: string]> = [
  // not http at all
  ['file:///etc/passwd', 'scheme'],
  ['file://localhost/etc/passwd', 'scheme'],
  ['data:image/png;base64,iVBORw0KGgo=', 'decodable'],
  ['ftp://example.com/a.png', 'scheme'],
  ['gopher://127.0.0.1:6379/_INFO', 'scheme'],
  ['javascript:alert(1)', 'scheme'],
  ['blob:https://example.com/1', 'scheme'],
  ['redis://127.0.0.1:6379/', 'scheme'],
  ['a.png', 'url'],
  ['//example.com/a.png', 'url'],
  ['/etc/passwd', 'url'],
  ['', 'url'],
  ['https://', 'url'],
  ['https:///a.png', 'url'],
  ['https:example.com/a.png', 'url'],
  ['https://exa mple.com/a.png', 'url'],
  ['https://example.com\\@127.0.0.1/', 'url'],
  ['https://example.com/\u0000', 'url'],
  ['https://example.com/a\r\nHost: x', 'url'],
  [`https://example.com/${'a'.repeat(3000)}`, 'url'],
  ['https://[::1', 'url'],
  ['https://256.256.256.256/a.png', 'url'],
  ['https://example.com:99999/', 'url'],
  ['https://[fe80::1%25eth0]/', 'url'],
  // plain http
  ['http://93.184.216.34/a.png', 'scheme'],
  ['http://example.com/a.png', 'scheme'],
  // credentials and ports
  ['https://user@example.com/a.png', 'credentials'],
  ['https://user:pass@example.com/a.png', 'credentials'],
  ['https://example.com@127.0.0.1/', 'credentials'],
  ['https://:pass@example.com/', 'credentials'],
  ['https://example.com:22/a.png', 'port'],
  ['https://example.com:6379/', 'port'],
  ['https://93.184.216.34:8443/', 'port'],
  // loopback and its spellings
  ['https://127.0.0.1/a.png', 'publicAddress'],
  ['http://127.0.0.1:PORT/a.png', 'publicAddress'],
  ['https://127.1/', 'publicAddress'],
  ['https://127.0.0.1./', 'publicAddress'],
  ['https://2130706433/', 'publicAddress'],
  ['https://0177.0.0.1/', 'publicAddress'],
  ['https://0x7f.0.0.1/', 'publicAddress'],
  ['https://0x7f000001/', 'publicAddress'],
  ['https://017700000001/', 'publicAddress'],
  ['https://0x7f.1/', 'publicAddress'],
  ['https://①②⑦.⓪.⓪.①/', 'publicAddress'],
  ['https://127。0。0。1/', 'publicAddress'],
  ['https://%31%32%37.0.0.1/', 'publicAddress'],
  ['https://0/', 'publicAddress'],
  ['https://0.0.0.0/', 'publicAddress'],
  ['https://localhost/', 'publicAddress'],
  ['https://LOCALHOST./', 'publicAddress'],
  ['https://a.localhost/', 'publicAddress'],
  ['https://printer.local/', 'publicAddress'],
  ['https://redis/', 'publicAddress'],
  ['https://metadata.google.internal/', 'publicAddress'],
  // IPv6 and IPv4 inside it
  ['https://[::1]/', 'publicAddress'],
  ['https://[::]/', 'publicAddress'],
  ['https://[::ffff:127.0.0.1]/', 'publicAddress'],
  ['https://[::ffff:7f00:1]/', 'publicAddress'],
  ['https://[0:0:0:0:0:ffff:a9fe:a9fe]/', 'publicAddress'],
  ['https://[64:ff9b::7f00:1]/', 'publicAddress'],
  ['https://[2002:7f00:1::]/', 'publicAddress'],
  ['https://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/', 'publicAddress'],
  ['https://[fe80::1]/', 'publicAddress'],
  ['https://[fd00:ec2::254]/', 'publicAddress'],
  ['https://[ff02::1]/', 'publicAddress'],
  // private, metadata, reserved
  ['https://10.1.2.3/', 'publicAddress'],
  ['https://172.16.0.1/', 'publicAddress'],
  ['https://192.168.0.1/', 'publicAddress'],
  ['https://169.254.169.254/latest/meta-data', 'publicAddress'],
  ['https://2852039166/', 'publicAddress'],
  ['https://0xa9fea9fe/', 'publicAddress'],
  ['https://100.100.100.200/', 'publicAddress'],
  ['https://168.63.129.16/', 'publicAddress'],
  ['https://224.0.0.1/', 'publicAddress'],
  ['https://255.255.255.255/', 'publicAddress'],
  ['https://198.18.0.1/', 'publicAddress'],
  // names that resolve to such addresses
  ...Object.keys(names)
    .filter((name) => name !== 'empty.example.com')
    .map((name): [string, string] => [`https://${name}/a.png`, 'publicAddress']),
  ['https://empty.example.com/', 'resolvable'],
  ['https://nobody.example.com/', 'resolvable'],
  // buckets
  ['reference_images/../secrets.png', 'url'],
  ['reference_images/a/../../b.png', 'url'],
  ['workspace_assets//etc/passwd', 'url'],
  ['reference_images/./a.png', 'url'],
  ['reference_images/a\\..\\b.png', 'url'],
  ['reference_images/none.png', 'reachable'],
];

void t.test(`${table.length} addresses are refused and nothing is sent`, async (t) => {
  t.ok(table.length >= 40);
  const victim = await startServer(t, (_request, response) => {
    response.end('secret');
  });
  const folder = await temporaryFolder(t);
  const fetcher = createReferenceFetcher({ storage: noStorage, policy: { allowedHosts: [] }, entry });
  for (const [text, rule] of table) {
    const url = text.replace('PORT', String(victim.port));
    const failure = await failureOf(fetcher.fetch({ url, field, role: 'reference' }, folder, signal));
    t.match(
      failure,
      { code: 'INVALID_PARAMETERS', rule, field, message: `Invalid parameters: ${field} ` },
      JSON.stringify(url),
    );
    for (const address of Object.values(names).flat())
      if (!url.includes(address))
        t.notOk(failure.message.includes(address), 'what a name resolves to is not told');
  }
  t.same(victim.requests, []);
});

void t.test('redirects are checked like the first address', async (t) => {
  const victim = await startServer(t, (_request, response) => {
    response.end('secret');
  });
  const targets: Array<[string, string]> = [
    [`http://127.0.0.1:${victim.port}/`, 'publicAddress'],
    ['https://169.254.169.254/', 'publicAddress'],
    ['https://[::ffff:127.0.0.1]/', 'publicAddress'],
    ['https://private.example.com/', 'publicAddress'],
    ['file:///etc/passwd', 'scheme'],
    ['http://example.com/', 'scheme'],
    ['https://user:pass@example.com/', 'credentials'],
    ['//127.0.0.1/', 'publicAddress'],
    ['https://example.com:25/', 'port'],
    ['gopher://example.com/', 'scheme'],
  ];
  const door = await startServer(t, (request, response) => {
    response.writeHead(302, { location: targets[Number(request.url?.slice(1))]?.[0] ?? '' }).end();
  });
  const folder = await temporaryFolder(t);
  const fetcher = createReferenceFetcher({
    storage: noStorage,
    policy: { allowedHosts: [door.host] },
    entry,
  });
  for (const [index, [target, rule]] of targets.entries()) {
    t.match(
      await failureOf(
        fetcher.fetch({ url: `${door.origin}/${index}`, field, role: 'reference' }, folder, signal),
      ),
      { code: 'INVALID_PARAMETERS', rule, field },
      target,
    );
  }
  t.same(victim.requests, []);
  t.equal(door.requests.length, targets.length);
});

void t.test('three redirects are followed, a fourth is not', async (t) => {
  const server = await startServer(t, (request, response) => {
    const left = Number(request.url?.slice(1));
    if (left === 0) response.end('no picture');
    else response.writeHead([301, 302, 303, 307, 308][left % 5] ?? 302, { location: `/${left - 1}` }).end();
  });
  const folder = await temporaryFolder(t);
  const fetcher = createReferenceFetcher({ storage: noStorage, policy: { allowedHosts: [server.host] } });
  t.match(
    await failureOf(fetcher.fetch({ url: `${server.origin}/3`, field, role: 'reference' }, folder, signal)),
    { rule: 'type' },
  );
  t.match(
    await failureOf(fetcher.fetch({ url: `${server.origin}/4`, field, role: 'reference' }, folder, signal)),
    { rule: 'redirects' },
  );
});

void t.test('a name is resolved once and the connection goes to the address that was checked', async (t) => {
  const server = await startServer(t, (_request, response) => {
    response.end('secret');
  });
  const file = path.join(await temporaryFolder(t), 'downloaded');
  const fetchVia = async (url: string, allowedHosts: string[], resolve: Resolve) => {
    try {
      await download({ kind: 'download', url, file, allowedHosts, maxBytes: 1000, timeoutMs: 700 }, resolve);
    } catch (error) {
      if (error instanceof PictureProblem) return error.rule ?? 'later';
      throw error;
    }
    return readFile(file, 'utf8');
  };

  await t.test('rebinding: the second answer is never asked for', async (t) => {
    let asked = 0;
    const outcome = await fetchVia('https://rebind.example.com/', [], async () => [
      // A global address nobody answers at, then the victim.
      { address: asked++ === 0 ? '2606:4700:ffff:ffff::1' : '127.0.0.1', family: asked === 1 ? 6 : 4 },
    ]);
    t.equal(outcome, 'later');
    t.equal(asked, 1);
    t.same(server.requests, []);
  });

  await t.test('rebinding between redirects: each hop is resolved and checked', async (t) => {
    let asked = 0;
    const door = await startServer(t, (_request, response) => {
      response.writeHead(302, { location: 'https://rebind.example.com/again' }).end();
    });
    const host = `door.example.com:${door.port}`;
    const outcome = await fetchVia(`http://${host}/`, [host], async () => {
      asked += 1;
      return [{ address: '127.0.0.1', family: 4 }];
    });
    t.equal(outcome, 'publicAddress');
    t.equal(asked, 2);
  });

  await t.test('our resolver decides where the socket goes', async (t) => {
    const host = `pictures.example.com:${server.port}`;
    const outcome = await fetchVia(`http://${host}/x`, [host], async () => [
      { address: '127.0.0.1', family: 4 },
    ]);
    t.equal(outcome, 'secret');
    t.same(server.requests, [{ url: '/x', host }]);
  });
});

void t.test("the operator's exceptions name a host with its port, a host, or an origin", async (t) => {
  const server = await startServer(t, (_request, response) => {
    response.end('no picture');
  });
  const folder = await temporaryFolder(t);
  const ruleWith = async (allowed: string, url: string) =>
    (
      await failureOf(
        createReferenceFetcher({ storage: noStorage, policy: { allowedHosts: [allowed] } }).fetch(
          { url, field, role: 'reference' },
          folder,
          signal,
        ),
      )
    ).rule;
  t.equal(await ruleWith(server.host, `${server.origin}/`), 'type');
  t.equal(await ruleWith(server.origin, `${server.origin}/`), 'type');
  t.equal(await ruleWith(`https://${server.host}`, `${server.origin}/`), 'publicAddress', 'another scheme');
  t.equal(await ruleWith('127.0.0.1', `${server.origin}/`), 'publicAddress', 'another port');
  t.equal(
    await ruleWith(server.host, `http://127.0.0.1.${server.port}.example.com/`),
    'scheme',
    'a name that only looks like it',
  );
  t.equal(await ruleWith(server.host, `http://${server.host}@10.0.0.1/`), 'credentials');
});
