import { randomUUID } from 'node:crypto';
import t from 'tap';
import { testEngineEntry, until } from '../engines/support.js';
import { build } from '../helpers/build.js';
import { redisOrSkip, startRedis } from '../helpers/redis.js';

interface Instance {
  worker_id: string;
  pid: number;
  seen_at: string;
  status: { health: string; engines: Record<string, { state: string; jobs_processed: number }> };
}

if (redisOrSkip(t)) {
  await t.test('two services on one Redis: each tells of both, until one has gone', async (t) => {
    const redis = await startRedis();
    t.teardown(() => redis.stop());
    const open = (kind: 'sdxl' | 'wan') =>
      build(t, {
        env: {
          REDIS_URL: redis.url,
          WAN_WORKER_API_KEY: 'key-of-the-cluster-test',
          MODELS_DIR: t.testdir({ [kind]: {} }),
        },
        options: { engineEntry: testEngineEntry },
        start: true,
      });
    const painter = await open('sdxl');
    const filmer = await open('wan');
    const instancesOf = async ({ call }: typeof painter) =>
      (await call('GET', '/worker/status?scope=cluster')).json<{
        worker_id: string;
        instances: Instance[];
      }>();
    await until('both to be announced', async () => (await instancesOf(painter)).instances.length === 2);
    const [seenByPainter, seenByFilmer] = [await instancesOf(painter), await instancesOf(filmer)];
    const idsOf = ({ instances }: { instances: Instance[] }) =>
      instances.map((each) => each.worker_id).sort();
    t.same(idsOf(seenByPainter), [seenByPainter.worker_id, seenByFilmer.worker_id].sort());
    t.same(idsOf(seenByFilmer), idsOf(seenByPainter), 'both say the same');
    for (const { seen_at: seenAt, status } of seenByPainter.instances) {
      t.ok(Math.abs(Date.parse(seenAt) - Date.now()) < 60_000);
      t.match(status, {
        health: 'healthy',
        engines: { sdxl: { state: /^[a-z_]+$/, jobs_processed: 0, error_count: 0 }, wan: {} },
      });
    }
    t.notOk(
      'instances' in (await painter.call('GET', '/worker/status')).json<object>(),
      'only when asked for',
    );

    await filmer.services.stop();
    await until('its leaving', async () => (await instancesOf(painter)).instances.length === 1);
    t.same(idsOf(await instancesOf(painter)), [seenByPainter.worker_id]);
  });

  await t.test('a video waits for the service that can encode it, past one that cannot', async (t) => {
    const redis = await startRedis();
    t.teardown(() => redis.stop());
    const open = (env: Record<string, string>) =>
      build(t, {
        env: {
          REDIS_URL: redis.url,
          WAN_WORKER_API_KEY: 'key-of-the-cluster-test',
          MODELS_DIR: t.testdir({ wan: {} }),
          ...env,
        },
        options: { engineEntry: testEngineEntry },
        start: true,
      });
    const without = await open({ FFMPEG: '/nonexistent' });
    const store = without.services.store;
    const announced = async () => (await store.instances()).map(({ status }) => status['job_types']);
    await until('its announcement', async () => (await announced()).length === 1);
    t.same(await announced(), [
      ['image_fast', 'image_high', 'image7b_fast_enhanced', 'image7b_high_enhanced'],
    ]);
    // Another one, between its announcement and its first reservation.
    await store.announce(
      {
        workerId: 'with',
        host: 'h',
        pid: 1,
        startedAtMs: Date.now(),
        seenAtMs: Date.now(),
        status: { job_types: ['video_fast'] },
      },
      60_000,
    );
    const submit = async (type: string) =>
      (await without.call('POST', '/jobs', { type, prompt: 'a wave', user_id: randomUUID() })).json<{
        id: string;
      }>().id;
    const video = await submit('video_fast');
    const picture = await submit('image_fast');
    await until('the picture', async () => (await store.get(picture))?.status === 'completed');
    t.match(await store.get(video), { status: 'queued', attempts: 0 });
    await open({});
    await until('the video', async () => (await store.get(video))?.status === 'completed');
    t.match(await store.get(video), { attempts: 1 });
  });
}
