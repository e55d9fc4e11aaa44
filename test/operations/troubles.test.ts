/** Every trouble an operator meets at night, provoked for real: what `/ready`, `/worker/status` and `ourvidz status` say of it. */
import { execFileSync } from 'node:child_process';
import { cp, mkdir, mkdtemp, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { startCli } from '../cli/support.js';
import { openBrowser } from '../helpers/browser.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { sdxlPayload } from '../helpers/jobs.js';
import { childProcesses } from '../helpers/processes.js';
import { redisOrSkip, startRedis } from '../helpers/redis.js';
import { requireCommand } from '../helpers/requirements.js';
import { type ServiceProcess, startService, testApiKey } from '../helpers/service-process.js';
import { keyOf, startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';
import { onlyTinySdxl } from '../helpers/tiny-models.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(600_000);

interface Trouble {
  code: string;
  severity: string;
  what: string;
  cause: string;
  cure: string;
  since: string;
  next_try_at?: string;
  target?: string;
}
interface Expected {
  severity: string;
  cause: RegExp;
  cure: RegExp;
  target?: string;
  nextTry?: boolean;
}
type Door = Pick<ServiceProcess, 'baseUrl' | 'get'>;

const promisedMs = 10_000;
const smallJob = () => sdxlPayload({ config: { num_images: 1, seed: 7, width: 64, height: 64 } });
const ready = async (service: Door) => {
  const answer = await service.get('/ready');
  return { status: answer.status, ...((await answer.json()) as { reasons: string[]; troubles: Trouble[] }) };
};
type Ready = Awaited<ReturnType<typeof ready>>;
const troubleOf = ({ troubles }: Ready, code: string) => troubles.find((trouble) => trouble.code === code);
const listed = async (service: Door, code: string) => troubleOf(await ready(service), code);

/** Somebody has the console open meanwhile. */
const noBrowser = requireCommand('chromium');
const browser = noBrowser === false ? await openBrowser(t) : null;
if (noBrowser !== false) t.pass('the same in the console', { skip: noBrowser });

async function lookAtHealth({ baseUrl }: Door) {
  if (browser === null || browser.page.url().startsWith(`${baseUrl}/`)) return;
  await browser.signIn(baseUrl, testApiKey);
  await browser.open('Health');
}

async function seenInConsole({ cause, cure }: Expected): Promise<number | null> {
  if (browser === null) return null;
  const listed = browser.page.getByRole('region', { name: 'What is wrong' }).getByRole('listitem');
  await listed.filter({ hasText: cause }).filter({ hasText: cure }).first().waitFor();
  return Date.now();
}

/** The same in four places, with cause and cure, at the latest ten seconds after `provoke` has ended. */
async function shown(
  t: Test,
  service: Door,
  code: string,
  expected: Expected,
  provoke: () => Promise<unknown>,
) {
  const { severity, cause, cure, target, nextTry = false } = expected;
  await lookAtHealth(service);
  await provoke();
  const provokedAt = Date.now();
  const seen = seenInConsole(expected);
  seen.catch(() => {});
  let last: Ready | undefined;
  const trouble = await waitFor(
    async () => {
      last = await ready(service);
      return troubleOf(last, code);
    },
    { what: () => `${code}; ${JSON.stringify(last)}`, timeoutMs: 40_000, intervalMs: 200 },
  );
  const lateMs = Date.parse(trouble.since) - provokedAt;
  t.ok(lateMs < promisedMs, `${code} is known after ${lateMs} ms`);
  t.match(trouble, { severity, cause, cure, ...(target === undefined ? {} : { target }) }, `${code}: /ready`);
  if (nextTry) t.ok(Date.parse(trouble.next_try_at ?? '') > provokedAt, 'and when it is tried again');
  const answer = await service.get('/ready');
  if (severity === 'critical') t.equal(answer.status, 503);
  const seenAt = await seen;
  if (seenAt !== null) {
    t.comment(`${code} is seen in the console after ${seenAt - provokedAt} ms`);
    t.ok(seenAt - provokedAt < promisedMs, `${code}: the console`);
  }
  t.notMatch(JSON.stringify(trouble), /\/tmp\/|127\.0\.0\.1/, 'no folder and no address of the machine');
  const health = (await (await service.get('/health')).json()) as { status: string };
  if (severity === 'warning') t.not(health.status, 'unhealthy');
  else t.not(health.status, 'healthy', `${code}: /health`);

  const { code: exitCode, stdout } = await startCli(
    ['status', '--url', service.baseUrl, '--key', testApiKey],
    t.testdir({}),
  ).done;
  t.ok(
    severity === 'warning' ? exitCode === 8 || exitCode === 1 : exitCode === 1,
    `status ends with ${exitCode}`,
  );
  const entry = stdout.slice(stdout.indexOf(`(${code},`));
  t.match(entry, cause, `${code}: ourvidz status says why`);
  t.match(entry, cure, 'and what to do');
}

const gone = (service: Door, code: string) =>
  waitFor(async () => (await listed(service, code)) === undefined, { what: `${code} to be over` });

const engineOf = (service: ServiceProcess) =>
  waitFor(() => childProcesses(service.pid()).find(({ command }) => / sdxl$/.test(command)), {
    what: 'the engine',
    intervalMs: 20,
  });

/** A file system of its own, so that it can be filled. */
async function smallDisk(t: Test, megabytes: number): Promise<string | null> {
  const folder = await mkdtemp(path.join(tmpdir(), 'ourvidz-disk-'));
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m`, 'tmpfs', folder], { stdio: 'pipe' });
  } catch {
    await rm(folder, { recursive: true });
    return null;
  }
  t.teardown(async () => {
    execFileSync('umount', ['-l', folder]);
    await rm(folder, { recursive: true, force: true });
  });
  return folder;
}

t.test(
  'ffmpeg missing, a paused queue, a frozen engine, a crash loop, a full disk, a second service',
  async (t) => {
    const disk = await smallDisk(t, 200);
    if (disk !== null) await mkdir(path.join(disk, 'data'));
    const service = await startService({
      env: { MODELS_DIR: await onlyTinySdxl(t), FFMPEG: '/nonexistent/ffmpeg' },
      ...(disk === null ? {} : { dataDir: path.join(disk, 'data') }),
      until: 'none',
    });
    t.teardown(() => service.cleanUp());
    await service.waitUntil('ready');

    await shown(
      t,
      service,
      'ffmpeg_missing',
      { severity: 'warning', cause: /no ffmpeg with libx264/, cure: /apt-get install ffmpeg/ },
      () => Promise.resolve(),
    );

    await shown(
      t,
      service,
      'queue_paused',
      {
        severity: 'warning',
        target: 'sdxl_queue',
        cause: /held by .*: the model is exchanged/,
        cure: /queue resume sdxl_queue/,
      },
      () => service.send('POST', '/queues/sdxl_queue/pause', { reason: 'the model is exchanged' }),
    );
    await service.send('POST', '/queues/sdxl_queue/resume');
    await gone(service, 'queue_paused');

    await shown(
      t,
      service,
      'engine_frozen',
      {
        severity: 'critical',
        target: 'sdxl',
        cause: /gives no sign of life.*SIGSTOP/,
        cure: /kill -CONT \d+/,
      },
      async () => process.kill((await engineOf(service)).pid, 'SIGSTOP'),
    );
    // Whether it goes on or has been replaced meanwhile.
    for (const { pid } of childProcesses(service.pid())) process.kill(pid, 'SIGCONT');
    await gone(service, 'engine_frozen');
    await service.waitUntil('ready');

    await shown(
      t,
      service,
      'engine_crashing',
      {
        severity: 'critical',
        target: 'sdxl',
        cause: /died from SIGKILL/,
        cure: /starts again by itself/,
        nextTry: true,
      },
      async () => {
        // Killed at work once it is replaced at once; the second time in a row it waits.
        const first = await engineOf(service);
        process.kill(first.pid, 'SIGKILL');
        const next = await waitFor(
          async () => {
            const found = childProcesses(service.pid()).find(({ command }) => / sdxl$/.test(command));
            return found !== undefined && found.pid !== first.pid ? found : undefined;
          },
          { what: 'another engine', intervalMs: 20 },
        );
        process.kill(next.pid, 'SIGKILL');
        await waitFor(() => childProcesses(service.pid()).every(({ pid }) => pid !== next.pid), {
          what: 'its end',
          intervalMs: 20,
        });
      },
    );
    await service.waitUntil('ready');
    await gone(service, 'engine_crashing');

    const second = await startService({
      dataDir: service.dataDir,
      env: { MODELS_DIR: await onlyTinySdxl(t) },
      until: 'health',
    });
    t.teardown(() => second.kill());
    const refused = await second.get('/worker/status');
    t.equal(refused.status, 503);
    t.match(await refused.json(), { code: 'UNAVAILABLE', message: /Another service uses this DATA_DIR/ });
    t.match(await ready(second), {
      status: 503,
      troubles: [
        {
          code: 'data_dir_in_use',
          severity: 'critical',
          cause: new RegExp(`is in use by the process ${service.pid()}`),
          cure: /its own DATA_DIR/,
          next_try_at: String,
        },
      ],
    });
    // It serves nothing before it has its folder: where the console would be, the browser shows the sentence.
    const seen = await browser?.page.context().newPage();
    await seen?.goto(second.baseUrl);
    const sentence = /is in use by the process \d+.*Stop that one/s;
    if (seen !== undefined) t.match(await seen.locator('body').textContent(), sentence);
    await seen?.close();
    const { code, stderr } = await startCli(
      ['status', '--url', second.baseUrl, '--key', testApiKey],
      t.testdir({}),
    ).done;
    t.equal(code, 6);
    t.match(stderr, sentence);
    t.equal((await second.kill('SIGTERM')).code, 0, 'an orderly end while it waits');

    if (disk === null) t.pass('a full disk', { skip: 'a tmpfs cannot be mounted here' });
    else await fill(t, service, disk);
  },
);

async function fill(t: Test, service: ServiceProcess, disk: string) {
  const ballast = path.join(disk, 'ballast');
  await shown(
    t,
    service,
    'disk_full',
    { severity: 'critical', target: 'DATA_DIR', cause: /only .* free under DATA_DIR/, cure: /Free space/ },
    () => writeFile(ballast, Buffer.alloc(150 * 2 ** 20)),
  );
  const submitted = await service.send('POST', '/jobs', smallJob());
  t.equal(submitted.status, 507);
  t.match(await submitted.json(), {
    code: 'INSUFFICIENT_STORAGE',
    message: /Free space on the disk of DATA_DIR/,
  });
  await rm(ballast);
  await service.waitUntil('ready');
  t.equal((await service.send('POST', '/jobs', smallJob())).status, 202);
}

t.test('a second service takes over when the first one has ended', async (t) => {
  const models = await onlyTinySdxl(t);
  const first = await startService({ env: { MODELS_DIR: models }, until: 'health' });
  const second = await startService({ dataDir: first.dataDir, env: { MODELS_DIR: models }, until: 'health' });
  t.teardown(async () => {
    await second.cleanUp();
    await first.cleanUp();
  });
  t.ok(await listed(second, 'data_dir_in_use'));
  await first.kill('SIGTERM');
  await second.waitUntil('ready');
});

t.test('a wrong clock, callbacks that are refused, a key that expires, a dead Redis', async (t) => {
  if (!redisOrSkip(t)) return;
  const redis = await startRedis();
  const serviceKey = keyOf({ role: 'service_role' });
  const [supabase, receiver] = [
    await startSupabaseStorageDouble({ serviceKey }),
    await startCallbackReceiver(),
  ];
  t.teardown(() => Promise.all([redis.stop(), supabase.close(), receiver.close()]));
  supabase.setClockOffset(-3_600_000);
  const service = await startService({
    env: {
      MODELS_DIR: await onlyTinySdxl(t),
      REDIS_URL: redis.url,
      SUPABASE_URL: supabase.url,
      SUPABASE_SERVICE_KEY: serviceKey,
      CALLBACK_URL: receiver.url,
    },
  });
  t.teardown(() => service.cleanUp());
  await shown(
    t,
    service,
    'clock_wrong',
    { severity: 'error', cause: /it is 3\d{3} s ahead of that of Supabase/, cure: /set-ntp/ },
    () => Promise.resolve(),
  );

  await shown(
    t,
    service,
    'callbacks_refused',
    {
      severity: 'critical',
      cause: /answers 401: SUPABASE_SERVICE_KEY or CALLBACK_SECRET/,
      cure: /CALLBACK_SECRET/,
    },
    async () => {
      receiver.setRespond(() => 401);
      await service.send('POST', '/jobs', smallJob());
      await waitFor(() => receiver.received.some(({ statusCode }) => statusCode === 401), {
        what: 'a refused callback',
        timeoutMs: 240_000,
      });
    },
  );
  receiver.setRespond(() => 200);
  await gone(service, 'callbacks_refused');

  await shown(
    t,
    service,
    'storage_refuses',
    { severity: 'critical', cause: /SUPABASE_SERVICE_KEY/, cure: /service_role key of the project/ },
    async () => {
      const before = service.logs().length;
      supabase.expireKey(serviceKey);
      // A storage that took a file is believed for a minute, unless a job finds out before.
      await service.send('POST', '/jobs', smallJob());
      const isRefused = (line: string) => line.includes('"unfit"') && line.includes('SUPABASE_SERVICE_KEY');
      await waitFor(() => service.logs().slice(before).some(isRefused), {
        what: () => `the refusal; ${service.logs().slice(before).join('\n')}`,
        timeoutMs: 240_000,
      });
    },
  );
  supabase.renewKey(serviceKey);
  await gone(service, 'storage_refuses');

  await shown(
    t,
    service,
    'queue_unreachable',
    { severity: 'critical', cause: /ECONNREFUSED/, cure: /Start the Redis server/ },
    () => redis.kill(),
  );
  await redis.start();
  await gone(service, 'queue_unreachable');
  await shown(
    t,
    service,
    'queue_unreachable',
    { severity: 'critical', cause: /no answer within 3 s|timeout/, cure: /Start the Redis server/ },
    () => Promise.resolve(redis.signal('SIGSTOP')),
  );
  redis.signal('SIGCONT');
  await gone(service, 'queue_unreachable');
});

t.test('a damaged model file, and a device that is not here', async (t) => {
  const models = await mkdtemp(path.join(tmpdir(), 'ourvidz-damaged-'));
  t.teardown(() => rm(models, { recursive: true, force: true }));
  await mkdir(path.join(models, 'sdxl'));
  await cp(path.join(projectRoot(), 'test/parity/models/sdxl-tiny'), path.join(models, 'sdxl'), {
    recursive: true,
    dereference: true,
  });
  const weights = path.join(models, 'sdxl/unet/diffusion_pytorch_model.safetensors');
  await truncate(weights, Math.floor((await stat(weights)).size / 2));
  const [damaged, elsewhere] = await Promise.all([
    startService({ env: { MODELS_DIR: models }, until: 'health' }),
    startService({ env: { MODELS_DIR: await onlyTinySdxl(t), ORT_DEVICE: 'cuda' }, until: 'health' }),
  ]);
  t.teardown(() => Promise.all([damaged.cleanUp(), elsewhere.cleanUp()]));
  const tried = (service: ServiceProcess) => () =>
    waitFor(() => service.logs().some((line) => /"level":50.*sdxl engine/.test(line)), { what: 'its start' });
  await shown(
    t,
    damaged,
    'model_unusable',
    {
      severity: 'critical',
      target: 'sdxl',
      cause: /diffusion_pytorch_model\.safetensors.*beyond the file/,
      cure: /models verify/,
    },
    tried(damaged),
  );
  await shown(
    t,
    elsewhere,
    'device_missing',
    { severity: 'critical', target: 'sdxl', cause: /cuda is not used/, cure: /setup cuda/ },
    tried(elsewhere),
  );
});

t.test('a key that expires while nothing is drawn', async (t) => {
  const expiresAt = Math.ceil(Date.now() / 1000) + 40;
  const serviceKey = keyOf({ role: 'service_role', exp: expiresAt });
  const supabase = await startSupabaseStorageDouble({ serviceKey });
  const service = await startService({
    env: { MODELS_DIR: await onlyTinySdxl(t), SUPABASE_URL: supabase.url, SUPABASE_SERVICE_KEY: serviceKey },
    until: 'health',
  });
  t.teardown(() => Promise.all([service.cleanUp(), supabase.close()]));
  await shown(
    t,
    service,
    'key_invalid',
    { severity: 'error', cause: /SUPABASE_SERVICE_KEY expired on/, cure: /service_role key of the project/ },
    () => sleep(Math.max(0, expiresAt * 1000 - Date.now())),
  );
});
