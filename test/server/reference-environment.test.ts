import { randomUUID } from 'node:crypto';
import { cp, mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import path from 'node:path';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { openRedis, redisOrSkip } from '../helpers/redis.js';
import { startService } from '../helpers/service-process.js';
import { keyOf, startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';
import { waitFor } from '../helpers/wait-for.js';

t.setTimeout(240_000);

interface Readiness {
  reasons: string[];
  troubles: Array<{ code: string; severity: string; cure: string }>;
}

/** The variables that an environment of the reference worker has, and none of ours beside the addresses of the test. */
async function open(t: Test, env: Record<string, string | undefined> = {}) {
  const key = keyOf({ role: 'service_role' });
  const { server, redis } = await openRedis(t);
  const double = await startSupabaseStorageDouble({ serviceKey: key });
  const receiver = await startCallbackReceiver();
  t.teardown(() => Promise.all([double.close(), receiver.close()]));
  const cache = await mkdtemp(path.join(tmpdir(), 'hf-'));
  const service = await startService({
    env: {
      SUPABASE_URL: double.url,
      SUPABASE_SERVICE_KEY: key,
      // Its Redis speaks TLS on Upstash's own port: the one of this machine goes before it.
      UPSTASH_REDIS_REST_URL: 'https://eu1-fox.upstash.io',
      UPSTASH_REDIS_REST_TOKEN: 'token-of-the-reference',
      REDIS_URL: server.url,
      CALLBACK_URL: receiver.url,
      HF_HOME: cache,
      METRICS_URL: `${receiver.origin}/metrics`,
      RUNPOD_POD_ID: undefined,
      ALLOW_POCKET_MODELS: undefined,
      MODELS_DIR: undefined,
      ...env,
    },
    until: 'health',
  });
  t.teardown(async () => {
    await service.cleanUp();
    await rm(cache, { recursive: true, force: true });
  });
  const push = async () => {
    const id = randomUUID();
    await redis.lpush('sdxl_queue', JSON.stringify({ ...goodPayloads.sdxl, id }));
    return id;
  };
  const readiness = async () => {
    const answer = await service.get('/ready');
    return { status: answer.status, ...((await answer.json()) as Readiness) };
  };
  const said = (event: string) => service.logs().filter((line) => line.includes(`"event":"${event}"`));
  return { service, redis, receiver, push, readiness, said };
}

if (redisOrSkip(t)) {
  await t.test(
    'without models of its own it says so, is not ready, and takes no job of the shared queue',
    async (t) => {
      const s = await open(t);
      const id = await s.push();
      const engineIsUp = async () =>
        ((await s.service.getJson('/worker/status')) as { workers: { sdxl: { status: string } } }).workers
          .sdxl.status === 'active';
      await waitFor(engineIsUp, { what: 'the engine', timeoutMs: 90_000 });
      const { status, reasons, troubles } = await s.readiness();
      t.equal(status, 503);
      t.match(reasons[0], /the pocket models would draw the jobs of a shared queue/);
      t.match(
        troubles.find(({ code }) => code === 'pocket_models'),
        { severity: 'critical', cure: /MODELS_DIR .*ALLOW_POCKET_MODELS=on/ },
      );
      t.match(
        s.said('pocket_models')[0],
        /"level":50.*the pocket models would draw the jobs of a shared queue/,
      );
      t.match(await s.service.getJson('/health'), { status: 'degraded', worker_ready: false });
      await new Promise((resolve) => setTimeout(resolve, 3000));
      t.equal(await s.redis.llen('sdxl_queue'), 1, 'the job is left to others');
      t.same(s.receiver.received, []);
      t.same(
        s.service.logs().filter((line) => line.includes('taking jobs')),
        [],
      );

      await s.service.restart({ ALLOW_POCKET_MODELS: 'on', FFMPEG: '/nonexistent/ffmpeg' });
      t.match(
        s.service.logs().find((line) => line.includes('taking jobs')),
        /"troubles":\[[^\]]*"ffmpeg_missing"/,
        'what is wrong is known before the first job',
      );
      t.match((await s.receiver.waitForTerminal(id, 90_000)).body, { status: 'completed' });
      t.equal((await s.readiness()).status, 200);
    },
  );

  await t.test("with the reference's folder names beside each other it draws", async (t) => {
    const models = await mkdtemp(path.join(tmpdir(), 'models-'));
    t.teardown(() => rm(models, { recursive: true, force: true }));
    const root = projectRoot();
    for (const [from, to] of [
      ['test/parity/models/sdxl-tiny', 'sdxl-lustify'],
      ['test/parity/models/wan-tiny', 'wan2.1-t2v-1.3b'],
      ['models/pocket/qwen', 'Qwen2.5-7B'],
      ['models/pocket/qwen', 'Qwen2.5-7B-Instruct'],
    ] as const) {
      await mkdir(path.join(models, to));
      await cp(path.join(root, from), path.join(models, to), { recursive: true });
    }
    const s = await open(t, { MODELS_DIR: models });
    const id = await s.push();
    t.match((await s.receiver.waitForTerminal(id, 120_000)).body, { status: 'completed' });
    t.same(s.said('pocket_models'), []);
    t.ok(s.service.logs().some((line) => line.includes('taking jobs')));
    const { engines } = (await s.service.getJson('/capabilities')) as { engines: Record<string, unknown> };
    t.same(Object.keys(engines).sort(), ['qwen', 'sdxl', 'wan']);
    const service = s.service.logs().findIndex((line) => line.includes('"event":"service_key"'));
    const taking = s.service.logs().findIndex((line) => line.includes('taking jobs'));
    t.ok(service !== -1 && service < taking, 'the environment is checked before the first job');
  });
}
