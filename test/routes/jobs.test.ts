import { randomUUID } from 'node:crypto';
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import path from 'node:path';
import sharp from 'sharp';
import type { LightMyRequestResponse } from 'fastify';
import t, { type Test } from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { build, testApiKey } from '../helpers/build.js';
import { waitFor } from '../helpers/wait-for.js';
import { testEngineEntry } from '../engines/support.js';

interface Job {
  id: string;
  status: string;
  assets: string[];
  queue_position: number | null;
  metadata: Record<string, unknown>;
  attempts: number;
  progress: { fraction: number };
}

/** Jobs are accepted and stay where they are: nothing is started. */
async function buildWaiting(t: Test) {
  const dir = t.testdir({ sdxl: {} });
  return build(t, {
    env: { MODELS_DIR: dir, MAX_WAITING_JOBS: '5' },
    options: { engineEntry: testEngineEntry },
  });
}
const fresh = () => ({ ...goodPayloads.sdxl, id: randomUUID() });

t.test('an empty id is no id, and empty fields ask for nothing', async (t) => {
  const { call } = await buildWaiting(t);
  const { id: _id, ...bare } = goodPayloads.sdxl;
  for (const id of [undefined, null, '']) {
    const empty = { compel_weights: '', config: null, metadata: { reference_image_url: '' } };
    const answer = await call('POST', '/jobs', { ...bare, ...empty, id });
    t.match(answer.json(), { id: /^[0-9a-f-]{36}$/, status: 'queued' }, JSON.stringify(id));
  }
});

t.test('a prompt without words is refused, whatever its syntax', async (t) => {
  const { call } = await buildWaiting(t);
  const refused = { statusCode: 400, details: [{ field: 'prompt', rule: 'words', message: /^prompt must/ }] };
  for (const prompt of [
    '<lora:x:1>',
    '(:1.3)',
    ' ( ) ',
    '<lora:x:1>++',
    '(<lora:x:1>:1.2)',
    '("", "").and()',
  ])
    t.match((await call('POST', '/jobs', { ...fresh(), prompt })).json(), refused, prompt);
  for (const taken of [{ prompt: '(:3)' }, { prompt: '(:1.3)', compel_enabled: false }])
    t.equal((await call('POST', '/jobs', { ...fresh(), ...taken })).statusCode, 202, taken.prompt);
});

/** Conditional and partial requests, as browsers and players make them. */
async function checkConditions(
  t: Test,
  call: Awaited<ReturnType<typeof build>>['call'],
  asset: string,
  { rawPayload: whole, headers }: LightMyRequestResponse,
) {
  const get = (asked: Record<string, string>) => call('GET', asset, undefined, asked);
  const etag = String(headers['etag']);
  const modified = String(headers['last-modified']);
  t.equal((await get({ 'if-none-match': etag })).statusCode, 304);
  t.equal((await get({ 'if-none-match': `"other", ${etag}` })).statusCode, 304, 'one of a list');
  t.equal((await get({ 'if-none-match': '"other"' })).statusCode, 200);
  t.equal((await get({ 'if-modified-since': modified })).statusCode, 304);
  const part = await get({ range: 'bytes=10-19' });
  t.equal(part.statusCode, 206);
  t.same(part.rawPayload, whole.subarray(10, 20));
  t.equal(part.headers['content-range'], `bytes 10-19/${whole.length}`);
  t.same((await get({ range: 'bytes=-5' })).rawPayload, whole.subarray(-5), 'the end');
  const beyond = await get({ range: `bytes=${whole.length}-` });
  t.match(beyond, { statusCode: 416, headers: { 'content-range': `bytes */${whole.length}` } });
  const head = await call('HEAD', asset);
  t.match(head, { statusCode: 200, payload: '', headers: { 'content-length': String(whole.length), etag } });
  t.equal((await call('HEAD', asset.replace('0.png', '9.png'))).statusCode, 404);
  for (let count = 0; count < 20; count += 1) await get({ 'if-none-match': etag });
  await waitFor(() => openFiles().every((file) => !file.endsWith(path.basename(asset))), {
    what: 'every file that was looked at to be closed again',
  });
}

/** What this process has open, on Linux. */
function openFiles(): string[] {
  const folder = '/proc/self/fd';
  if (!existsSync(folder)) return [];
  return readdirSync(folder).flatMap((name) => {
    try {
      return [readlinkSync(path.join(folder, name))];
    } catch {
      return [];
    }
  });
}

