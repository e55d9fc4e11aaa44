/**
 * The payloads and answers that producers, orchestrators and receivers know, each with all of its fields at once:
 * what is sent is taken as it stands, what comes back has the stated types and forms. Single fields and their limits
 * are in cases.json, the values of a card in reference-values.test.ts.
 */
import { randomUUID } from 'node:crypto';
import path from 'node:path';
import sharp from 'sharp';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { testEngineEntry } from '../engines/support.js';
import { build } from '../helpers/build.js';
import { startCallbackReceiver } from '../helpers/callback-receiver.js';
import * as forms from './reference-forms.js';
import { type Forms, misfits, moment, oneOf, orNull, text, texts } from './reference-forms.js';

t.setTimeout(240_000);

const userId = 'a11d459a-2f97-4d87-9999-9e3fa46d6753';
const list = (each: Forms) => (value: unknown) =>
  Array.isArray(value) && value.every((one) => misfits(one, each).length === 0);
const object = (value: unknown) => typeof value === 'object' && value !== null && !Array.isArray(value);

const progress: Forms = {
  stage: text,
  step: forms.integer,
  steps: forms.integer,
  fraction: forms.number,
  eta_seconds: orNull(forms.number),
};
const job: Forms = {
  id: text,
  type: text,
  status: oneOf('queued', 'processing', 'completed', 'failed', 'cancelled'),
  progress,
  attempts: forms.integer,
  assets: texts,
  metadata: object,
  created_at: moment,
};
const refusal: Forms = {
  statusCode: forms.integer,
  code: text,
  error: text,
  message: text,
  request_id: text,
  details: list({ field: text, rule: text, message: text }),
};

async function open(t: Parameters<typeof build>[0]) {
  const receiver = await startCallbackReceiver();
  t.teardown(() => receiver.close());
  const service = await build(t, {
    env: { MODELS_DIR: t.testdir({ sdxl: {}, wan: {} }), CALLBACK_URL: receiver.url, MAX_ATTEMPTS: '1' },
    options: { engineEntry: testEngineEntry },
    start: true,
  });
  return { receiver, ...service };
}

const picture = async (background: string) => {
  const bytes = await sharp({ create: { width: 64, height: 64, channels: 3, background } })
    .png()
    .toBuffer();
  return `data:image/png;base64,${bytes.toString('base64')}`;
};

t.test('payloads with every field of both kinds, over HTTP and from the queue', async (t) => {
  const { call, receiver, services } = await open(t);
  const [red, blue] = [await picture('red'), await picture('blue')];
  const sdxl = {
    type: 'sdxl_image_high',
    prompt: 'a garden at noon',
    user_id: userId,
    compel_enabled: true,
    compel_weights: '(beautiful:1.3), (garden:1.1)',
    config: { num_images: 3, seed: 123456789, width: 512, height: 512, negative_prompt: 'blurred' },
    metadata: { reference_image_url: red, reference_type: 'composition', reference_strength: 0.7 },
  };
  const wan = {
    type: 'video7b_high_enhanced',
    prompt: 'a red circle moves right',
    user_id: userId,
    config: {
      image: red,
      first_frame: red,
      last_frame: blue,
      frame_num: 83,
      sample_guide_scale: 6.5,
      sample_shift: 5.0,
      sample_solver: 'unipc',
      sample_steps: 4,
      seed: 42,
      size: '480*832',
      content_type: 'video',
      expected_time: 135,
    },
    metadata: {
      reference_image_url: red,
      start_reference_url: blue,
      end_reference_url: red,
      reference_strength: 0.85,
      enhancement_type: 'instruct_chat',
      session_id: 'session-1',
      conversation_context: "Previous prompt: 'a cat' → Enhanced: 'a cat in soft light'",
    },
  };
  for (const payload of [sdxl, wan])
    for (const way of ['http', 'queue']) {
      const id = randomUUID();
      if (way === 'http') {
        const accepted = await call('POST', '/jobs', { id, ...payload });
        t.equal(accepted.statusCode, 202, accepted.body);
        t.equal(accepted.headers.location, `/jobs/${id}`);
        const answer: Forms = { id: oneOf(id), status: oneOf('queued'), queue_position: forms.integer };
        t.same(misfits(accepted.json(), answer), []);
      } else {
        const queue = payload === sdxl ? 'sdxl_queue' : 'wan_queue';
        await services.store.push(queue, JSON.stringify({ id, ...payload }));
      }
      const { body } = await receiver.waitForTerminal(id, 90_000);
      t.match(body, { job_id: id, status: 'completed' }, `${payload.type} ${way}: ${body.error_message}`);
      t.same(misfits(body, { assets: texts, metadata: forms.completed }), []);
      t.same(
        body.metadata['asset_paths'],
        body.assets.map((one) => one.replace('/assets/', '')),
      );
      // One that was still on its way when the job ended is dropped (docs/callbacks.md).
      for (const { body: earlier } of receiver.accepted(id).slice(0, -1))
        t.match(earlier, { job_id: id, status: 'processing', assets: [] }, 'before the end it was processed');
      const shown = (await call('GET', `/jobs/${id}`)).json<Record<string, unknown>>();
      t.same(misfits(shown, { ...job, started_at: moment, finished_at: moment }), []);
      const request = body.metadata['request'] as Record<string, unknown>;
      t.same(Object.keys(request), Object.keys(payload.metadata), 'its own metadata comes back');
      if (payload === sdxl)
        t.match(body.metadata, {
          seeds: [123456789, 123456790, 123456791],
          num_images: 3,
          reference_mode: 'composition',
        });
      else
        t.match(body.metadata, {
          guidance_scale: 8.4,
          frames: 81,
          frames_requested: 83,
          reference_strength: 0.85,
        });
    }
});

