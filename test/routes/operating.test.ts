import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import sharp from 'sharp';
import t, { type Test } from 'tap';
import { createClient, type AnyJobEvent } from '../../client/index.js';
import { testEngineEntry, until } from '../engines/support.js';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { build, testApiKey } from '../helpers/build.js';
import { openRedis, redisOrSkip } from '../helpers/redis.js';
import { keyOf, startSupabaseStorageDouble } from '../helpers/supabase-storage-double.js';

t.setTimeout(300_000);

type App = Awaited<ReturnType<typeof build>>;
type Json = Record<string, unknown>;
const [ana, bob] = ['0a0a0a0a-0000-4000-8000-000000000001', '0b0b0b0b-0000-4000-8000-000000000002'];
const jobOf = (prompt: string, fields: Json = {}) => ({
  ...goodPayloads.sdxl,
  id: randomUUID(),
  prompt,
  ...fields,
});
const open = (t: Test, options: Parameters<typeof build>[1] = {}) =>
  build(t, {
    options: { engineEntry: testEngineEntry },
    ...options,
    env: { MODELS_DIR: t.testdir({ sdxl: {} }), ...options.env },
  });

async function submit({ call }: App, prompt: string, fields: Json = {}): Promise<string> {
  const answer = await call('POST', '/jobs', jobOf(prompt, fields));
  return answer.json<{ id: string }>().id;
}
const read = async ({ call }: App, id: string) => (await call('GET', `/jobs/${id}`)).json<Json>();

