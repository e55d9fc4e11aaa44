import type { AddressInfo } from 'node:net';
import createClient from 'openapi-fetch';
import t from 'tap';
import type { paths } from '../../src/contract/generated.js';
import { parseDenyList } from '../../src/services/enhancement/deny-list.js';
import { build, testApiKey } from '../helpers/build.js';
import { createTestEnhancement } from './support.js';

t.test('a client made from openapi.yaml alone: answers, failures, refusals, sessions', async (t) => {
  const { enhancement } = await createTestEnhancement(t, { denyList: parseDenyList('word: gold') });
  const { app } = await build(t, { services: { enhancement } });
  await app.listen({ host: '127.0.0.1', port: 0 });
  const client = createClient<paths>({
    baseUrl: `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`,
    headers: { authorization: `Bearer ${testApiKey}` },
  });

  const answered = await client.POST('/enhance', {
    body: { prompt: 'a cat', model: 'qwen_instruct', session_id: 's', target: 'image' },
  });
  t.match(answered.data, {
    success: true,
    enhanced_prompt: 'a cat, soft light by chat',
    original_prompt: 'a cat',
    enhancement_source: 'qwen_instruct',
    template: 'chat-image',
    fallback: false,
  });
  const goesOn = await client.POST('/enhance', {
    body: { prompt: 'more [chat: history]', model: 'qwen_instruct', session_id: 's' },
  });
  t.match(goesOn.data, { enhanced_prompt: /user a cat/ });
  t.equal(
    (await client.DELETE('/enhance/sessions/{session_id}', { params: { path: { session_id: 's' } } }))
      .response.status,
    204,
  );
  const anew = await client.POST('/enhance', {
    body: { prompt: 'anew [chat: history]', model: 'qwen_instruct', session_id: 's' },
  });
  t.match(anew.data, { enhanced_prompt: 'anew [chat: history]: user anew [chat: history]' });

  const failed = await client.POST('/enhance', { body: { prompt: 'a cat [base: lost]' } });
  t.equal(failed.response.status, 503);
  t.match(failed.error, {
    success: false,
    error: 'Enhancement failed: The answer lost words of the prompt',
    enhanced_prompt: 'a cat [base: lost]',
  });
  const denied = await client.POST('/enhance', { body: { prompt: 'a gold cat' } });
  t.match([denied.response.status, denied.error], [422, { code: 'PROMPT_REJECTED' }]);
  const { data } = await client.GET('/capabilities');
  t.same(
    data?.templates?.map(({ name }) => name),
    ['base-image', 'base-video', 'chat-image', 'chat-video'],
  );
});

t.test('jobs: a prompt on the deny list has the same code', async (t) => {
  const list = t.testdir({ 'deny.txt': 'word: gold\n', models: { sdxl: {} } });
  const { call } = await build(t, { env: { DENY_LIST_FILE: `${list}/deny.txt` } });
  const job = { type: 'sdxl_image_fast', user_id: 'a0f4bd0a-1b9c-4a3e-9f43-8d6f2a7d3c11' };
  const answer = await call('POST', '/jobs', { ...job, prompt: 'a gold cat' });
  t.match(
    [answer.statusCode, answer.json()],
    [422, { code: 'PROMPT_REJECTED', details: [{ field: 'prompt', rule: 'denyList' }] }],
  );
  t.not((await call('POST', '/jobs', { ...job, prompt: 'a cat' })).statusCode, 422);
});
