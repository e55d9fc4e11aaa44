import { once } from 'node:events';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import type { AddressInfo } from 'node:net';
import t from 'tap';
import { readDocument } from '../../src/contract/document.js';
import { errors } from '../../src/lib/errors.js';
import type {
  EnhancePromptRequest,
  EnhancementService,
} from '../../src/services/enhancement/enhancement-types.js';
import { build, testApiKey } from '../helpers/build.js';
import { until } from '../engines/support.js';

/**
 * What the route does with an enhancement service, shown by one that answers as it is told; the real one has
 * tests of its own.
 */
function tellable() {
  const requests: EnhancePromptRequest[] = [];
  const forgotten: string[] = [];
  let aborted = 0;
  const next: { answer: EnhancementService['enhance'] } = {
    answer: () => Promise.reject(new Error('nothing told')),
  };
  const service: EnhancementService = {
    enhance(request, signal) {
      requests.push(request);
      signal.addEventListener('abort', () => {
        aborted += 1;
      });
      return next.answer(request, signal);
    },
    forgetSession: (_owner, id) => {
      forgotten.push(id);
      return Promise.resolve();
    },
    templates: () => [{ name: 'base', strategy: 'base', target: 'image', version: '1' }],
    preload: () => {},
  };
  return { service, requests, forgotten, next, aborted: () => aborted };
}
const success = {
  success: true as const,
  enhancedPrompt: 'a bright red circle',
  source: 'qwen_base' as const,
  model: 'pocket',
  seconds: 0.07,
  promptTokens: 12,
  completionTokens: 9,
  template: 'base-image',
  attempts: 1,
  fallback: false,
};

t.test("without a model: 503 in the contract's own shape, the prompt handed back", async (t) => {
  const { call } = await build(t);
  const answer = await call('POST', '/enhance', { prompt: 'a red circle' });
  t.equal(answer.statusCode, 503);
  t.match(answer.json(), {
    success: false,
    error: 'Enhancement failed: Model not available',
    enhanced_prompt: 'a red circle',
    statusCode: 503,
    code: 'ENHANCEMENT_FAILED',
    request_id: String,
  });
  t.equal((await call('DELETE', '/enhance/sessions/user_1')).statusCode, 204);
});

t.test('an answer, a failure, a refusal', async (t) => {
  const told = tellable();
  const { call } = await build(t, { services: { enhancement: told.service } });
  told.next.answer = () => Promise.resolve(success);
  t.same(
    (
      await call('POST', '/enhance', {
        prompt: 'a red circle',
        model: 'qwen_instruct',
        session_id: 's',
        conversation_context: 'c',
        max_tokens: 50,
        temperature: 0,
        seed: 1,
        target: 'video',
        enhance_type: 'natural_language',
      })
    ).json(),
    {
      success: true,
      enhanced_prompt: 'a bright red circle',
      original_prompt: 'a red circle',
      enhancement_source: 'qwen_base',
      processing_time: 0.07,
      model: 'qwen_instruct',
      model_name: 'pocket',
      prompt_tokens: 12,
      completion_tokens: 9,
      template: 'base-image',
      attempts: 1,
      fallback: false,
    },
  );
  t.match(told.requests.at(-1), {
    prompt: 'a red circle',
    model: 'qwen_instruct',
    sessionId: 's',
    conversationContext: 'c',
    maxTokens: 50,
    temperature: 0,
    seed: 1,
    target: 'video',
  });
  told.next.answer = () => Promise.resolve({ success: false, reason: 'Timed out after 120 s' });
  t.match((await call('POST', '/enhance', { prompt: 'x' })).json(), {
    success: false,
    error: 'Enhancement failed: Timed out after 120 s',
    enhanced_prompt: 'x',
  });
  told.next.answer = () =>
    Promise.reject(errors.tooManyRequests.with({ retryAfterSeconds: 2.2 }, 'Too many prompts wait'));
  const full = await call('POST', '/enhance', { prompt: 'x' });
  t.match([full.statusCode, full.headers['retry-after']], [429, '3']);
  told.next.answer = () => Promise.reject(errors.promptRejected());
  t.match((await call('POST', '/enhance', { prompt: 'x' })).json(), {
    statusCode: 422,
    code: 'PROMPT_REJECTED',
  });
  t.equal((await call('DELETE', '/enhance/sessions/user_1')).statusCode, 204);
  t.same(told.forgotten, ['user_1']);
  t.match(told.requests[0]?.owner, /^[\w-]{43}$/, 'the digest of the key, not the key');
});