/** What both kinds of queue do the same. */
async function testQueue(
  t: Test,
  open: (t: Test, options?: { start: boolean }) => Promise<App>,
): Promise<void> {
  await t.test(
    'a job says what it asks for, since when and why it waits, and how its attempts ended',
    async (t) => {
      const app = await open(t);
      const first = await submit(app, 'a red circle', { config: { seed: 7, num_images: 1 } });
      const second = await submit(app, `a blue square ${'x'.repeat(400)}`);
      const job = await read(app, first);
      t.match(job, {
        queue: 'sdxl_queue',
        user_id: goodPayloads.sdxl.user_id,
        prompt: 'a red circle',
        request: { prompt: 'a red circle', config: { seed: 7, num_images: 1 } },
        since: job['created_at'],
        waiting: {
          code: 'no_worker',
          message: /nobody takes jobs of sdxl_queue: the sdxl engine is stopped/,
        },
      });
      t.match((await app.call('GET', '/jobs')).json(), {
        jobs: [{ id: second, prompt: /^a blue square x{286}…$/, queue_position: 1 }, { id: first }],
      });
      t.notOk('request' in ((await app.call('GET', '/jobs')).json<{ jobs: Json[] }>().jobs[0] ?? {}));
      const { store } = app.services;
      const asked = { queue: 'sdxl_queue', workerId: 'w', leaseMs: 60_000, begin: true } as const;
      const reservation = await store.reserve(asked);
      t.match(await read(app, first), { status: 'processing', worker_id: 'w', waiting: null });
      if (reservation !== null) await store.retryLater(reservation.lease, 60_000, 'out of memory');
      await app.services.store.announce(
        {
          workerId: 'other',
          host: 'h',
          pid: 1,
          startedAtMs: 0,
          seenAtMs: 0,
          status: { takes: { sdxl_queue: null } },
        },
        60_000,
      );
      app.services.outlook.lookAgain();
      t.match(await read(app, first), {
        status: 'queued',
        attempts: 1,
        last_error: 'out of memory',
        waiting: {
          code: 'retry',
          message: /attempt 1 failed; the next one is due in (59|60) s/,
          retry_at: /^20.*Z$/,
        },
        history: [{ attempt: 1, outcome: 'retried', worker_id: 'w', error: 'out of memory' }],
      });
      t.match(await read(app, second), { waiting: { code: 'behind', ahead: 1, message: 'behind 1 other' } });

      const made = await app.call('POST', '/tokens', {
        user_id: goodPayloads.sdxl.user_id,
        scopes: ['jobs'],
      });
      const authorization = `Bearer ${made.json<{ token: string }>().token}`;
      const theirs = (await app.call('GET', `/jobs/${first}`, undefined, { authorization })).json<Json>();
      t.match(theirs, { prompt: 'a red circle', waiting: { code: 'retry' } });
      for (const field of ['worker_id', 'last_error', 'history'])
        t.notOk(field in theirs, `${field} is not for users`);
    },
  );

  await t.test('jobs are found by queue, words and the beginning of their id', async (t) => {
    const app = await open(t);
    const red = await submit(app, 'a RED circle');
    const blue = await submit(app, 'a blue square');
    const ids = async (query: string) =>
      (await app.call('GET', `/jobs?${query}`))
        .json<{ jobs: Array<{ id: string }> }>()
        .jobs.map(({ id }) => id);
    t.same(await ids('text=red%20c'), [red]);
    t.same(await ids('queue=sdxl_queue'), [blue, red]);
    t.same(await ids('queue=wan_queue'), []);
    t.same(await ids(`id_prefix=${red.slice(0, 9).toUpperCase()}`), [red]);
    t.match((await app.call('GET', '/jobs?id_prefix=xyz')).json(), { details: [{ field: 'id_prefix' }] });
    t.match((await app.call('GET', '/jobs?text=')).json(), {
      details: [{ field: 'text', rule: 'minLength' }],
    });
  });

  await t.test(
    'a paused queue is taken from by nobody, says so, and goes on when it is resumed',
    async (t) => {
      const app = await open(t, { start: true });
      t.match((await app.call('POST', '/queues/sdxl_queue/pause', { reason: 'new weights' })).json(), {
        queue: 'sdxl_queue',
        paused: { by: /\S/, reason: 'new weights', since: /^20.*Z$/ },
        empty_in_seconds: null,
      });
      const id = await submit(app, 'a red circle');
      t.match(await read(app, id), {
        status: 'queued',
        waiting: {
          code: 'queue_paused',
          message: 'sdxl_queue is paused: new weights',
          starts_in_seconds: null,
        },
      });
      const queues = async () => (await app.call('GET', '/queues')).json<{ queues: Json[] }>().queues;
      await until('its place to be known', async () => (await queues())[0]?.['waiting'] === 1);
      t.match(await queues(), [
        { queue: 'sdxl_queue', waiting: 1, paused: { reason: 'new weights' } },
        { queue: 'wan_queue', paused: null, takers: 0, trouble: /wan/ },
      ]);
      t.match((await app.call('POST', '/queues/sdxl_queue/pause', { reason: null })).json(), {
        paused: { reason: 'new weights' },
      });
      await new Promise((resolve) => setTimeout(resolve, 1500));
      t.match(await read(app, id), { status: 'queued', attempts: 0 }, 'nobody has taken it');
      t.match((await app.call('POST', '/queues/sdxl_queue/resume')).json(), { paused: null });
      await until('the job', async () => (await read(app, id))['status'] === 'completed');
      t.match((await app.call('POST', '/queues/sdxl_queue/resume')).json(), { paused: null }, 'again');
      t.equal((await app.call('POST', '/queues/no_queue/pause', {})).statusCode, 400);
      const next = await submit(app, 'is slow');
      await until('it to run', async () => (await read(app, next))['status'] === 'processing');
      // One is prepared while another is drawn; whatever comes behind them waits.
      await submit(app, 'is slow');
      await submit(app, 'is slow');
      const seconds = (await read(app, await submit(app, 'a green ring')))['waiting'] as Json;
      t.ok(typeof seconds['starts_in_seconds'] === 'number', 'one job has told what they take');
      await app.call('POST', '/jobs/cancel', { queue: 'sdxl_queue' });
    },
  );

  await t.test('an instance that is drained finishes, takes no more and stays up', async (t) => {
    const app = await open(t, { start: true });
    const running = await submit(app, 'is slow');
    await until('it to run', async () => (await read(app, running))['status'] === 'processing');
    const drained = (await app.call('POST', '/instances/self/drain', { reason: 'kernel' })).json<Json>();
    t.match(drained, { draining: { reason: 'kernel' } });
    const waiting = await submit(app, 'a red circle');
    t.match(await read(app, waiting), {
      waiting: {
        code: 'no_worker',
        message: `nobody takes jobs of sdxl_queue: ${String(drained['worker_id'])} is drained`,
      },
    });
    t.match((await app.call('GET', '/worker/status?scope=cluster')).json(), {
      draining: { reason: 'kernel' },
      instances: [{ draining: { reason: 'kernel' } }],
    });
    t.match(await read(app, running), { status: 'processing' });
    await app.call('DELETE', `/jobs/${running}`);
    await until('its end', async () => (await read(app, running))['status'] === 'cancelled');
    await new Promise((resolve) => setTimeout(resolve, 1000));
    t.match(await read(app, waiting), { status: 'queued', attempts: 0 });
    t.match((await app.call('POST', `/instances/${String(drained['worker_id'])}/resume`)).json(), {
      draining: null,
    });
    await until('the job', async () => (await read(app, waiting))['status'] === 'completed');
    for (const nobody of ['nobody', '__proto__', 'constructor'])
      t.equal((await app.call('POST', `/instances/${nobody}/drain`, {})).statusCode, 404);
  });

  await t.test('many jobs are cancelled by what they have in common', async (t) => {
    const app = await open(t);
    const mine = await Promise.all(
      Array.from({ length: 4 }, () => submit(app, 'a red circle', { user_id: ana })),
    );
    const other = await submit(app, 'a red circle', { user_id: bob });
    const blue = await submit(app, 'a blue square', { user_id: ana });
    const nothing = await app.call('POST', '/jobs/cancel', {});
    t.match(nothing.json(), {
      statusCode: 400,
      details: [{ field: 'body', message: /at least one of status/ }],
    });
    const some = { user_id: ana, text: 'red', limit: 3 };
    t.same((await app.call('POST', '/jobs/cancel', some)).json(), { cancelled: 3, stopping: 0, more: true });
    t.same((await app.call('POST', '/jobs/cancel', some)).json(), { cancelled: 1, stopping: 0, more: false });
    for (const id of mine) t.match(await read(app, id), { status: 'cancelled', history: undefined });
    t.match(await read(app, blue), { status: 'queued' });
    const made = await app.call('POST', '/tokens', { user_id: bob, scopes: ['jobs'] });
    const authorization = `Bearer ${made.json<{ token: string }>().token}`;
    const foreign = await app.call(
      'POST',
      '/jobs/cancel',
      { user_id: ana, status: 'queued' },
      { authorization },
    );
    t.equal(foreign.statusCode, 403);
    const own = await app.call(
      'POST',
      '/jobs/cancel',
      { ids: [blue, other], status: 'queued' },
      { authorization },
    );
    t.same(own.json(), { cancelled: 1, stopping: 0, more: false }, 'a token reaches its own only');
    t.match(await read(app, blue), { status: 'queued' });
    t.match(await read(app, other), { status: 'cancelled' });
    const named = { ids: [await submit(app, 'one'), await submit(app, 'another')], limit: 1 };
    t.same((await app.call('POST', '/jobs/cancel', named)).json(), { cancelled: 1, stopping: 0, more: true });
    const waiting = await Promise.all(named.ids.map((id) => read(app, id)));
    t.equal(
      waiting.filter(({ status }) => status === 'queued').length,
      1,
      'one call cancels no more than its limit',
    );
  });

  await t.test('dead letters are put back or dropped by their reason', async (t) => {
    const app = await open(t);
    const { store } = app.services;
    for (let count = 0; count < 6; count += 1) {
      const id = await submit(app, 'a red circle');
      const reservation = await store.reserve({
        queue: 'sdxl_queue',
        workerId: 'w',
        leaseMs: 60_000,
        begin: true,
      });
      if (reservation === null) throw new Error('there was a job');
      const reason =
        count % 3 === 0 ? `Generation failed: ${count} GB are missing for ${id}` : 'Storage: 503';
      const ended = { status: 'failed' as const, assets: [], metadata: {}, errorMessage: reason };
      await store.deadLetter(reservation.lease, reason, { ...ended, job: { id } });
    }
    t.match((await app.call('GET', '/dead-letters/reasons')).json(), {
      reasons: [
        { reason: 'Storage: …', queue: 'sdxl_queue', count: 4 },
        { reason: 'Generation failed: … GB are missing for …', count: 2, oldest_at: /Z$/ },
      ],
    });
    t.match((await app.call('POST', '/dead-letters/requeue', {})).json(), { details: [{ field: 'body' }] });
    const requeue = (body: Json) => app.call('POST', '/dead-letters/requeue', body);
    t.same((await requeue({ reason: 'Storage: …', limit: 3 })).json(), { done: 3, kept: 0, more: true });
    t.same((await requeue({ reason: 'storage' })).json(), { done: 1, kept: 0, more: false });
    t.equal((await app.call('GET', '/jobs?status=queued')).json<{ jobs: unknown[] }>().jobs.length, 4);
    const drop = await app.call('POST', '/dead-letters/drop', {
      reason: 'Generation failed: 5 GB are missing',
    });
    t.same(drop.json(), { done: 2, kept: 0, more: false }, 'whatever the numbers');
    t.same((await app.call('GET', '/dead-letters/reasons')).json(), { reasons: [] });

    const small = 'config.width must be at least …';
    for (const reason of [small, `${small}; config.height must be at least …`]) {
      const id = await submit(app, 'a red circle');
      for (;;) {
        const reservation = await store.reserve({
          queue: 'sdxl_queue',
          workerId: 'w',
          leaseMs: 60_000,
          begin: true,
        });
        if (reservation === null) throw new Error('there was a job');
        const ended = { status: 'failed' as const, assets: [], metadata: {}, errorMessage: reason };
        if (reservation.lease.jobId !== id) await store.finish(reservation.lease, ended);
        else {
          await store.deadLetter(reservation.lease, reason, { ...ended, job: { id } });
          break;
        }
      }
    }
    const exact = await app.call('POST', '/dead-letters/drop', { reason: small });
    t.same(exact.json(), { done: 1, kept: 0, more: false }, 'not those that say more');
  });

  await t.test('one stream tells of all jobs, and goes on where it broke off', async (t) => {
    const app = await open(t, { start: true });
    await app.app.listen({ host: '127.0.0.1', port: 0 });
    const url = `http://127.0.0.1:${(app.app.server.address() as AddressInfo).port}`;
    const follow = (key: string, lastEventId?: string) => {
      const seen: AnyJobEvent[] = [];
      const end = new AbortController();
      const client = createClient({ url, key });
      const opened = new Promise<void>((resolve) => {
        void (async () => {
          const options = {
            signal: end.signal,
            onOpen: resolve,
            ...(lastEventId === undefined ? {} : { lastEventId }),
          };
          for await (const event of client.followJobs(options)) seen.push(event);
        })().catch((error: unknown) => t.fail(String(error)));
      });
      t.teardown(() => end.abort());
      return { seen, opened, stop: () => end.abort() };
    };
    const states = (seen: AnyJobEvent[], id: string) =>
      seen.flatMap(({ event, data }) => (event === 'state' && data.job_id === id ? [data.status] : []));
    const made = await app.call('POST', '/tokens', { user_id: ana, scopes: ['jobs'] });
    const all = follow(testApiKey);
    const own = follow(made.json<{ token: string }>().token);
    await Promise.all([all.opened, own.opened]);
    const first = await submit(app, 'a red circle', { user_id: ana });
    const second = await submit(app, 'a blue square', { user_id: bob });
    const expected = ['queued', 'processing', 'completed'];
    await until('both ends', () =>
      [first, second].every((id) => states(all.seen, id).length === expected.length),
    );
    for (const id of [first, second]) t.same(states(all.seen, id), expected);
    t.ok(all.seen.some(({ event, data }) => event === 'progress' && data.job_id === first));
    await until('what ana sees', () => states(own.seen, first).length === expected.length);
    t.ok(
      own.seen.every(({ event, data }) => event === 'reset' || data.job_id === first),
      'and nobody else sees',
    );
    all.stop();

    const then = all.seen.find(({ event, data }) => event === 'state' && data.job_id === first)?.id;
    const back = follow(testApiKey, then);
    await until('what was missed', () => states(back.seen, second).length === expected.length);
    t.same(states(back.seen, first), expected.slice(1));
    const late = follow(testApiKey, '1000-0');
    await until('the reset', () => late.seen.length > 0);
    t.equal(late.seen[0]?.event, 'reset');
    t.match((await app.call('GET', '/events?last_event_id=x')).json(), {
      details: [{ field: 'last_event_id' }],
    });
    t.equal((await app.call('HEAD', '/events')).statusCode, 200);
  });
}

