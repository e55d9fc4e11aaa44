/** The real service with the models that ship with it, from POST /jobs to the picture's bytes. */
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import sharp from 'sharp';
import t from 'tap';
import { createClient } from '../../client/index.js';
import type { ProgressView } from '../../src/cli/job-view.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import { getJob, readAsset, sdxlPayload, submit, testUserId, waitForJob } from '../helpers/jobs.js';
import { startService } from '../helpers/service-process.js';

t.setTimeout(240_000);

const receiver = await startCallbackReceiver();
t.teardown(() => receiver.close());
const service = await startService({ env: { CALLBACK_URL: receiver.url } });
t.teardown(() => service.cleanUp());

const draw = async (config: Record<string, unknown>, prompt?: string) =>
  waitForJob(
    service,
    await submit(service, sdxlPayload({ config, ...(prompt === undefined ? {} : { prompt }) })),
  );

t.test('POST /jobs ends in a picture, its events, its callback and its stored file', async (t) => {
  const payload = sdxlPayload({ config: { num_images: 1, seed: 7 } });
  const answer = await service.send('POST', '/jobs', payload);
  t.equal(answer.status, 202);
  t.equal(answer.headers.get('location'), `/jobs/${payload.id}`);
  t.match(await answer.json(), { id: payload.id, status: 'queued', queue_position: Number });

  const client = createClient({ url: service.baseUrl, key: service.apiKey });
  const events: Array<{ id: string | undefined; event: string; data: unknown }> = [];
  for await (const event of client.followJob(payload.id, { signal: AbortSignal.timeout(60_000) }))
    events.push(event);
  const steps = events
    .filter((event) => event.event === 'progress')
    .map((event) => event.data as ProgressView);
  t.ok(
    steps.some((progress) => progress.stage === 'denoise' && progress.step > 0 && progress.steps === 15),
    'progress per denoising step',
  );
  t.same(
    steps.map((progress) => progress.fraction),
    steps.map((progress) => progress.fraction).sort((a, b) => a - b),
    'progress never goes back',
  );
  t.match(
    events.at(-1),
    { event: 'state', data: { status: 'completed' } },
    'the stream ends with the terminal state',
  );

  const [first] = events;
  const rest: unknown[] = [];
  for await (const event of client.followJob(payload.id, {
    lastEventId: first?.id,
    signal: AbortSignal.timeout(10_000),
  }))
    rest.push(event);
  t.same(rest.at(-1), events.at(-1), 'Last-Event-ID goes on where a reader broke off');
  t.equal(
    rest.some((event) => (event as { id?: string }).id === first?.id),
    false,
  );

  const job = await getJob(service, payload.id);
  t.match(job, {
    status: 'completed',
    attempts: 1,
    metadata: {
      seed: 7,
      seeds: [7],
      num_images: 1,
      enhancement_strategy: 'none',
      final_prompt_type: 'string',
    },
  });
  t.match(job.assets, [new RegExp(`sdxl_image_fast/${testUserId}/${payload.id}/0\\.png`)]);
  const picture = await readAsset(service, job.assets[0] ?? '');
  const { format, width, height } = await sharp(picture).metadata();
  t.equal(format, 'png');
  t.ok(width === height && width >= 64, `${width}×${height}`);
  t.ok(
    (await sharp(picture).stats()).channels.some((channel) => channel.stdev > 10),
    'the picture is not a flat colour',
  );
  t.ok(picture.includes('parameters'), 'the generation parameters are in the file');

  const callback = await receiver.waitForTerminal(payload.id);
  t.match(callback.body, {
    job_id: payload.id,
    status: 'completed',
    assets: { length: 1 },
    metadata: { seed: 7, num_images: 1, generation_time: Number },
  });
  t.equal(receiver.accepted(payload.id)[0]?.body.status, 'processing');
});