t.test('submit: 202, Location, position; the same id twice is one job', async (t) => {
  const { call } = await buildWaiting(t);
  const payload = fresh();
  const first = await call('POST', '/jobs', payload);
  t.equal(first.statusCode, 202);
  t.equal(first.headers['location'], `/jobs/${payload.id}`);
  t.same(first.json(), { id: payload.id, status: 'queued', queue_position: 0 });
  t.same(
    (await call('POST', '/jobs', payload)).json(),
    { id: payload.id, status: 'queued', queue_position: 0 },
    'again: the same job',
  );
  const { id: _id, ...nameless } = fresh();
  const second = await call('POST', '/jobs', nameless);
  t.match(second.json(), { id: /^[0-9a-f-]{36}$/, queue_position: 1 }, 'without an id one is made');
  t.match((await call('GET', second.headers['location'] as string)).json(), {
    status: 'queued',
    queue_position: 1,
    attempts: 0,
    assets: [],
  });
});

t.test('Idempotency-Key: the same body is the same job, another body is refused', async (t) => {
  const { call } = await buildWaiting(t);
  const { id: _id, ...payload } = fresh();
  const key = { 'idempotency-key': 'order-7' };
  const first = (await call('POST', '/jobs', payload, key)).json<Job>();
  t.equal((await call('POST', '/jobs', payload, key)).json<Job>().id, first.id);
  t.match((await call('POST', '/jobs', { ...payload, prompt: 'another one' }, key)).json(), {
    statusCode: 409,
    code: 'CONFLICT',
  });
  t.match((await call('POST', '/jobs', payload, { 'idempotency-key': 'k'.repeat(201) })).json(), {
    statusCode: 400,
    details: [{ field: 'idempotency-key', rule: 'maxLength' }],
  });
});

t.test('list: newest first, filters, pages', async (t) => {
  const { call } = await buildWaiting(t);
  const ids: string[] = [];
  for (let count = 0; count < 5; count += 1)
    ids.unshift(
      (
        await call('POST', '/jobs', {
          ...fresh(),
          user_id: `00000000-0000-4000-8000-00000000000${count % 2}`,
        })
      ).json<Job>().id,
    );
  const seen: string[] = [];
  let cursor = '';
  do {
    const page = (await call('GET', `/jobs?limit=2${cursor}`)).json<{ jobs: Job[]; next_cursor?: string }>();
    t.ok(page.jobs.length <= 2);
    seen.push(...page.jobs.map(({ id }) => id));
    cursor = page.next_cursor === undefined ? '' : `&cursor=${encodeURIComponent(page.next_cursor)}`;
  } while (cursor !== '');
  t.same(seen, ids);
  const ofOne = (await call('GET', '/jobs?user_id=00000000-0000-4000-8000-000000000001')).json<{
    jobs: Job[];
  }>();
  t.equal(ofOne.jobs.length, 2);
  t.same((await call('GET', '/jobs?status=completed')).json(), { jobs: [] });
  t.same((await call('GET', '/jobs?type=video_fast')).json(), { jobs: [] });
  t.ok((await call('GET', '/jobs?cursor=nonsense')).statusCode < 500, 'a cursor of somebody else');
});

t.test('a full queue says so, with when to try again', async (t) => {
  const { call } = await buildWaiting(t);
  for (let count = 0; count < 5; count += 1) t.equal((await call('POST', '/jobs', fresh())).statusCode, 202);
  const full = await call('POST', '/jobs', fresh());
  t.match(full.json(), { statusCode: 429, code: 'QUEUE_FULL' });
  t.equal(full.headers['retry-after'], '30');
});

