import t from 'tap';
import { readDocument, type Schema } from '../../src/contract/document.js';
import { loadCases } from '../contract-cases/cases.js';
import { goodPayloads, loadMalformedPayloads } from '../fixtures/malformed-payloads.js';
import type { QueueName } from '../../src/services/catalogue.js';
import { createPayloadValidator } from '../../src/services/jobs/payload.js';
import { readPayload } from '../../src/services/queue/read-payload.js';

const { validatePayload, validateRead } = createPayloadValidator();
const validateText = (text: string, queue: QueueName) => validateRead(readPayload(text, queue), queue);
const queueOf = (text: string) => (/"type": ?"(image|video)/.test(text) ? 'wan_queue' : 'sdxl_queue');
/** What only fetching a reference can find out. */
const foundOutLater = new Set([
  'sdxl, reference on a loopback address',
  'sdxl, reference from a metadata service',
  'sdxl, reference is a file url',
  'sdxl, reference is not a picture',
]);

t.test('contract cases', async (t) => {
  const cases = loadCases('http://assets.test:8080');
  for (const { name, queue, payload, expect } of cases) {
    const checked = validateText(payload, queue);
    if (expect.status === 'completed' || foundOutLater.has(name)) {
      t.ok(checked.ok, `${name}: accepted ${checked.ok ? '' : checked.summary}`);
      continue;
    }
    if (checked.ok) {
      t.fail(`${name}: accepted`);
      continue;
    }
    if (expect.status === 'failed') {
      t.match(
        checked.details.map(({ field }) => field),
        [expect.names],
        `${name}: names ${expect.names}`,
      );
      t.match(checked.summary, expect.names, `${name}: says so in words`);
      t.type(checked.id, 'string', `${name}: has an id for its callback`);
    } else {
      t.equal(
        checked.id !== null,
        expect.callback,
        `${name}: ${expect.callback ? 'an' : 'no'} id for a callback`,
      );
    }
  }
});

t.test('a first and a last frame need more than one frame between them', async (t) => {
  const ends = { first_frame: 'https://x.test/a.png', last_frame: 'https://x.test/b.png' };
  const check = (fields: Record<string, unknown>) => validatePayload({ ...goodPayloads.wan, ...fields });
  t.match(check({ type: 'image_fast', config: ends }), {
    ok: false,
    summary: /config\.last_frame needs a job of 5 frames/,
  });
  t.match(check({ type: 'video_fast', config: { ...ends, frame_num: 4 } }), {
    ok: false,
    details: [{ field: 'config.last_frame', rule: 'frames' }],
  });
  t.match(check({ type: 'video_fast', config: { ...ends, frame_num: 5 } }), { ok: true });
  t.match(check({ type: 'video_fast', config: ends }), { ok: true });
  t.match(check({ type: 'image_fast', config: { last_frame: ends.last_frame } }), { ok: true });
});

t.test('malformed payloads: field and rule', async (t) => {
  const list = loadMalformedPayloads();
  t.ok(list.length >= 60, `${list.length} payloads`);
  t.equal(new Set(list.map(({ name }) => name)).size, list.length, 'each has its own name');
  for (const { name, text, field, rule } of list) {
    const checked = validateText(text, queueOf(text));
    const details = checked.ok ? [] : checked.details;
    t.match(
      details.find((detail) => detail.field === field),
      { rule, message: /\S/ },
      `${name}: ${field} breaks ${rule}`,
    );
    if (!checked.ok)
      t.match(
        checked.summary,
        field === 'body' ? /payload|body/ : field,
        `${name}: the summary names the field`,
      );
  }
});

t.test('good payloads pass', async (t) => {
  for (const [name, payload] of Object.entries(goodPayloads)) t.ok(validatePayload(payload).ok, name);
  const { config: _config, metadata: _metadata, ...bare } = goodPayloads.sdxl;
  t.ok(validatePayload(bare).ok, 'without config and metadata');
  t.match(validatePayload({ ...goodPayloads.wan, config: { size: '00*00' } }), {
    ok: false,
    details: [{ field: 'config.size', rule: 'minimum' }],
  });
  t.ok(
    validatePayload({
      ...goodPayloads.wan,
      config: { seed: null, image: null, size: '832*480' },
      metadata: { reference_strength: null, session_id: null },
    }).ok,
    'null means not given',
  );
  t.ok(
    validatePayload({ ...goodPayloads.sdxl, prompt: 'ein roter Kreis — 红色圆形 🔴' }).ok,
    'any script, whole surrogate pairs',
  );
  t.ok(
    validatePayload({ ...goodPayloads.sdxl, prompt: 'a'.repeat(10_000) }).ok,
    'a prompt as long as it may be',
  );
  const future = { ...goodPayloads.sdxl, future: { a: '\0' }, config: { seed: 1, novel: [1] } };
  t.same(validatePayload(future), { ok: true, job: future }, 'unknown fields are kept');
});

t.test('missing, null and empty are the same for every optional field', async (t) => {
  const { schemas } = readDocument().components;
  const fieldsOf = (schema: Schema | undefined) =>
    Object.entries((schema?.['properties'] ?? {}) as Record<string, Schema>);
  const required = new Set(['id', 'type', 'prompt', 'user_id']);
  const identity = (payload: object, queue: QueueName) =>
    readPayload(JSON.stringify(payload), queue).identity;
  for (const [base, name, queue] of [
    [goodPayloads.sdxl, 'SdxlJob', 'sdxl_queue'],
    [goodPayloads.wan, 'WanJob', 'wan_queue'],
  ] as const) {
    const { config: _config, metadata: _metadata, ...bare } = base;
    const paths = fieldsOf(schemas[name]).flatMap(([field, schema]) => [
      ...(required.has(field) ? [] : [[field]]),
      ...fieldsOf(schema).map(([inner]) => [field, inner]),
    ]);
    t.ok(paths.length > 10, `${paths.length} fields of ${name}`);
    for (const [field = '', inner] of paths) {
      const without = inner === undefined ? bare : { ...bare, [field]: {} };
      for (const empty of ['', null]) {
        // "the job's own guidance", in words of its own
        if (inner === 'reference_strength' && empty === null) continue;
        const payload = { ...bare, [field]: inner === undefined ? empty : { [inner]: empty } };
        const what = `${name} ${field}${inner === undefined ? '' : `.${inner}`}: ${JSON.stringify(empty)}`;
        t.same(validatePayload(payload, queue), validatePayload(without, queue), what);
        t.equal(identity(payload, queue), identity(without, queue), `${what} is the same job`);
      }
    }
  }
});

t.test('a type belongs on its own queue', async (t) => {
  t.match(validatePayload(goodPayloads.wan, 'sdxl_queue'), {
    ok: false,
    details: [{ field: 'type', rule: 'queue' }],
    known: { type: 'video_fast' },
  });
  t.ok(validatePayload(goodPayloads.wan, 'wan_queue').ok);
  t.ok(validatePayload(goodPayloads.wan).ok, 'over HTTP the type chooses the queue');
});

t.test('a type that is none is told the ones there are, with their queues, and the nearest', async (t) => {
  for (const [type, near] of [
    ['sdxl_video', /nearest to sdxl_video are video_fast, .*on wan_queue$/],
    ['image7b_fast', /nearest to image7b_fast are image7b_fast_enhanced on wan_queue$/],
    ['SDXL_IMAGE_FAST', /nearest to SDXL_IMAGE_FAST are sdxl_image_fast on sdxl_queue$/],
    ['video-high', /nearest to video-high are video_high on wan_queue$/],
    ['wan_video_fast', /are video_fast on wan_queue$/],
    ['song', /video7b_high_enhanced on wan_queue$/],
    ['\u001b[31mred', /video7b_high_enhanced on wan_queue$/],
    [7, /video7b_high_enhanced on wan_queue$/],
  ] as const)
    for (const queue of [undefined, 'sdxl_queue', 'wan_queue'] as const) {
      const { details = [] } = validatePayload({ ...goodPayloads.sdxl, type }, queue) as {
        details?: Array<{ field: string; message: string }>;
      };
      const message = details.find(({ field }) => field === 'type')?.message ?? '';
      t.match(message, /^type must be one of sdxl_image_fast, sdxl_image_high on sdxl_queue; image_fast, /);
      t.match(message, near, String(type));
    }
});

t.test('what can be read of a refused payload', async (t) => {
  const { id, user_id: userId } = goodPayloads.sdxl;
  t.match(validatePayload({ ...goodPayloads.sdxl, prompt: '' }), {
    ok: false,
    id,
    known: { type: 'sdxl_image_fast', userId },
  });
  t.match(validatePayload({ ...goodPayloads.sdxl, id: 'job-1', user_id: 'x' }), {
    ok: false,
    id: 'job-1',
    known: { type: 'sdxl_image_fast' },
  });
  t.match(
    validatePayload({ ...goodPayloads.sdxl, id: 'x'.repeat(201) }),
    { ok: false, id: null },
    'an id nobody could have made is not echoed',
  );
  t.match(validateText('{"id": 5}', 'sdxl_queue'), { ok: false, id: null });
});

t.test('every problem is reported, but not endlessly many', async (t) => {
  const checked = validatePayload({
    ...goodPayloads.sdxl,
    prompt: '',
    config: { num_images: 2, seed: -1, width: 7 },
    metadata: { reference_strength: 9 },
  });
  t.same(checked.ok ? [] : checked.details.map(({ field }) => field).sort(), [
    'config.num_images',
    'config.seed',
    'config.width',
    'metadata.reference_strength',
    'prompt',
  ]);
});
