/** The operator's deny list against a real service: jobs and enhancement, in every writing of a word. */
import path from 'node:path';
import t from 'tap';
import { startService } from '../helpers/service-process.js';

t.setTimeout(120_000);

t.test('a word is refused in every writing that the model reads as that word', async (t) => {
  const folder = t.testdir({ 'deny.txt': 'word: forbidden thing\n' });
  const service = await startService({
    until: 'health',
    env: { DENY_LIST_FILE: path.join(folder, 'deny.txt') },
  });
  t.teardown(() => service.cleanUp());
  const payload = {
    user_id: '00000000-0000-4000-8000-000000000001',
    type: 'sdxl_image_fast',
    prompt: 'a tree',
  };
  const rejected = { details: [{ field: 'prompt', rule: 'denyList' }] };
  for (const prompt of [
    'a forbidden thing',
    'a (forbidden:1.2) thing',
    'a for(bidden) thing',
    'a for\u200Bbidden thing',
    'a forbid\u00ADden thing',
  ]) {
    const job = await service.send('POST', '/jobs', { ...payload, prompt });
    t.equal(job.status, 422, JSON.stringify(prompt));
    t.match(await job.json(), rejected);
    const enhanced = await service.send('POST', '/enhance', { prompt });
    t.equal(enhanced.status, 422, JSON.stringify(prompt));
    t.match(await enhanced.json(), { code: 'PROMPT_REJECTED' });
    const context = await service.send('POST', '/enhance', {
      prompt: 'a tree',
      conversation_context: prompt,
    });
    t.equal(context.status, 422, 'as context, too');
  }
  for (const weights of ['(for\\bidden thing:1.2)', '(forbid\u200Bden thing)1.1']) {
    const job = await service.send('POST', '/jobs', {
      ...payload,
      compel_enabled: true,
      compel_weights: weights,
    });
    t.equal(job.status, 422, JSON.stringify(weights));
    t.match(await job.json(), rejected);
  }
  const allowed = await service.send('POST', '/jobs', { ...payload, prompt: 'a (for:1.2) bidden thing' });
  t.equal(allowed.status, 202, 'other words are not');
});