await t.test('embedded queue', (t) => testQueue(t, (t, options) => open(t, options)));

if (redisOrSkip(t)) {
  const { server, redis } = await openRedis(t);
  const env = {
    REDIS_URL: server.url,
    WAN_WORKER_API_KEY: 'key-of-the-operating-test',
    ALLOW_POCKET_MODELS: 'on',
  };
  await t.test('Redis', (t) =>
    testQueue(t, async (t, options) => {
      await redis.flushall();
      return open(t, { ...options, env });
    }),
  );

  await t.test('what a follower of a job costs the queue does not grow with their number', async (t) => {
    await redis.flushall();
    const app = await open(t, { env });
    const id = await submit(app, 'a red circle');
    const calls = async () => {
      const stats = String(await redis.info('commandstats'));
      return [...stats.matchAll(/cmdstat_(hgetall|evalsha|lpos|lrange):calls=(\d+)/g)].reduce(
        (sum, [, , n]) => sum + Number(n),
        0,
      );
    };
    const before = await calls();
    const end = new AbortController();
    const started = performance.now();
    const following = Array.from({ length: 300 }, async () => {
      for await (const event of app.services.jobs.events(id, 0, end.signal))
        if (event.event === 'state') return;
    });
    await Promise.all(following);
    const seconds = (performance.now() - started) / 1000;
    t.ok((await calls()) - before < 60 + 20 * seconds, 'far fewer than one read each');
    end.abort();
  });
}

