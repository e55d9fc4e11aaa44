import t from 'tap';
import { createJobEnhancer } from '../../src/services/jobs/enhance-job.js';
import type {
  EnhancePromptAnswer,
  EnhancePromptRequest,
  EnhancementService,
} from '../../src/services/enhancement/enhancement-types.js';
import { silentLog } from '../engines/support.js';

const { signal } = new AbortController();
const answered = (source: 'qwen_base' | 'qwen_instruct'): EnhancePromptAnswer => ({
  success: true,
  enhancedPrompt: 'a better prompt',
  source,
  model: 'm',
  seconds: 1,
  promptTokens: 1,
  completionTokens: 1,
  template: 'base-image',
  attempts: 1,
  fallback: false,
});

function enhancer(answer: (request: EnhancePromptRequest) => EnhancePromptAnswer) {
  const asked: EnhancePromptRequest[] = [];
  const enhancement: EnhancementService = {
    enhance: async (request) => {
      asked.push(request);
      return answer(request);
    },
    forgetSession: () => Promise.resolve(),
    templates: () => [],
    preload: () => {},
  };
  return { asked, enhance: createJobEnhancer({ enhancement, log: silentLog }) };
}
const request = { jobId: 'j', userId: 'u', prompt: 'a prompt', target: 'video' } as const;

t.test('types, sessions and what answered', async (t) => {
  const { asked, enhance } = enhancer(({ model }) => answered(model ?? 'qwen_base'));
  t.match(await enhance({ ...request, type: 'base' }, signal), {
    type: 'base',
    success: true,
    prompt: 'a better prompt',
    source: 'qwen_base',
  });
  t.match(await enhance({ ...request, type: 'chat', sessionId: 's', context: 'earlier' }, signal), {
    type: 'chat',
    success: true,
  });
  t.match(await enhance({ ...request, type: 'instruct_chat', sessionId: 's' }, signal), {
    type: 'instruct_chat',
    success: true,
  });
  t.match(
    await enhance({ ...request, type: 'chat' }, signal),
    { type: 'base', success: true, reason: 'A conversation needs a session_id' },
    'no session to chat in',
  );
  t.match(asked, [
    { model: 'qwen_base', target: 'video' },
    { model: 'qwen_instruct', sessionId: 's', conversationContext: 'earlier' },
    { model: 'qwen_instruct' },
    { model: 'qwen_base' },
  ]);
  const falling = enhancer(() => ({ ...answered('qwen_base'), fallbackReason: 'The model failed' }));
  t.match(
    await falling.enhance({ ...request, type: 'chat', sessionId: 's' }, signal),
    { type: 'base', success: true, reason: 'The model failed' },
    'the base model stood in',
  );
});

t.test('without an answer the prompt stays', async (t) => {
  const original = {
    success: false,
    prompt: 'a prompt',
    source: 'original',
    reason: /^(Model not|The model)/,
  };
  t.match(
    await enhancer(() => ({ success: false, reason: 'Model not available' })).enhance(
      { ...request, type: 'base' },
      signal,
    ),
    original,
  );
  t.match(
    await enhancer(() => {
      throw new Error('line is full');
    }).enhance({ ...request, type: 'chat', sessionId: 's' }, signal),
    { ...original, type: 'chat' },
  );
  const aborted = new AbortController();
  aborted.abort(new Error('cancelled'));
  await t.rejects(
    enhancer(() => {
      throw new Error('aborted');
    }).enhance({ ...request, type: 'base' }, aborted.signal),
    { message: 'cancelled' },
  );
});
