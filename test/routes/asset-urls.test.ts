import { randomUUID } from 'node:crypto';
import t, { type Test } from 'tap';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { testEngineEntry } from '../engines/support.js';
import { build } from '../helpers/build.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { type Fault, keyOf, startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';
import { waitFor } from '../helpers/wait-for.js';

interface Job {
  status: string;
  assets: string[];
  metadata: { asset_paths?: string[] };
}

/** The whole service with the default of ASSET_URLS, over an HTTP double of Supabase Storage. */
async function open(t: Test, { isPublic = false, env = {} } = {}) {
  const key = keyOf({ role: 'service_role' });
  const double = await startSupabaseStorageDouble({ serviceKey: key });
  double.buckets.set('sdxl_image_fast', { public: isPublic, objects: new Map() });
  const receiver = await startCallbackReceiver();
  t.teardown(() => Promise.all([double.close(), receiver.close()]));
  const app = await build(t, {
    env: {
      MODELS_DIR: t.testdir({ sdxl: {} }),
      SUPABASE_URL: double.url,
      SUPABASE_SERVICE_KEY: key,
      CALLBACK_URL: receiver.url,
      WAN_WORKER_API_KEY: 'a-key-of-its-own',
      ...env,
    },
    options: { engineEntry: testEngineEntry },
    start: true,
  });
  const get = async (id: string) => (await app.call('GET', `/jobs/${id}`)).json<Job>();
  const draw = async () => {
    const id = randomUUID();
    t.equal((await app.call('POST', '/jobs', { ...goodPayloads.sdxl, id })).statusCode, 202);
    const callback = await receiver.waitForTerminal(id);
    return { id, callback: callback.body, job: await get(id) };
  };
  const asked = (method: string, path: RegExp) =>
    double.requests.filter((request) => request.method === method && path.test(request.path)).length;
  return { ...app, double, draw, get, asked };
}

const signing = /\/object\/sign\//;

t.test('in a public bucket assets have public addresses, in callbacks and when asked for', async (t) => {
  const s = await open(t, { isPublic: true });
  const { callback, job } = await s.draw();
  t.equal(callback.status, 'completed');
  t.same(job.assets, callback.assets);
  const [path = ''] = job.metadata.asset_paths ?? [];
  t.match(path, /^sdxl_image_fast\/.+\/0\.png$/);
  t.same(callback.metadata['asset_paths'], job.metadata.asset_paths);
  t.same(job.assets, [`${s.double.url}/storage/v1/object/public/${path}`]);
  t.equal((await fetch(job.assets[0] ?? '')).status, 200, 'without a key');
  t.equal(s.asked('POST', signing), 0);
});

t.test(
  'in a private bucket they are signed for ASSET_URL_SECONDS, and again when those run out',
  async (t) => {
    const s = await open(t, { env: { ASSET_URL_SECONDS: '120' } });
    const { id, callback, job } = await s.draw();
    const [path = ''] = job.metadata.asset_paths ?? [];
    t.same(callback.assets, [`${s.double.url}/storage/v1/object/sign/${path}?token=signed-120`]);
    t.equal((await fetch(callback.assets[0] ?? '')).status, 200, 'without a key');
    t.same((await s.get(id)).assets, callback.assets);
    t.equal(s.asked('POST', signing), 1, 'what is fresh is not signed again');

    const realNow = Date.now;
    Date.now = () => realNow() + 61_000;
    t.teardown(() => {
      Date.now = realNow;
    });
    t.match((await s.get(id)).assets, [/token=signed-120$/]);
    t.equal(s.asked('POST', signing), 2, 'half of the time is over: signed again');
    s.double.setFault(({ path }) => (signing.test(path) ? { status: 500 } : undefined));
    t.same((await s.get(id)).assets, callback.assets, 'what cannot be signed now is named as it was');
  },
);

t.test('a bucket that was closed or opened gives the other kind of address', async (t) => {
  const s = await open(t, { isPublic: true });
  const { id } = await s.draw();
  s.double.buckets.get('sdxl_image_fast')!.public = false;
  const realNow = Date.now;
  Date.now = () => realNow() + 400_000_000;
  t.teardown(() => {
    Date.now = realNow;
  });
  await waitFor(async () => signing.test((await s.get(id)).assets[0] ?? ''), {
    what: 'a signed address',
    timeoutMs: 30_000,
  });
});

t.test('an address that cannot be had now is asked for again; the file is not sent again', async (t) => {
  const s = await open(t);
  let failures = 0;
  const fails = (method: string, path: string): Fault =>
    (signing.test(path) || (method === 'GET' && path.endsWith('/bucket'))) && failures++ < 4
      ? { status: 503 }
      : undefined;
  s.double.setFault(({ method, path }) => fails(method, path.split('?')[0] ?? ''));
  const { callback } = await s.draw();
  t.equal(callback.status, 'completed');
  t.ok(failures >= 4, 'it was refused');
  t.equal(s.asked('POST', /\/object\/sdxl_image_fast\/(?!worker-check)/), 1, 'one upload');
});