t.test('small pictures of assets, made once, and files deleted', async (t) => {
  const app = await open(t, { start: true });
  const id = await submit(app, 'a red circle');
  await until('the picture', async () => (await read(app, id))['status'] === 'completed');
  const { assets, metadata } = (await read(app, id)) as {
    assets: string[];
    metadata: { asset_paths: string[] };
  };
  const file = `/assets/${metadata.asset_paths[0]}`;
  // The engine under test draws nothing that could be looked at.
  const drawn = sharp({ create: { width: 300, height: 150, channels: 3, background: '#ff0000' } });
  t.equal((await app.call('GET', `${file}?size=64`)).statusCode, 404, 'nothing that can be shown');
  await drawn.png().toFile(path.join(app.services.assets?.root ?? '', metadata.asset_paths[0] ?? ''));
  const small = await app.call('GET', `${file}?size=64`);
  t.match(small.headers, { 'content-type': 'image/webp' });
  const picture = await sharp(small.rawPayload).metadata();
  t.match(picture, { format: 'webp', width: 64, height: 32 });
  const etag = String(small.headers['etag']);
  t.equal((await app.call('GET', `${file}?size=64`, undefined, { 'if-none-match': etag })).statusCode, 304);
  t.match((await app.call('GET', `${file}?size=65`)).json(), { details: [{ field: 'size', rule: 'enum' }] });
  t.equal((await app.call('GET', `${file.replace('0.', '9.')}?size=64`)).statusCode, 404);
  t.equal((await app.call('GET', '/assets/sdxl_image_fast/..%2f..%2fapi-key?size=64')).statusCode, 404);
  const made = await app.call('POST', '/tokens', { user_id: bob, scopes: ['jobs'] });
  const authorization = `Bearer ${made.json<{ token: string }>().token}`;
  t.equal(
    (await app.call('GET', `${file}?size=64`, undefined, { authorization })).statusCode,
    404,
    "another's",
  );

  t.equal((await app.call('DELETE', `/jobs/${id}/assets`, undefined, { authorization })).statusCode, 404);
  for (const time of ['first', 'second'])
    t.match(
      (await app.call('DELETE', `/jobs/${id}/assets`)).json(),
      { status: 'completed', assets: [] },
      time,
    );
  t.equal((await app.call('GET', assets[0] ?? '')).statusCode, 404);
  t.equal((await app.call('GET', `${file}?size=64`)).statusCode, 404);
  t.match(await read(app, id), { assets: [], metadata: { asset_paths: [], assets_deleted_at: /^20/ } });
  t.equal((await app.call('DELETE', `/jobs/${randomUUID()}/assets`)).statusCode, 404);
  const slow = await submit(app, 'is slow');
  t.match((await app.call('DELETE', `/jobs/${slow}/assets`)).json(), {
    statusCode: 409,
    message: /not over/,
  });
  await app.call('DELETE', `/jobs/${slow}`);
});