t.test('failures have one of three sentences, and the fields of a failed callback', async (t) => {
  const { call, receiver, services } = await open(t);
  const base = { type: 'sdxl_image_fast', user_id: userId, config: { width: 64, height: 64 } };
  const cases: Array<[fields: object, message: RegExp]> = [
    [{ prompt: 'it runs out of memory' }, /^Insufficient VRAM for generation$/],
    [{ prompt: '' }, /^Invalid parameters: prompt must have at least 1 characters/],
    [{ prompt: 'a cat', type: 'sdxl_video' }, /^Invalid parameters: type .*sdxl_image_fast/],
    [{ prompt: 'a cat', type: `a${'\u0007'.repeat(5000)}` }, /^Invalid parameters: type /],
    [{ prompt: 'it is invalid' }, /^Invalid parameters: config\.width must be a multiple of 8/],
    [{ prompt: 'it breaks for good' }, /^Generation failed: \S/],
  ];
  for (const [fields, message] of cases) {
    const id = randomUUID();
    await services.store.push('sdxl_queue', JSON.stringify({ id, ...base, ...fields }));
    const { body } = await receiver.waitForTerminal(id, 90_000);
    t.match(body, { job_id: id, status: 'failed', assets: [], error_message: message });
    t.same(misfits(body.metadata, forms.failed), []);
    const shown = (await call('GET', `/jobs/${id}`)).json<Record<string, unknown>>();
    t.same(misfits(shown, { ...job, error_message: text, type: () => true }), []);
  }
});

t.test('answers to what is wrong have their shape, on every route that takes something', async (t) => {
  const { call, inject } = await open(t);
  for (const [method, url, body] of [
    ['POST', '/jobs', { type: 'sdxl_image_fast' }],
    ['POST', '/test-compel', {}],
    ['POST', '/tokens', { user_id: 'x' }],
    ['GET', '/jobs?limit=x', undefined],
    ['DELETE', '/jobs/x', undefined],
  ] as const)
    t.same(misfits((await call(method, url, body)).json(), refusal), [], `${method} ${url}`);
  const { details: _, ...bare } = refusal;
  t.same(misfits((await call('POST', '/worker/restart/qwen9')).json(), bare), []);
  t.equal((await call('POST', '/worker/restart/qwen9')).statusCode, 404);
  t.same(misfits((await call('GET', `/jobs/${randomUUID()}`)).json(), bare), []);
  t.same(misfits((await inject({ url: '/worker/status' })).json(), bare), [], 'without a key');
  const failed = await call('POST', '/enhance', { prompt: 7 });
  t.same(
    misfits(failed.json(), { ...bare, success: oneOf(false), error: text, enhanced_prompt: oneOf(null) }),
    [],
  );
});

t.test('a job that waits, and one that is cancelled', async (t) => {
  const { call } = await build(t, {
    env: { MODELS_DIR: t.testdir({ sdxl: {} }) },
    options: { engineEntry: testEngineEntry },
  });
  const payload = { type: 'sdxl_image_fast', prompt: 'a red circle', user_id: userId };
  const { id } = (await call('POST', '/jobs', payload)).json<{ id: string }>();
  t.same(misfits((await call('GET', `/jobs/${id}`)).json(), { ...job, status: oneOf('queued') }), []);
  for (let times = 0; times < 2; times += 1) {
    const cancelled = await call('DELETE', `/jobs/${id}`);
    t.equal(cancelled.statusCode, 200);
    t.same(misfits(cancelled.json(), { ...job, status: oneOf('cancelled'), finished_at: moment }), []);
  }
});

t.test('what weights would do: parsed, combined, counted, with shapes and without values', async (t) => {
  const root = path.join(projectRoot(), 'test/parity/models');
  const { call, engines } = await build(t, { env: { MODELS_DIR: root, ORT_DEVICE: 'cpu' }, start: true });
  await engines.whenServing('sdxl', AbortSignal.timeout(120_000));
  const report: Forms = {
    prompt: text,
    parsed_weights: list({ text, weight: forms.number }),
    combined_prompt: text,
    token_count: forms.integer,
    token_limit: forms.integer,
    tensor_shapes: (value) => object(value) && !/\d\.\d/.test(JSON.stringify(value)),
    compel_success: forms.boolean,
  };
  const asked = { prompt: 'a garden at noon', compel_weights: '(beautiful:1.3), (garden:1.1)' };
  const answer = await call('POST', '/test-compel', asked);
  t.same(misfits(answer.json(), report), []);
  t.match(answer.json(), {
    parsed_weights: [
      { text: 'beautiful', weight: 1.3 },
      { text: 'garden', weight: 1.1 },
    ],
    compel_success: true,
    enhancement_strategy: 'compel',
    final_prompt_type: 'conditioning_tensor',
  });
  const wrong = await call('POST', '/test-compel', { ...asked, compel_weights: '(invalid:weights)' });
  t.match(wrong.json(), {
    compel_success: false,
    enhancement_strategy: 'fallback',
    final_prompt_type: 'string',
  });
});
