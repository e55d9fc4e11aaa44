import pino from 'pino';
import t, { type Test } from 'tap';
import { until } from '../engines/support.js';
import { build, type BuildOptions } from '../helpers/build.js';
import { keyOf, startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';

/** The app over an HTTP double of Supabase Storage. */
async function open(
  t: Test,
  serviceKey: string,
  env: Record<string, string> = {},
  options: Partial<BuildOptions> = {},
) {
  const double = await startSupabaseStorageDouble({ serviceKey });
  t.teardown(() => double.close());
  double.buckets.set('video_fast', { public: false, objects: new Map() });
  const app = await build(t, {
    ...options,
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
  double.buckets.set('sdxl_image_fast', { public: false, objects: new Map() });
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
  const { findings } = await open(t, keyOf({ role: 'service_role' }), { ASSET_URLS: 'public' });
  t.match(
    (await findings()).filter(({ subject, severity }) => /supabase/.test(subject) && severity === 'error'),
    [{ subject: 'supabase storage', message: /the bucket video_fast is private/, cure: /ASSET_URLS/ }],
  );
});

t.test('what the key says of itself, and a private bucket, are said at the start', async (t) => {
  const soon = Math.floor(Date.now() / 1000) + 3600;
  const keys: Array<[key: string, level: number, said: RegExp]> = [
    [keyOf({ role: 'service_role' }), 30, /key of Supabase was read/],
    [keyOf({ role: 'service_role', exp: soon }), 40, /expires on 2/],
    [keyOf({ role: 'service_role', exp: 1_700_000_000 }), 50, /expired on 2023-11-14/],
    [keyOf({ role: 'anon' }), 50, /has the role "anon", not service_role/],
    [keyOf({ role: 'painter' }), 40, /has the role "painter".*what policies allow/],
    ['sb_publishable_abcdef', 50, /publishable key/],
  ];
  for (const [key, level, said] of keys) {
    const lines: Array<{ event?: string; level: number; msg: string }> = [];
    const log = pino({ level: 'info' }, { write: (line) => void lines.push(JSON.parse(line) as never) });
    await open(t, key, { ASSET_URLS: 'public' }, { log, start: true });
    const lineOf = (event: string) => lines.find((line) => line.event === event);
    await until('the line', () => lineOf('service_key') !== undefined);
    t.match(lineOf('service_key'), { level, msg: said });
    t.notMatch(JSON.stringify(lines), key);
    if (level !== 30) continue;
    await until('the bucket', () => lineOf('storage_settings') !== undefined);
    t.match(lineOf('storage_settings'), { level: 50, msg: /the bucket video_fast is private/ });
  }
});