t.test('small pictures of what Supabase stores, of buckets of jobs only', async (t) => {
  const key = keyOf({ role: 'service_role' });
  const double = await startSupabaseStorageDouble({ serviceKey: key });
  t.teardown(() => double.close());
  const body = await sharp({ create: { width: 300, height: 150, channels: 3, background: '#ff0000' } })
    .png()
    .toBuffer();
  const stored = { body, contentType: 'image/png', cacheControl: '', upserts: 0 };
  for (const bucket of ['sdxl_image_fast', 'invoices'])
    double.buckets.set(bucket, { public: false, objects: new Map([[`${ana}/job/0.png`, stored]]) });
  const { call } = await open(t, {
    env: {
      SUPABASE_URL: double.url,
      SUPABASE_SERVICE_KEY: key,
      WAN_WORKER_API_KEY: 'a-key-of-its-own',
      CALLBACK_URL: 'http://127.0.0.1:1/',
    },
  });
  const file = `/assets/sdxl_image_fast/${ana}/job/0.png`;
  const small = await call('GET', `${file}?size=128`);
  t.match(await sharp(small.rawPayload).metadata(), { format: 'webp', width: 128, height: 64 });
  const reads = double.requests.length;
  t.equal((await call('GET', `${file}?size=128`)).statusCode, 200);
  t.equal(double.requests.length, reads, 'kept');
  t.equal((await call('GET', file)).statusCode, 404, 'whole files have addresses of their own');
  t.equal((await call('GET', `/assets/invoices/${ana}/job/0.png?size=128`)).statusCode, 404);
  t.equal((await call('GET', `/assets/sdxl_image_fast/${ana}/job/1.png?size=128`)).statusCode, 404);
  const made = await call('POST', '/tokens', { user_id: bob, scopes: ['jobs'] });
  const authorization = `Bearer ${made.json<{ token: string }>().token}`;
  t.equal((await call('GET', `${file}?size=128`, undefined, { authorization })).statusCode, 404);
  await double.close();
  t.match((await call('GET', `${file}?size=64`)).json(), { statusCode: 503 });
});
