import t, { type Test } from 'tap';
import { build } from '../helpers/build.js';
import { keyOf, startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';

/** The app over an HTTP double of Supabase Storage. */
async function open(t: Test, serviceKey: string, env: Record<string, string> = {}) {
  const double = await startSupabaseStorageDouble({ serviceKey });
  t.teardown(() => double.close());
  const app = await build(t, {
    env: {
      SUPABASE_URL: double.url,
      SUPABASE_SERVICE_KEY: serviceKey,
      WAN_WORKER_API_KEY: 'a-key-of-its-own',
      ...env,
    },
  });
  const findings = async () =>
    (await app.call('GET', '/worker/validate')).json<{
      details: { findings: Array<{ subject: string; severity: string; message: string; cure?: string }> };
    }>().details.findings;
  return { double, ...app, findings };
}

t.test('a key that may not write: not ready, and both places say why', async (t) => {
  const key = keyOf({ role: 'anon' });
  const { inject, findings, double } = await open(t, key);
  for (const bucket of ['sdxl_image_fast', 'video_fast'])
    double.buckets.set(bucket, { public: false, objects: new Map() });
  const ready = await inject({ url: '/ready' });
  t.equal(ready.statusCode, 503);
  t.match(ready.json(), { ready: false, reasons: [/SUPABASE_SERVICE_KEY has the role "anon"/] });
  t.notMatch(ready.payload, key, 'the key itself is never shown');
  const found = await findings();
  for (const subject of ['supabase key', 'supabase storage'])
    t.match(
      found.find((finding) => finding.subject === subject),
      { severity: 'error', message: /has the role "anon"/, cure: /SUPABASE_SERVICE_KEY/ },
    );
});

t.test('a private bucket under public addresses is found', async (t) => {
  const { findings, double } = await open(t, keyOf({ role: 'service_role' }), { ASSET_URLS: 'public' });
  double.buckets.set('video_fast', { public: false, objects: new Map() });
  t.match(
    (await findings()).filter(({ subject, severity }) => /supabase/.test(subject) && severity === 'error'),
    [{ subject: 'supabase storage', message: /the bucket video_fast is private/, cure: /ASSET_URLS/ }],
  );
});
