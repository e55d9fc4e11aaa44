import { randomUUID } from 'node:crypto';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { testEngineEntry, until } from '../engines/support.js';
import { build, testApiKey } from '../helpers/build.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { openRedis, redisOrSkip } from '../helpers/redis.js';

interface Letter {
  id: string;
  queue: string;
  payload: string;
  encoding?: string;
  payload_bytes: number;
  reason: string;
}
interface Job {
  id: string;
  type: string;
  status: string;
}

const userA = '00000000-0000-4000-8000-00000000000a';
const userB = '00000000-0000-4000-8000-00000000000b';
const jobOf = (id: string, fields: object = {}) => ({
  id,
  type: 'sdxl_image_fast',
  prompt: 'a red circle',
  user_id: userA,
  config: { seed: 7 },
  ...fields,
});

/** A real Redis and a receiver of callbacks; services join with the engines they are to have. */
async function openDoors(t: Test) {
  const { server, redis } = await openRedis(t);
  const receiver = await startCallbackReceiver();
  t.teardown(() => receiver.close());
  const join = (...engines: Array<'sdxl' | 'wan'>) =>
    build(t, {
      env: {
        REDIS_URL: server.url,
        CALLBACK_URL: receiver.url,
        STORAGE: 'folder',
        WAN_WORKER_API_KEY: testApiKey,
        MODELS_DIR: t.testdir(Object.fromEntries(engines.map((engine) => [engine, {}]))),
      },
      options: { engineEntry: testEngineEntry },
      start: true,
    });
  const service = await join('wan');
  const letters = async () =>
    (await service.call('GET', '/dead-letters?limit=100')).json<{ dead_letters: Letter[] }>().dead_letters;
  const get = async (id: string) => (await service.call('GET', `/jobs/${id}`)).json<Job>();
  return {
    redis,
    receiver,
    join,
    service,
    letters,
    get,
    untilLetters: (count: number) =>
      until(`${count} dead letters`, async () => (await letters()).length === count),
    ended: (id: string) =>
      until(`the end of ${id}`, async () => ['completed', 'failed'].includes((await get(id)).status)),
    said: (id: string) =>
      receiver.received.filter(({ body }) => body.job_id === id).map(({ body }) => body.status),
  };
}

