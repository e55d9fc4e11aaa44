import { randomUUID } from 'node:crypto';
import t from 'tap';
import { goodPayloads, loadMalformedPayloads } from '../fixtures/malformed-payloads.js';
import { build } from '../helpers/build.js';
import { testEngineEntry } from '../engines/support.js';

const regularExpression = /[\^$\\]|\{\d|breaks the rule/;

t.test(
  'every malformed payload gets a 4xx with field and rule, and the next good job is accepted',
  async (t) => {
    const dir = t.testdir({ models: { sdxl: {}, wan: {} } });
    const { call } = await build(t, {
      env: { MODELS_DIR: `${dir}/models` },
      options: { engineEntry: testEngineEntry },
    });
    for (const { name, text, http } of loadMalformedPayloads()) {
      // Over HTTP an id may be left out.
      if (http.field === 'id' && http.rule === 'required') continue;
      const refused = await call('POST', '/jobs', text);
      t.equal(refused.statusCode, 400, `${name}: ${refused.statusCode}`);
      const { details = [] } = refused.json<{
        details?: Array<{ field: string; rule: string; message: string }>;
      }>();
      t.match(
        details.find(({ field }) => field === http.field),
        { rule: http.rule, message: /\S/ },
        `${name}: ${http.field} breaks ${http.rule}`,
      );
      for (const { message } of details) t.notMatch(message, regularExpression, name);
      const accepted = await call('POST', '/jobs', { ...goodPayloads.sdxl, id: randomUUID() });
      t.equal(accepted.statusCode, 202, `after ${name}`);
    }
  },
);

t.test('bodies that are refused before they are read', async (t) => {
  const { call, inject } = await build(t);
  const huge = await call('POST', '/jobs', { ...goodPayloads.sdxl, future: 'x'.repeat(1_100_000) });
  t.match(huge.json(), { statusCode: 413, code: 'BODY_TOO_LARGE' });
  const xml = await call('POST', '/jobs', '<job/>', { 'content-type': 'application/xml' });
  t.match(xml.json(), { statusCode: 415, code: 'UNSUPPORTED_MEDIA_TYPE' });
  const nothing = await call('POST', '/jobs');
  t.match(nothing.json(), { statusCode: 400, details: [{ field: 'body', rule: 'required' }] });
  const unasked = await inject({
    method: 'POST',
    url: '/jobs',
    headers: { 'content-type': 'application/json' },
    payload: '{not json',
  });
  t.match(unasked.json(), { statusCode: 401 }, 'without the key the body is not even looked at');
});

t.test('what must have a form is told which, in words', async (t) => {
  const { call } = await build(t);
  const told = async (
    method: 'GET' | 'POST',
    url: string,
    body?: object,
    headers?: Record<string, string>,
  ) => {
    const answer = await call(method, url, body, headers);
    t.equal(answer.statusCode, 400, url);
    return answer.json<{ message: string }>().message;
  };
  const job = { ...goodPayloads.wan, id: randomUUID(), config: { size: 'large' } };
  t.match(await told('POST', '/jobs', job), 'config.size must be two numbers of pixels as in 832*480');
  t.match(await told('POST', '/enhance', { prompt: ' ' }), 'prompt must not be blank');
  t.match(await told('GET', '/assets/No-Bucket/x'), 'bucket must be the name of a bucket');
  t.match(
    await told('GET', `/jobs/${randomUUID()}/events`, undefined, { 'last-event-id': 'x' }),
    'last-event-id must be the id of an event of this stream',
  );
});