t.test('cancel: at once while waiting, idempotent; unknown is 404', async (t) => {
  const { call } = await buildWaiting(t);
  const { id } = (await call('POST', '/jobs', fresh())).json<Job>();
  for (const time of ['first', 'second']) {
    const cancelled = await call('DELETE', `/jobs/${id}`);
    t.equal(cancelled.statusCode, 200, time);
    t.match(cancelled.json(), { id, status: 'cancelled', metadata: { error_type: 'Cancelled' } });
  }
  t.equal((await call('DELETE', `/jobs/${randomUUID()}`)).statusCode, 404);
  const events = await call('GET', `/jobs/${id}/events`);
  t.match(events.payload, /event: state\ndata: \{"status":"cancelled"/, 'the events of a finished job end');
  t.equal((await call('GET', `/jobs/${randomUUID()}/events`)).statusCode, 404);
});

t.test('an engine that is not there: 503 with the reason', async (t) => {
  const { call } = await buildWaiting(t);
  t.match((await call('POST', '/jobs', { ...goodPayloads.wan })).json(), {
    statusCode: 503,
    code: 'UNAVAILABLE',
    message: /there is no wan engine/,
  });
});

t.test('a job from submission to its picture, as a client sees it', async (t) => {
  const { app, call } = await build(t, {
    env: { MODELS_DIR: path.join(projectRoot(), 'test/parity/models'), PREVIEW_EVERY_STEPS: '5' },
    start: true,
  });
  const payload = { ...fresh(), config: { num_images: 3, seed: 7, width: 64, height: 64 } };
  t.equal((await call('POST', '/jobs', payload)).statusCode, 202);

  const stream = await call('GET', `/jobs/${payload.id}/events`);
  t.match(stream.headers, {
    'content-type': /^text\/event-stream/,
    'cache-control': 'no-store',
    'x-accel-buffering': 'no',
  });
  const events = [...stream.payload.matchAll(/id: (\d+)\nevent: (\w+)\ndata: (.*)\n/g)].map(
    ([, id, event, data]) => ({
      id: Number(id),
      event,
      data: JSON.parse(data ?? '') as Record<string, unknown>,
    }),
  );
  t.same(
    events.map(({ id }) => id),
    events.map(({ id }) => id).sort((a, b) => a - b),
    'ids grow',
  );
  t.ok(
    events.some(({ event, data }) => event === 'progress' && data['stage'] === 'denoise'),
    'progress of the drawing',
  );
  t.match(events.at(-1), { event: 'state', data: { status: 'completed' } }, 'ends with the end');

  const job = (await call('GET', `/jobs/${payload.id}`)).json<Job>();
  t.match(job, {
    status: 'completed',
    attempts: 1,
    queue_position: null,
    progress: { fraction: 1, stage: 'done' },
    metadata: { seed: 7, seeds: [7, 8, 9], num_images: 3 },
  });
  t.equal(job.assets.length, 3);

  const late = events.find(({ event }) => event === 'progress')?.id ?? 0;
  const resumed = await call('GET', `/jobs/${payload.id}/events`, undefined, {
    'last-event-id': String(late),
  });
  const resumedIds = [...resumed.payload.matchAll(/^id: (\d+)\nevent: (?:state|progress)$/gm)].map(([, id]) =>
    Number(id),
  );
  t.same(
    resumedIds,
    events.filter(({ id, event }) => id > late && event !== 'preview').map(({ id }) => id),
    'a reader that comes back misses nothing but old previews and sees nothing twice',
  );
  t.match((await call('GET', `/jobs/${payload.id}/events`, undefined, { 'last-event-id': 'x' })).json(), {
    details: [{ field: 'last-event-id', rule: 'pattern' }],
  });

  const [asset = ''] = job.assets;
  const picture = await app.inject({ url: asset, headers: { authorization: `Bearer ${testApiKey}` } });
  t.match(picture.headers, {
    'content-type': 'image/png',
    'content-length': String(picture.rawPayload.length),
    'x-content-type-options': 'nosniff',
  });
  t.match(await sharp(picture.rawPayload).metadata(), { format: 'png', width: 64, height: 64 });
  await checkConditions(t, call, asset, picture);
  for (const wrong of [
    asset.replace('0.png', '9.png'),
    asset.replace('sdxl_image_fast', 'sdxl_image_high'),
    '/assets/sdxl_image_fast/..%2f..%2fqueue%2fCURRENT',
    '/assets/sdxl_image_fast/%2e%2e/%2e%2e/api-key',
    '/assets/sdxl_image_fast/a%00b',
  ]) {
    t.equal((await call('GET', wrong)).statusCode, 404, wrong);
  }

  const compel: unknown = (
    await call('POST', '/test-compel', { prompt: 'a red circle', compel_weights: '(red:1.3), (circle:1.2)' })
  ).json();
  t.match(compel, {
    compel_success: true,
    enhancement_strategy: 'compel',
    final_prompt_type: 'conditioning_tensor',
    parsed_weights: [
      { text: 'red', weight: 1.3 },
      { text: 'circle', weight: 1.2 },
    ],
    combined_prompt: 'a (red:1.3) (circle:1.2)',
    prompt_notes: [],
    token_limit: 77,
  });
  t.match(
    (
      await call('POST', '/test-compel', {
        prompt: `<lora:x:1> a (2:3) frame, ${'red '.repeat(80)}`,
        compel_weights: '(sea:9), <lora:y:1>, (sky:1.2)',
      })
    ).json(),
    {
      parsed_weights: [
        { text: 'sea', weight: 2 },
        { text: 'sky', weight: 1.2 },
      ],
      combined_prompt: /^a \(2:3\) frame, red red/,
      prompt_notes: [
        { field: 'prompt', text: '<lora:x:1>', note: /left out/ },
        { field: 'prompt', text: '(2:3)', note: /read as text/ },
        { field: 'compel_weights', text: '<lora:y:1>', note: /left out/ },
        { field: 'compel_weights', text: '(sea:9)', note: 'counts 2' },
        { field: 'compel_weights', text: '(sea:2)', note: /^is dropped: .*77 tokens/ },
        { field: 'compel_weights', text: '(sky:1.2)', note: /^is dropped: .*77 tokens/ },
        { field: 'prompt', text: /^(red )+red$/, note: /^is cut off/ },
      ],
    },
    'whatever was changed, dropped or cut is listed',
  );
  t.match(
    (
      await call('POST', '/test-compel', { prompt: 'a red circle', compel_weights: '(invalid:weights)' })
    ).json(),
    {
      compel_success: false,
      enhancement_strategy: 'fallback',
      final_prompt_type: 'string',
      compel_error: /\S/,
      parsed_weights: [],
    },
  );
  t.match(
    (
      await call('POST', '/test-compel', {
        prompt: 'a cat (:3) sits (:1.2) on a map (scale 1:1.5), <lora:x:1>++ red',
        compel_weights: '(red:100), (2:3), nonsense, (sky:1.2)',
      })
    ).json(),
    {
      compel_success: true,
      parsed_weights: [
        { text: 'red', weight: 2 },
        { text: 'sky', weight: 1.2 },
      ],
      combined_prompt: 'a cat (:3) sits on a map (scale 1:1.5), (red:2), (sky:1.2)',
      prompt_notes: [
        { field: 'prompt', text: '<lora:x:1>++', note: /left out/ },
        { field: 'prompt', text: '(:3)', note: /read as text/ },
        { field: 'prompt', text: '(:1.2)', note: 'is left out: it has no words' },
        { field: 'prompt', text: '(scale 1:1.5)', note: 'is read as a weight of 1.5, not as a ratio' },
        { field: 'compel_weights', text: '(2:3)', note: 'is dropped: it looks like a ratio or a time' },
        { field: 'compel_weights', text: 'nonsense', note: /^is dropped: it is not of the form/ },
        { field: 'compel_weights', text: '(red:100)', note: 'counts 2' },
      ],
    },
    'one that cannot be read takes nothing with it',
  );
  t.match(
    (await call('POST', '/test-compel', { prompt: 'a red circle', compel_weights: '<lora:x:1>' })).json(),
    {
      compel_error: 'no weight in it',
      prompt_notes: [{ field: 'compel_weights', text: '<lora:x:1>', note: /left out/ }],
    },
  );
  t.match((await call('POST', '/test-compel', { prompt: 'a red circle' })).json(), {
    compel_success: false,
    enhancement_strategy: 'none',
  });
  t.match((await call('POST', '/test-compel', { prompt: ' ' })).json(), {
    statusCode: 400,
    details: [{ field: 'prompt', rule: 'pattern' }],
  });

  // SDXL draws while WAN is still in its first start.
  await waitFor(async () => (await call('GET', '/ready')).statusCode === 200, {
    what: 'readiness',
    intervalMs: 250,
  });
  t.match((await call('GET', '/ready')).json(), { ready: true, reasons: [] });
  t.match((await call('GET', '/health')).json(), {
    status: 'healthy',
    worker_ready: true,
    qwen_loaded: false,
  });
  t.match((await call('GET', '/worker/status')).json(), {
    workers: { sdxl: { status: 'active', state: 'ready', jobs_processed: 1, memory_usage: /GB$/ } },
  });
  t.match((await call('GET', '/capabilities')).json(), {
    engines: {
      sdxl: { available: true, device: 'cpu', model: 'sdxl-tiny' },
      wan: { available: true, model: /^wan-tiny/ },
      qwen: { available: false },
    },
    job_types: { sdxl_image_fast: { available: true }, video_fast: { available: true } },
    features_off: [{ feature: 'qwen' }],
  });
  t.match(
    (await call('GET', '/metrics')).payload,
    /ourvidz_jobs_total\{type="sdxl_image_fast",outcome="completed",reason="completed"\} 1/,
  );
});

t.test('a job cancelled while it waits says what was asked for, as any other does', async (t) => {
  const { call, services } = await build(t, {
    env: { MODELS_DIR: t.testdir({ sdxl: {} }), CALLBACK_URL: 'http://127.0.0.1:9/hook' },
    options: { engineEntry: testEngineEntry },
  });
  const submitted = { ...fresh(), metadata: { scene: 7 } };
  const pushed = { ...fresh(), metadata: { scene: 8 } };
  await call('POST', '/jobs', submitted);
  await services.store.push('sdxl_queue', JSON.stringify(pushed));
  for (const { id, metadata } of [submitted, pushed]) {
    t.match((await call('DELETE', `/jobs/${id}`)).json(), { metadata: { request: metadata } });
    const [callback] = await services.store.outbox.claimDue('test', 1, 60_000);
    t.match(JSON.parse(callback?.body ?? ''), {
      job_id: id,
      status: 'failed',
      metadata: { error_type: 'Cancelled', request: metadata },
    });
  }
});