if (redisOrSkip(t)) {
  await t.test("nobody takes, fails or doubles a waiting user's job by its id", async (t) => {
    const { redis, service, join, letters, get, untilLetters, ended, said } = await openDoors(t);
    const { call } = service;
    const id = randomUUID();
    const job = jobOf(id);
    t.equal((await call('POST', '/jobs', job)).statusCode, 202);
    await redis.lpush('wan_queue', JSON.stringify({ id, type: 'nonsense' }));
    await redis.lpush('wan_queue', JSON.stringify(jobOf(id, { type: 'image_fast', user_id: userB })));
    await redis.lpush('wan_queue', JSON.stringify(job));
    await untilLetters(3);
    t.match(await get(id), { status: 'queued', type: 'sdxl_image_fast' });
    for (const change of [
      { type: 'sdxl_image_high' },
      { prompt: 'a cat' },
      { user_id: userB },
      { type: 'image_fast' },
    ])
      t.match((await call('POST', '/jobs', { ...job, ...change })).json(), {
        statusCode: 409,
        code: 'CONFLICT',
      });
    t.match(
      (await call('POST', '/jobs', job)).json(),
      { id, status: 'queued' },
      'the same again is the same job',
    );

    await join('sdxl');
    await ended(id);
    t.match(await get(id), { status: 'completed', type: 'sdxl_image_fast' });
    await until('its callback', () => said(id).includes('completed'));
    t.notOk(said(id).includes('failed'), 'nothing was said in its name');
    t.equal((await letters()).length, 3);
  });

  await t.test('nor a job that was pushed and has no record yet', async (t) => {
    const { redis, service, join, get, untilLetters, ended, said } = await openDoors(t);
    const id = randomUUID();
    await redis.lpush('sdxl_queue', JSON.stringify(jobOf(id)));
    await redis.lpush('wan_queue', JSON.stringify({ id, type: 'nonsense' }));
    await untilLetters(1);
    t.match(await get(id), { status: 'queued', type: 'sdxl_image_fast' });
    await join('sdxl');
    await ended(id);
    t.match(await get(id), { status: 'completed' });
    await until('its callback', () => said(id).includes('completed'));
    t.notOk(said(id).includes('failed'));

    const other = randomUUID();
    await redis.lpush('sdxl_queue', JSON.stringify(jobOf(other)));
    await ended(other);
    const before = await service.call('GET', `/jobs/${other}`);
    await redis.lpush('wan_queue', JSON.stringify(jobOf(other, { type: 'image_fast', user_id: userB })));
    await untilLetters(2);
    t.same((await service.call('GET', `/jobs/${other}`)).json(), before.json(), 'nor one that is finished');
  });

  await t.test('what only another parser takes for JSON ends as a dead letter', async (t) => {
    const { redis, receiver, service, join, letters, untilLetters, ended } = await openDoors(t);
    await join('sdxl');
    const fields = `"type":"sdxl_image_fast","prompt":"a red circle","user_id":"${userA}"`;
    const ids = Array.from({ length: 7 }, (): string => randomUUID());
    const payloads = [
      `{"id":"${ids[0]}",${fields},"config":{"seed":NaN}}`,
      `{"id":"${ids[1]}",${fields},"config":{"seed":007}}`,
      `{"id":"${ids[2]}",${fields},"config":{"seed":0x10}}`,
      `{"id":"${ids[3]}",${fields},"config":{"seed":Infinity}}`,
      `{"id":"${ids[4]}",${fields.replace('red', 're\nd')}}`,
      `{"id":"${ids[5]}",${fields.replace('red', 're\td')}}`,
      `{"id":"${ids[6]}",${fields},}`,
    ];
    for (const payload of payloads) await redis.lpush('sdxl_queue', payload);
    await untilLetters(payloads.length);
    t.same((await letters()).map(({ payload }) => payload).sort(), [...payloads].sort());
    for (const { reason } of await letters()) t.equal(reason, 'the payload is not JSON');
    for (const id of ids) t.equal((await service.call('DELETE', `/jobs/${id}`)).statusCode, 404);
    const good = randomUUID();
    await redis.lpush('sdxl_queue', JSON.stringify(jobOf(good)));
    await ended(good);
    t.same(
      (await service.call('GET', '/jobs')).json<{ jobs: Job[] }>().jobs.map(({ id }) => id),
      [good],
    );
    t.equal(await redis.zcard('ourvidz:leases:sdxl_queue'), 0, 'nothing is processed for ever');
    t.notOk(receiver.received.some(({ body }) => ids.includes(body.job_id)));
  });

  await t.test(
    'bytes: a mark is skipped, a wrapping undone, an id kept as written, no byte replaced',
    async (t) => {
      const { redis, receiver, service, join, letters, untilLetters, ended, get } = await openDoors(t);
      await join('sdxl');
      const caseOf = (name: string) =>
        readFileSync(path.join(projectRoot(), 'test/fixtures/payloads', `${name}.payload`));
      for (const name of ['bom', 'nan', 'raw-newline', 'uppercase-id'])
        await redis.lpush('sdxl_queue', caseOf(name));
      const wrapped = randomUUID();
      await redis.lpush('sdxl_queue', JSON.stringify(JSON.stringify(jobOf(wrapped))));
      const latin = Buffer.from(
        JSON.stringify(jobOf(randomUUID(), { prompt: 'ein gr\u00fcner Kreis' })),
        'latin1',
      );
      await redis.lpush('sdxl_queue', latin);

      const upper = 'AAAAAAAA-0000-4000-8000-000000000007';
      await ended('aaaaaaaa-0000-4000-8000-000000000006');
      await ended(upper);
      await ended(wrapped);
      t.match(await get(upper.toLowerCase()), { id: upper, status: 'completed' });
      t.match((await receiver.waitForTerminal(upper)).body, { job_id: upper, status: 'completed' });
      const again = jobOf(upper.toLowerCase(), {
        config: undefined,
        user_id: '00000000-0000-4000-8000-000000000001',
      });
      t.match((await service.call('POST', '/jobs', again)).json(), { id: upper, status: 'completed' });
      await untilLetters(3);
      const [letter] = (await letters()).filter(({ encoding }) => encoding === 'base64');
      t.match(letter, { reason: 'the payload is not UTF-8', payload_bytes: latin.length });
      t.same(Buffer.from(letter?.payload ?? '', 'base64'), latin);
      t.equal((await service.call('POST', `/dead-letters/${letter?.id}/requeue`)).statusCode, 200);
      await untilLetters(3);

      const post = async (body: Buffer) =>
        service.app.inject({
          method: 'POST',
          url: '/jobs',
          headers: { authorization: `Bearer ${testApiKey}`, 'content-type': 'application/json' },
          payload: body,
        });
      const refused = await post(latin);
      t.match(refused.json(), { statusCode: 400, details: [{ field: 'body', rule: 'utf8' }] });
      const text = (id: string) => JSON.stringify(jobOf(id));
      t.equal((await post(Buffer.from(`\uFEFF${text(randomUUID())}`))).statusCode, 202);
      t.equal((await post(Buffer.from(JSON.stringify(text(randomUUID()))))).statusCode, 202);
    },
  );

  await t.test('a large payload holds nobody up and is not kept', async (t) => {
    const { redis, service, letters, untilLetters, get } = await openDoors(t);
    const large = Buffer.from(`{"id":"${randomUUID()}","prompt":"${'x'.repeat(8 * 1024 * 1024)}"}`);
    for (let count = 0; count < 6; count += 1) await redis.lpush('wan_queue', large);
    const id = randomUUID();
    await redis.lpush('sdxl_queue', large);
    await redis.lpush('sdxl_queue', JSON.stringify(jobOf(id)));
    t.match(
      await get(id),
      { id, status: 'queued' },
      'found behind it, though no engine takes from this list',
    );
    await untilLetters(7);
    for (const { payload, payload_bytes: bytes, reason } of await letters()) {
      t.equal(bytes, large.length);
      t.ok(payload.length <= 4096);
      t.match(reason, String(large.length));
    }
    const answer = await service.call('GET', '/dead-letters?limit=100');
    t.ok(answer.rawPayload.length < 50_000, `${answer.rawPayload.length} bytes`);
    const [letter] = await letters();
    t.equal((await service.call('POST', `/dead-letters/${letter?.id}/requeue`)).statusCode, 409);
    t.equal((await service.call('DELETE', `/dead-letters/${letter?.id}`)).statusCode, 200);
    t.equal(await redis.llen('sdxl_queue'), 1);
  });

  await t.test(
    'what is refused without a UUID makes no record; its producer is told where that is possible',
    async (t) => {
      const { redis, receiver, service, untilLetters } = await openDoors(t);
      const ids = ['../x', '\u001b[31mred\u0007', 'two words', 7, '__proto__'];
      for (const id of ids) await redis.lpush('wan_queue', JSON.stringify({ ...jobOf(''), id }));
      await untilLetters(ids.length);
      t.same((await service.call('GET', '/jobs')).json(), { jobs: [] });
      t.match((await receiver.waitForTerminal('../x')).body, {
        status: 'failed',
        error_message: /^Invalid parameters: .*id/,
        metadata: { error_type: 'InvalidParameters' },
      });
      await receiver.waitForTerminal('__proto__');
      t.same(receiver.received.map(({ body }) => body.job_id).sort(), ['../x', '__proto__']);
    },
  );

  await t.test('many followers of a job without a record cost Redis no more than one', async (t) => {
    const { redis, service } = await openDoors(t);
    const id = randomUUID();
    for (let count = 0; count < 500; count += 1)
      await redis.lpush('sdxl_queue', JSON.stringify(jobOf(randomUUID())));
    await redis.lpush('sdxl_queue', JSON.stringify(jobOf(id)));
    const calls = async () =>
      Object.fromEntries(
        [...(await redis.info('commandstats')).matchAll(/cmdstat_(evalsha|hgetall|lrange):calls=(\d+)/g)].map(
          ([, name = '', count]) => [name, Number(count)],
        ),
      );
    const stop = new AbortController();
    const seen: string[] = [];
    const follow = async () => {
      for await (const event of service.services.jobs.events(id, 0, stop.signal)) seen.push(event.event);
    };
    const followers = Array.from({ length: 300 }, follow);
    await until('all of them to follow', () => seen.length === 300);
    const before = await calls();
    await new Promise((resolve) => setTimeout(resolve, 3500));
    const after = await calls();
    stop.abort();
    await Promise.all(followers);
    const spent = (name: string) => (after[name] ?? 0) - (before[name] ?? 0);
    // Each follower looked once a second before: 300 scripts and 300 reads of the record.
    t.ok(spent('hgetall') < 60, `${spent('hgetall')} reads of records`);
    t.ok(spent('evalsha') < 150, `${spent('evalsha')} scripts`);
    t.ok(spent('lrange') < 300, `${spent('lrange')} reads of a list`);
  });
}
