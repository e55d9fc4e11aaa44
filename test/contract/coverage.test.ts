import { randomUUID } from 'node:crypto';
import sharp from 'sharp';
import t from 'tap';
import type { EnhancementService } from '../../src/services/enhancement/enhancement-types.js';
import { createContractChecker } from '../helpers/assert-contract.js';
import { goodPayloads } from '../fixtures/malformed-payloads.js';
import { build, testApiKey } from '../helpers/build.js';
import { testEngineEntry, until } from '../engines/support.js';

const picture = sharp({ create: { width: 16, height: 16, channels: 3, background: '#ff0000' } });

/** Says what it is told; its own tests are in test/enhancement. */
const enhancement: EnhancementService = {
  enhance: () =>
    Promise.resolve({
      success: true,
      enhancedPrompt: 'x',
      source: 'qwen_base',
      model: 'm',
      seconds: 1,
      promptTokens: 1,
      completionTokens: 1,
      template: 'base-image',
      attempts: 1,
      fallback: false,
    }),
  forgetSession: () => Promise.resolve(),
  templates: () => [{ name: 'base', strategy: 'base', target: 'image', version: '1' }],
  preload: () => {},
};

t.test('every operation gives its good answers in the shape the contract declares', async (t) => {
  const checker = createContractChecker();
  const dir = t.testdir({ sdxl: {} });
  const waiting = await build(t, {
    checker,
    env: { MODELS_DIR: dir },
    options: { engineEntry: testEngineEntry },
  });
  const { app, call, inject } = await build(t, {
    checker,
    env: { MODELS_DIR: dir },
    options: { engineEntry: testEngineEntry },
    services: { enhancement },
    start: true,
  });

  const id = randomUUID();
  await call('POST', '/jobs', { ...goodPayloads.sdxl, id });
  await call('GET', `/jobs/${id}/events`);
  await call('GET', '/jobs');
  const { assets } = (await call('GET', `/jobs/${id}`)).json<{ assets: string[] }>();
  const file = assets[0] ?? '/assets/none/x';
  const etag = String((await call('GET', file)).headers['etag']);
  for (const method of ['GET', 'HEAD'] as const) {
    await call(method, file, undefined, { 'if-none-match': etag });
    await call(method, file, undefined, { range: 'bytes=0-0' });
    await call(method, file);
  }
  await call('GET', `${file}?size=64`);
  const stream = await app.inject({
    url: '/events',
    headers: { authorization: `Bearer ${testApiKey}` },
    payloadAsStream: true,
  });
  stream.stream().destroy();
  t.same(checker.check('GET', '/events', { ...stream, payload: '' }), []);
  await call('DELETE', `/jobs/${id}/assets`);
  await call('DELETE', `/jobs/${id}`);
  const running = randomUUID();
  await call('POST', '/jobs', { ...goodPayloads.sdxl, id: running, prompt: 'is slow' });
  await until(
    'the job to run',
    async () => (await call('GET', `/jobs/${running}`)).json<{ status: string }>().status !== 'queued',
  );
  await call('DELETE', `/jobs/${running}`);
  await call('POST', '/jobs/cancel', { status: 'queued' });
  await call('GET', '/queues');
  for (const what of ['/queues/wan_queue/pause', '/instances/self/drain']) await call('POST', what, {});
  for (const what of ['/queues/wan_queue/resume', '/instances/self/resume']) await call('POST', what);
  await call('GET', '/dead-letters/reasons');
  for (const what of ['requeue', 'drop']) await call('POST', `/dead-letters/${what}`, { reason: 'none' });

  for (const url of [
    '/',
    '/health',
    '/ready',
    '/metrics',
    '/docs',
    '/capabilities',
    '/worker/status?scope=cluster',
    '/worker/resources',
    '/worker/history',
    '/worker/validate',
    '/worker/sdxl/logs',
    '/callbacks',
  ])
    await call('GET', url);
  const page = await call('GET', '/', undefined, { accept: 'text/html' });
  await call('GET', '/', undefined, { accept: 'text/html', 'if-none-match': String(page.headers['etag']) });
  const script = /src="([^"]+)"/.exec(page.payload)?.[1] ?? '/console/none';
  const { etag: scriptTag } = (await call('GET', script)).headers;
  await call('GET', script, undefined, { range: 'bytes=0-0' });
  await call('GET', script, undefined, { 'if-none-match': String(scriptTag) });
  for (const [method, url] of [
    ['POST', '/session'],
    ['GET', '/session'],
    ['DELETE', '/session'],
    ['POST', '/session/links'],
  ] as const)
    await call(method, url);
  await waiting.call('GET', '/ready');
  const form = new FormData();
  form.set('user_id', goodPayloads.wan.user_id);
  form.set('file', new Blob([new Uint8Array(await picture.png().toBuffer())]));
  const encoded = new Response(form);
  await inject({
    method: 'POST',
    url: '/references',
    headers: {
      authorization: `Bearer ${testApiKey}`,
      'content-type': encoded.headers.get('content-type') ?? '',
    },
    payload: Buffer.from(await encoded.arrayBuffer()),
  });
  await call('POST', '/tokens', { user_id: goodPayloads.wan.user_id, scopes: ['jobs'] });
  await call('POST', '/test-compel', { prompt: 'x' });
  await waiting.call('POST', '/test-compel', { prompt: 'x' });
  await call('POST', '/enhance', { prompt: 'x' });
  await waiting.call('POST', '/enhance', { prompt: 'x' });
  await call('DELETE', '/enhance/sessions/a');
  await waiting.call('POST', '/jobs', goodPayloads.wan);
  await call('POST', '/worker/restart/sdxl?force=true');
  await call('POST', '/worker/restart/wan');
  await call('POST', '/callbacks/retry', {});
  for (const action of ['requeue', 'drop']) {
    await waiting.services.store.push('sdxl_queue', action);
    const reservation = await waiting.services.store.reserve({
      queue: 'sdxl_queue',
      workerId: 'test',
      leaseMs: 10_000,
    });
    if (reservation !== null) await waiting.services.store.deadLetter(reservation.lease, 'no reason');
    const letters = (await waiting.call('GET', '/dead-letters')).json<{
      dead_letters: Array<{ id: string }>;
    }>().dead_letters;
    const letter = `/dead-letters/${encodeURIComponent(letters[0]?.id ?? 'none')}`;
    await (action === 'drop' ? waiting.call('DELETE', letter) : waiting.call('POST', `${letter}/requeue`));
  }

  const expected = checker.operations.flatMap(({ operationId, responses }) =>
    Object.keys(responses)
      .filter((status) => /^[23]\d\d$/.test(status))
      .map((status) => `${operationId} ${status}`),
  );
  t.same(
    expected.filter((answer) => !checker.seen.has(answer)),
    [],
    `${expected.length} kinds of good answers, all seen`,
  );
});