t.test('requests that break a rule', async (t) => {
  const told = tellable();
  const { call } = await build(t, { services: { enhancement: told.service } });
  for (const [body, field, rule] of [
    [{}, 'prompt', 'required'],
    [{ prompt: ' ' }, 'prompt', 'pattern'],
    [{ prompt: 'x'.repeat(100_000) }, 'prompt', 'maxLength'],
    [{ prompt: '\0' }, 'prompt', 'format'],
    [{ prompt: 'x', model: 'gpt' }, 'model', 'enum'],
    [{ prompt: 'x', stream: 'yes' }, 'stream', 'type'],
    [{ prompt: 'x', max_tokens: 0 }, 'max_tokens', 'minimum'],
    [{ prompt: 'x', temperature: 3 }, 'temperature', 'maximum'],
    [{ prompt: 'x', seed: -1 }, 'seed', 'minimum'],
    [{ prompt: 'x', target: 'song' }, 'target', 'enum'],
    [[], 'body', 'type'],
  ] as const)
    t.match(
      (await call('POST', '/enhance', body)).json(),
      { statusCode: 400, details: [{ field, rule }] },
      JSON.stringify(body).slice(0, 60),
    );
  t.same(told.requests, [], 'none of them reached the model');
});

t.test('null and "" are as good as nothing, in every optional field', async (t) => {
  const told = tellable();
  const { call } = await build(t, { services: { enhancement: told.service } });
  told.next.answer = () => Promise.resolve(success);
  const fields = Object.keys(readDocument().components.schemas['EnhanceRequest']?.['properties'] as object);
  for (const field of fields.filter((name) => name !== 'prompt'))
    for (const empty of [null, '']) {
      const answer = await call('POST', '/enhance', { prompt: 'a red circle', [field]: empty });
      t.equal(answer.statusCode, 200, `${field}: ${JSON.stringify(empty)}`);
      const { owner: _owner, ...asked } = told.requests.at(-1) ?? {};
      t.same(asked, { prompt: 'a red circle' });
    }
  t.ok(fields.length > 8);
  t.match((await call('POST', '/enhance', { prompt: '' })).json(), {
    details: [{ field: 'prompt', rule: 'required' }],
  });
});

t.test(
  'every refusal has the shape of a failed enhancement, with the prompt where it could be read',
  async (t) => {
    const told = tellable();
    const { app, call, inject } = await build(t, { services: { enhancement: told.service } });
    const headers = { authorization: `Bearer ${testApiKey}`, 'content-type': 'application/json' };
    const post = { method: 'POST' as const, url: '/enhance' };
    const refusing = (error: Error) => {
      told.next.answer = () => Promise.reject(error);
      return call('POST', '/enhance', { prompt: 'a cat' });
    };
    const rule = { prompt: 'a cat', model: 'gpt' };
    for (const [status, prompt, ask] of [
      [400, 'a cat', () => call('POST', '/enhance', rule)],
      [400, 'a cat', () => call('POST', '//enhance/', rule)],
      [400, null, () => inject({ ...post, headers, payload: '{"prompt": "a cat"' })],
      [400, null, () => inject({ ...post, headers, payload: '[]' })],
      [401, null, () => inject({ ...post, payload: { prompt: 'a cat' } })],
      [405, null, () => call('GET', '/enhance')],
      [405, null, () => inject({ method: 'PUT', url: '/enhance/', headers, payload: '{}' })],
      [413, null, () => call('POST', '/enhance', { prompt: 'x'.repeat(2 ** 20) })],
      [
        415,
        null,
        () => inject({ ...post, headers: { ...headers, 'content-type': 'text/plain' }, payload: 'x' }),
      ],
      [422, 'a cat', () => refusing(errors.promptRejected())],
      [429, 'a cat', () => refusing(errors.tooManyRequests.with({ retryAfterSeconds: 1 }, 'Too many'))],
      [500, 'a cat', () => app.inject({ ...post, headers, payload: { prompt: 'a cat' } })],
    ] as const) {
      if (status === 500) told.next.answer = () => Promise.reject(new Error('password=hunter2'));
      const answer = await ask();
      const { error, message, ...rest } = answer.json<Record<string, unknown>>();
      t.match(
        rest,
        { statusCode: status, success: false, enhanced_prompt: prompt, code: String },
        String(status),
      );
      t.equal(error, message, 'the reason in words');
      t.notMatch(answer.payload, /hunter2/);
    }
    const other = await call('GET', '/enhance/nothing');
    t.notOk('success' in other.json<object>(), 'other addresses have their own');
  },
);

