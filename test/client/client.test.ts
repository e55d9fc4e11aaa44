import { randomUUID } from 'node:crypto';
import type { AddressInfo } from 'node:net';
import path from 'node:path';
import t, { type Test } from 'tap';
import { ConnectionError, createClient, type JobEvent, OurVidzError } from '../../client/index.js';
import { readEvents } from '../../client/event-stream.js';
import { projectRoot } from '../../src/lib/project.js';
import { createTestEnhancement } from '../enhancement/support.js';
import { build, type BuildOptions, testApiKey } from '../helpers/build.js';

const user_id = '00000000-0000-4000-8000-000000000001';

async function open(t: Test, options: BuildOptions = {}) {
  const { app } = await build(t, options);
  await app.listen({ host: '127.0.0.1', port: 0 });
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
  return { app, url, client: createClient({ url: `${url}/`, key: testApiKey }) };
}

t.test('a job: submitted, followed over broken connections, fetched', async (t) => {
  const { app, client } = await open(t, {
    env: { MODELS_DIR: path.join(projectRoot(), 'test/parity/models'), PREVIEW_EVERY_STEPS: '5' },
    start: true,
  });
  const id = randomUUID();
  const body = { id, type: 'sdxl_image_fast' as const, prompt: 'a red circle', user_id };
  const config = { num_images: 1 as const, seed: 7, width: 64, height: 64 };
  t.match(await client.createJob({ body: { ...body, config }, 'Idempotency-Key': id }), {
    id,
    status: 'queued',
  });

  const events: JobEvent[] = [];
  let broken = 0;
  for await (const event of client.followJob(id)) {
    events.push(event);
    if (event.event !== 'progress' || broken === 3) continue;
    broken += 1;
    app.server.closeAllConnections();
  }
  t.equal(broken, 3);
  const ids = events.map((event) => Number(event.id));
  t.same(
    ids,
    [...new Set(ids)].sort((a, b) => a - b),
    'nothing twice, nothing out of order',
  );
  t.match(events.at(-1), { event: 'state', data: { status: 'completed', assets: [/^\/assets\//] } });
  t.ok(events.some(({ event }) => event === 'preview'));

  const job = await client.finishedJob(id);
  t.match(job, { id, status: 'completed', metadata: { seed: 7 } });
  const asset = await client.openAsset(job.assets[0] ?? '');
  t.equal(asset.headers.get('content-type'), 'image/png');
  t.same(new Uint8Array(await asset.arrayBuffer()).slice(1, 4), new TextEncoder().encode('PNG'));
  t.match(await client.listJobs({ limit: 1, status: 'completed' }), { jobs: [{ id }] });
  t.match(await client.cancelJob({ id }), { status: 'completed' });
  t.match(await client.getMetrics(), /ourvidz_jobs_total/, 'text is text');
});

t.test('what is refused says so in the words of the service', async (t) => {
  const { client, url } = await open(t, { env: { MODELS_DIR: t.testdir({ sdxl: {} }) } });
  const refused = async (call: Promise<unknown>) =>
    call.then(
      () => t.fail('it was accepted'),
      (error: unknown) => error as OurVidzError,
    );
  const wrong = { type: 'sdxl_image_fast', prompt: '', user_id } as const;
  const invalid = await refused(client.createJob({ body: wrong }));
  t.type(invalid, OurVidzError);
  t.match(invalid, { status: 400, code: 'INVALID_PARAMETERS', isTemporary: false, requestId: /\S/ });
  t.match(invalid, { details: [{ field: 'prompt', rule: 'minLength' }] });
  t.match(await refused(client.getJob({ id: randomUUID() })), { status: 404, code: 'NOT_FOUND' });
  t.match(await refused(createClient({ url }).listJobs()), { status: 401 }, 'without a key');
  const asked = createClient({ url, key: () => Promise.resolve(testApiKey) });
  t.match(await asked.listJobs(), { jobs: [] }, 'a key that is asked for');
  const away = await refused(createClient({ url: 'http://127.0.0.1:1' }).getHealth());
  t.type(away, ConnectionError);
  const leave = new AbortController();
  leave.abort(new Error('changed my mind'));
  t.match(await refused(client.getHealth({}, { signal: leave.signal })), { message: 'changed my mind' });
});

t.test('an enhancement as it is written', async (t) => {
  const { enhancement } = await createTestEnhancement(t);
  const { client } = await open(t, { services: { enhancement } });
  const names: string[] = [];
  let answer: unknown;
  for await (const { event, data } of client.enhanceStream({ prompt: 'a cat' })) {
    names.push(event);
    if (event === 'done') answer = data;
  }
  t.ok(names.includes('token'));
  t.equal(names.at(-1), 'done');
  t.match(answer, { success: true, original_prompt: 'a cat' });
  t.match(await client.enhancePrompt({ body: { prompt: 'a cat' } }), { success: true });
  t.equal(await client.deleteEnhanceSession({ session_id: 'a/b c' }), undefined);
});

t.test('events, however they are cut into pieces', async (t) => {
  const text =
    ': a comment\n\nid: 1\nevent: state\ndata: {"a":\ndata: 1}\n\r\nid:2\r\ndata: ü\r\n\r\nevent: x\n\ndata\n\nretry: 5\rdata: r\r\rdata: cut';
  const bytes = new TextEncoder().encode(text);
  const expected = [
    { id: '1', event: 'state', data: '{"a":\n1}' },
    { id: '2', event: 'message', data: 'ü' },
    { id: undefined, event: 'message', data: '' },
    { id: undefined, event: 'message', data: 'r' },
  ];
  for (const size of [1, 2, 3, 7, bytes.length]) {
    const pieces = Array.from({ length: Math.ceil(bytes.length / size) }, (_, index) =>
      bytes.slice(index * size, (index + 1) * size),
    );
    const body = ReadableStream.from(pieces) as ReadableStream<Uint8Array>;
    const seen = [];
    for await (const event of readEvents(body)) seen.push(event);
    t.same(seen, expected, `in pieces of ${size}`);
  }
});
