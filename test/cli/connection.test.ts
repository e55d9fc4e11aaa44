import { readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { resolveConnection } from '../../src/cli/client.js';
import { projectRoot } from '../../src/lib/project.js';

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
    for (const url of ['https://worker.example', 'http://10.0.0.1:7860', 'not a url'])
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