t.test(
  'seeds: the same job gives the same bytes, three pictures differ, the second is the one of seed + 1',
  async (t) => {
    const [once, again, three, next] = [
      await draw({ num_images: 1, seed: 41 }),
      await draw({ num_images: 1, seed: 41 }),
      await draw({ num_images: 3, seed: 41 }),
      await draw({ num_images: 1, seed: 42 }),
    ];
    const bytes = async (assets: string[]) => Promise.all(assets.map((asset) => readAsset(service, asset)));
    const [first] = await bytes(once.assets);
    const [repeated] = await bytes(again.assets);
    t.ok(first?.equals(repeated ?? Buffer.alloc(0)), 'identical files');
    const pictures = await bytes(three.assets);
    t.equal(pictures.length, 3);
    t.equal(
      new Set(pictures.map((picture) => picture.toString('base64'))).size,
      3,
      'three different pictures',
    );
    t.same(three.metadata['seeds'], [41, 42, 43]);
    const pixels = async (file: Buffer | undefined) => sharp(file).raw().toBuffer();
    const [fromSeedPlusOne] = await bytes(next.assets);
    t.ok(
      (await pixels(pictures[0])).equals(await pixels(first)),
      'the first picture of a batch is the one-picture job of its seed',
    );
    t.ok(
      (await pixels(pictures[1])).equals(await pixels(fromSeedPlusOne)),
      'the second is the one-picture job of seed + 1',
    );
  },
);

t.test('/health answers while a picture is being drawn', async (t) => {
  const id = await submit(
    service,
    sdxlPayload({ type: 'sdxl_image_high', config: { num_images: 3, seed: 1 } }),
  );
  await waitForJob(service, id, (job) => job.progress.stage === 'denoise');
  const answers: string[] = [];
  while ((await getJob(service, id)).status === 'processing') {
    const answer = await fetch(`${service.baseUrl}/health`, { signal: AbortSignal.timeout(2000) });
    answers.push(`${answer.status} ${((await answer.json()) as { status: string }).status}`);
    await sleep(50);
  }
  t.ok(answers.length >= 5, `${answers.length} answers during one job`);
  t.same([...new Set(answers)], ['200 healthy'], 'busy is healthy');
  t.equal((await waitForJob(service, id)).status, 'completed');
});

t.test(
  'a running and a waiting job can be cancelled, again and again, and the next one still runs',
  async (t) => {
    const running = await submit(
      service,
      sdxlPayload({ type: 'sdxl_image_high', config: { num_images: 6, seed: 1 } }),
    );
    const waiting = await submit(service, sdxlPayload());
    const kept = await submit(service, sdxlPayload());
    await waitForJob(service, running, (job) => job.progress.stage === 'denoise');
    for (const id of [waiting, running, running]) t.ok((await service.send('DELETE', `/jobs/${id}`)).ok);
    for (const id of [running, waiting]) {
      t.match(await waitForJob(service, id), { status: 'cancelled', assets: [] });
      t.match((await receiver.waitForTerminal(id)).body, {
        status: 'failed',
        metadata: { error_type: 'Cancelled' },
      });
      t.ok((await service.send('DELETE', `/jobs/${id}`)).ok, 'cancelling a cancelled job changes nothing');
    }
    t.equal((await waitForJob(service, kept)).status, 'completed', 'never another job');
    t.equal((await service.send('DELETE', `/jobs/${randomUUID()}`)).status, 404);
  },
);

t.test('the same id or idempotency key twice is one job', async (t) => {
  const payload = sdxlPayload();
  const { id: _id, ...withoutId } = sdxlPayload();
  await submit(service, payload);
  await submit(service, payload);
  const key = { 'idempotency-key': randomUUID() };
  const [first, second] = [
    await service.send('POST', '/jobs', withoutId, key),
    await service.send('POST', '/jobs', withoutId, key),
  ];
  const ids = [await first.json(), await second.json()].map((body) => (body as { id: string }).id);
  t.equal(ids[0], ids[1]);
  t.equal((await waitForJob(service, payload.id)).status, 'completed');
  t.equal((await waitForJob(service, ids[0] ?? '')).attempts, 1);
  t.equal(receiver.accepted(payload.id).filter((callback) => callback.body.status === 'completed').length, 1);
});