t.test('stream: tokens, then the whole answer; failures too', async (t) => {
  const told = tellable();
  const { call } = await build(t, { services: { enhancement: told.service } });
  told.next.answer = async ({ onToken, onDiscard }) => {
    onToken?.('a');
    onDiscard?.('unchanged');
    for (const text of ['a bright', ' red', ' circle']) {
      onToken?.(text);
      await new Promise((resolve) => setImmediate(resolve));
    }
    return success;
  };
  const { payload } = await call('POST', '/enhance', { prompt: 'a red circle', stream: true });
  t.same(
    [...payload.matchAll(/event: token\ndata: (.*)\n/g)].map(
      ([, data]) => (JSON.parse(data ?? '') as { text: string }).text,
    ),
    ['a', 'a bright', ' red', ' circle'],
  );
  t.match(
    payload,
    /event: token\ndata: \{"text":"a"\}\n\nevent: discard\ndata: \{"reason":"unchanged"\}\n\nevent: token/,
  );
  t.match(payload, /event: done\ndata: \{"success":true,"enhanced_prompt":"a bright red circle"/);
  told.next.answer = () => Promise.resolve({ success: false, reason: 'Model not available' });
  t.match(
    (await call('POST', '/enhance', { prompt: 'x', stream: true })).payload,
    /event: done\ndata: \{.*"error":"Enhancement failed: Model not available".*"success":false,"enhanced_prompt":"x"\}/,
  );
  told.next.answer = () => Promise.reject(new Error('password=hunter2'));
  const broken = (await call('POST', '/enhance', { prompt: 'x', stream: true })).payload;
  t.match(broken, /event: error\ndata: \{.*"code":"INTERNAL".*"enhanced_prompt":"x"/);
  t.notMatch(broken, /hunter2/);
});

t.test('a client that goes away stops the work', async (t) => {
  const told = tellable();
  const { app } = await build(t, { services: { enhancement: told.service } });
  told.next.answer = (_request, signal) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new Error('aborted')));
    });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  for (const stream of [false, true]) {
    const before = told.aborted();
    const body = JSON.stringify({ prompt: 'x', stream });
    const sent = httpRequest({
      port,
      host: '127.0.0.1',
      method: 'POST',
      path: '/enhance',
      headers: {
        authorization: `Bearer ${testApiKey}`,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
      },
    });
    sent.on('error', () => {});
    sent.end(body);
    await until('the request at the model', () => told.requests.length > (stream ? 1 : 0));
    sent.destroy();
    await until(`the end of the work, stream: ${stream}`, () => told.aborted() > before);
    t.pass(`stream: ${stream}`);
  }
});

t.test('a stopping service gives the prompt back', async (t) => {
  const told = tellable();
  const { app, call } = await build(t, { services: { enhancement: told.service } });
  told.next.answer = (_request, signal) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new Error('aborted')));
    });
  const asking = call('POST', '/enhance', { prompt: 'a red circle' });
  await until('the request at the model', () => told.requests.length > 0);
  await app.close();
  const answer = await asking;
  t.equal(answer.statusCode, 503);
  t.match(answer.json(), {
    success: false,
    error: 'Enhancement failed: the service is stopping',
    enhanced_prompt: 'a red circle',
  });
});

t.test('a stopping service ends open streams', async (t) => {
  const told = tellable();
  const { app } = await build(t, { services: { enhancement: told.service } });
  told.next.answer = (_request, signal) =>
    new Promise((_resolve, reject) => {
      signal.addEventListener('abort', () => reject(new Error('aborted')));
    });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const { port } = app.server.address() as AddressInfo;
  const body = JSON.stringify({ prompt: 'x', stream: true });
  const sent = httpRequest({
    port,
    host: '127.0.0.1',
    method: 'POST',
    path: '/enhance',
    headers: {
      authorization: `Bearer ${testApiKey}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    },
  });
  sent.end(body);
  const [response] = (await once(sent, 'response')) as [IncomingMessage];
  response.resume();
  const startedAtMs = Date.now();
  await app.close();
  t.ok(Date.now() - startedAtMs < 5000, 'the shutdown does not wait for the model');
});
