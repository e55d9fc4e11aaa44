import { readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { createClient } from '../../client/index.js';
import { resolveConnection } from '../../src/cli/client.js';
import { exitCodes } from '../../src/cli/output.js';
import { projectRoot } from '../../src/lib/project.js';
import { startCli } from './support.js';

t.test('flags win over the environment, the environment over .env, .env over defaults', async (t) => {
  const folder = t.testdir({ '.env': 'PORT=7001\nWAN_WORKER_API_KEY=from-env-file\n' });
  t.same(resolveConnection({}, {}, folder), { url: 'http://127.0.0.1:7001', apiKey: 'from-env-file' });
  t.same(
    resolveConnection(
      {},
      { OURVIDZ_URL: 'http://worker:7860/', WAN_WORKER_API_KEY: 'from-environment' },
      folder,
    ),
    { url: 'http://worker:7860', apiKey: 'from-environment' },
  );
  t.same(
    resolveConnection(
      { url: 'https://flag.example', key: 'flag' },
      { OURVIDZ_URL: 'http://worker', WAN_WORKER_API_KEY: 'x' },
      folder,
    ),
    { url: 'https://flag.example', apiKey: 'flag' },
  );
  t.same(resolveConnection({}, {}, t.testdir({})), { url: 'http://127.0.0.1:7860', apiKey: undefined });
});

t.test(
  'the key a local service generated is found through DATA_DIR and never sent to another machine',
  async (t) => {
    const folder = t.testdir({ data: { 'api-key': 'generated\n' }, elsewhere: { 'api-key': 'other\n' } });
    t.equal(resolveConnection({}, {}, folder).apiKey, 'generated');
    t.equal(resolveConnection({}, { DATA_DIR: 'elsewhere' }, folder).apiKey, 'other');
    for (const url of ['http://localhost:1', 'http://127.0.0.2:1', 'http://[::1]:1'])
      t.equal(resolveConnection({ url }, {}, folder).apiKey, 'generated', url);
    for (const url of ['https://worker.example', 'http://10.0.0.1:7860'])
      t.equal(resolveConnection({ url }, {}, folder).apiKey, undefined, url);
  },
);

t.test(
  '.env.example used as it is leaves the generated key in force: what is empty is not set',
  async (t) => {
    const example = readFileSync(path.join(projectRoot(), '.env.example'), 'utf8');
    const folder = t.testdir({ '.env': example, data: { 'api-key': 'generated\n' } });
    t.same(resolveConnection({}, {}, folder), { url: 'http://127.0.0.1:7860', apiKey: 'generated' });
    t.equal(resolveConnection({}, { WAN_WORKER_API_KEY: ' ' }, folder).apiKey, 'generated');
  },
);

t.test('an address that cannot be used is named with the reason, and not shown', async (t) => {
  const cases: Array<[{ url?: string }, Record<string, string>, RegExp]> = [
    [
      {},
      { OURVIDZ_URL: 'https://user:sesame@worker' },
      /^OURVIDZ_URL must be an address without user and password/,
    ],
    [{ url: 'http://sesame@worker' }, {}, /^--url must be an address without user and password/],
    [{}, { OURVIDZ_URL: 'worker:7860' }, /^OURVIDZ_URL must be an address starting with http:/],
    [{}, { OURVIDZ_URL: 'no sesame' }, /^OURVIDZ_URL must be an address starting with http:/],
    [{}, { PORT: 'x' }, /^PORT must be the number of a port/],
  ];
  for (const [options, environment, message] of cases)
    try {
      resolveConnection(options, environment, t.testdir({}));
      t.fail(String(message));
    } catch (error) {
      t.match(error, { message, exitCode: exitCodes.usage });
      t.notMatch((error as Error).message, 'sesame');
    }
  t.throws(() => createClient({ url: 'https://user:sesame@worker' }), /without user and password/);
  const folder = t.testdir({});
  const { code, stderr } = await startCli(['status'], folder, { OURVIDZ_URL: 'http://u:sesame@127.0.0.1:1' })
    .done;
  t.equal(code, exitCodes.usage);
  t.match(stderr, /OURVIDZ_URL must be an address without user and password/);
});
