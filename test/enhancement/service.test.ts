import t from 'tap';
import { parseDenyList } from '../../src/services/enhancement/deny-list.js';
import type { EnhancePromptRequest } from '../../src/services/enhancement/enhancement-types.js';
import { until } from '../engines/support.js';
import { createTestEnhancement, type EnhancementHarness } from './support.js';

const { signal } = new AbortController();
const chat = { model: 'qwen_instruct', sessionId: 's', owner: 'o' } as const;

t.test('every branch of the chain ends with the right text, source and reason, in time', async (t) => {
  const cases: Array<
    [name: string, request: EnhancePromptRequest, expected: object, options?: EnhancementHarness]
  > = [
    [
      'base answers',
      { prompt: 'a cat' },
      {
        success: true,
        enhancedPrompt: 'a cat, soft light by base',
        source: 'qwen_base',
        fallback: false,
        attempts: 1,
        template: 'base-image',
        model: 'scripted',
        promptTokens: 10,
      },
    ],
    [
      'chat answers',
      { prompt: 'a cat', ...chat, target: 'video' },
      {
        success: true,
        enhancedPrompt: 'a cat, soft light by chat',
        source: 'qwen_instruct',
        fallback: false,
        template: 'chat-video',
      },
    ],
    [
      'chat without a session is base',
      { prompt: 'a cat', model: 'qwen_instruct' },
      {
        success: true,
        source: 'qwen_base',
        fallback: true,
        fallbackReason: 'A conversation needs a session_id',
      },
    ],
    [
      'chat gives the prompt back: base',
      { prompt: 'a cat [chat: same]', ...chat },
      {
        success: true,
        source: 'qwen_base',
        attempts: 3,
        fallback: true,
        fallbackReason: 'The model gave the prompt back unchanged',
      },
    ],
    [
      'the second attempt is better',
      { prompt: 'a cat [base: same; good]' },
      { success: true, source: 'qwen_base', attempts: 2, fallback: false },
    ],
    [
      'empty answers: the original',
      { prompt: 'a cat [base: empty]' },
      { success: false, reason: 'The model gave an empty answer' },
    ],
    [
      'same answers of both: the original',
      { prompt: 'a cat [chat: same] [base: same]', ...chat },
      { success: false, reason: 'The model gave the prompt back unchanged' },
    ],
    [
      'words lost: the original',
      { prompt: 'a cat [base: lost]' },
      { success: false, reason: 'The answer lost words of the prompt' },
    ],
    [
      'words lost, which is allowed',
      { prompt: 'a cat [base: lost]' },
      { success: true, enhancedPrompt: 'something else entirely' },
      { limits: { keepWords: 0 } },
    ],
    [
      'deterministic: the same question is not asked again',
      { prompt: 'a cat [base: same; good]', temperature: 0 },
      { success: false, reason: 'The model gave the prompt back unchanged' },
    ],
    [
      'killed in every answer: the original',
      { prompt: 'a cat [base: die]' },
      { success: false, reason: "The model's process ended" },
    ],
    [
      'killed in chat: base after the restart',
      { prompt: 'a cat [chat: die]', ...chat },
      { success: true, source: 'qwen_base', fallback: true, fallbackReason: "The model's process ended" },
    ],
    ['the engine fails', { prompt: 'a cat [base: fail]' }, { success: false, reason: 'The model failed' }],
    [
      'no memory',
      { prompt: 'a cat [chat: oom]', ...chat },
      { success: true, source: 'qwen_base', fallbackReason: 'Insufficient VRAM' },
    ],
    [
      'a hanging answer',
      { prompt: 'a cat [base: hang]' },
      { success: false, reason: 'Timed out after 1 s' },
      { limits: { deadlineMs: 1200 } },
    ],
    [
      'a hanging load',
      { prompt: 'a cat' },
      { success: false, reason: 'Timed out after 1 s' },
      { limits: { deadlineMs: 1200 }, engine: { onLoad: 'hang' } },
    ],
    [
      'no file',
      { prompt: 'a cat', ...chat },
      { success: false, reason: 'Model not available' },
      { engine: { onLoad: 'missing' } },
    ],
    [
      'a corrupt file',
      { prompt: 'a cat' },
      { success: false, reason: 'Model not available' },
      { engine: { onLoad: 'invalid' } },
    ],
    [
      'the answer is on the deny list',
      { prompt: 'a cat' },
      { success: false, reason: "The answer is on the operator's deny list" },
      { denyList: parseDenyList('word: by base') },
    ],
  ];
  for (const [name, request, expected, options] of cases) {
    await t.test(name, async (t) => {
      const { enhancement } = await createTestEnhancement(t, options);
      const startedMs = performance.now();
      t.match(await enhancement.enhance(request, signal), expected);
      t.ok(performance.now() - startedMs < 10_000);
      t.same(enhancement.load(), { busy: 0, waiting: 0 });
    });
  }
});

t.test('requests that cannot be: denied prompts, templates', async (t) => {
  const { enhancement } = await createTestEnhancement(t, { denyList: parseDenyList('word: gold') });
  await t.rejects(enhancement.enhance({ prompt: 'a Gold cat' }, signal), {
    code: 'PROMPT_REJECTED',
    statusCode: 422,
  });
  await t.rejects(enhancement.enhance({ prompt: 'a cat', conversationContext: 'gold' }, signal), {
    code: 'PROMPT_REJECTED',
  });
  await t.rejects(enhancement.enhance({ prompt: 'a cat', template: 'poem' }, signal), {
    code: 'INVALID_PARAMETERS',
    details: [{ field: 'template', rule: 'enum' }],
  });
  await t.rejects(enhancement.enhance({ prompt: 'a cat', template: 'base-video', target: 'image' }, signal), {
    code: 'INVALID_PARAMETERS',
    details: [{ field: 'template', rule: 'target' }],
  });
  await t.rejects(
    enhancement.enhance({ prompt: 'a cat', template: 'chat-image', model: 'qwen_base' }, signal),
    { code: 'INVALID_PARAMETERS', details: [{ field: 'template', rule: 'model' }] },
  );
  t.match(await enhancement.enhance({ prompt: 'a cat', template: 'base-video' }, signal), {
    success: true,
    template: 'base-video',
  });
});

t.test('conversations: remembered per owner and session, cut when the engine says so', async (t) => {
  const { enhancement } = await createTestEnhancement(t);
  const ask = async (prompt: string, owner: string) => {
    const answer = await enhancement.enhance({ prompt, ...chat, owner }, signal);
    return answer.success ? answer.enhancedPrompt : answer.reason;
  };
  await ask('a cat', 'one');
  await ask('a dog', 'two');
  t.equal(
    await ask('more [chat: history]', 'one'),
    'more [chat: history]: user a cat / assistant a cat, soft light by chat / user more [chat: history]',
  );
  t.notMatch(await ask('what [chat: history]', 'two'), /cat/);
  t.equal(
    await ask('longer [chat: long]', 'one'),
    'longer [chat: long], soft light by chat',
    'without what was said',
  );
  await enhancement.forgetSession('one', 's');
  t.equal(await ask('anew [chat: history]', 'one'), 'anew [chat: history]: user anew [chat: history]');
});

t.test('a full line, a client that goes away', async (t) => {
  const { enhancement } = await createTestEnhancement(t, { limits: { places: 1, maxWaiting: 1 } });
  await enhancement.enhance({ prompt: 'load' }, signal);
  const [gone, first] = [new AbortController(), new AbortController()];
  const running = enhancement.enhance({ prompt: 'a cat [base: hang]' }, first.signal);
  const waiting = enhancement.enhance({ prompt: 'a dog' }, gone.signal);
  await until(
    'one at work, one in line',
    () => enhancement.load().busy === 1 && enhancement.load().waiting === 1,
  );
  await t.rejects(enhancement.enhance({ prompt: 'a bird' }, signal), {
    code: 'TOO_MANY_REQUESTS',
    statusCode: 429,
  });
  const patient = enhancement.enhance({ prompt: 'a job', patient: true }, signal);
  gone.abort(new Error('the client went away'));
  await t.rejects(waiting, { message: 'the client went away' });
  first.abort(new Error('this one too'));
  await t.rejects(running, { message: 'this one too' });
  t.match(await patient, { success: true });
  t.same(enhancement.load(), { busy: 0, waiting: 0 });
});

t.test('tokens are shown, void ones are called back, and nothing is shown unchecked', async (t) => {
  const shown = async (options: EnhancementHarness) => {
    const { enhancement } = await createTestEnhancement(t, options);
    const events: string[] = [];
    await enhancement.enhance(
      {
        prompt: 'a cat [base: same; good]',
        onToken: (text) => events.push(text),
        onDiscard: (reason) => events.push(`void: ${reason}`),
      },
      signal,
    );
    return events;
  };
  t.same(await shown({}), [
    'Enhanced ',
    'void: The model gave the prompt back unchanged',
    'Enhanced ',
    'light',
  ]);
  t.same(await shown({ denyList: parseDenyList('word: gold') }), [
    'a cat [base: same; good], soft light by base',
  ]);
});

t.test('loaded on demand or ahead, unloaded when idle or when somebody needs the room', async (t) => {
  const { enhancement, engines } = await createTestEnhancement(t, { limits: { idleMs: 150 } });
  const state = () => engines.status('qwen').state;
  t.equal(state(), 'stopped');
  t.match(await enhancement.enhance({ prompt: 'a cat' }, signal), { success: true });
  t.not(engines.status('qwen').loaded, null);
  await until('the unload', () => state() === 'stopped');
  t.equal(engines.status('qwen').loaded, null);
  enhancement.preload();
  await until('the load', () => state() === 'ready');
  // As the memory budget ends it for WAN: after the answer that somebody waits for, and it comes back with
  // the next request.
  const busy = enhancement.enhance({ prompt: 'a cat [base: slow 300]' }, signal);
  await until('the request at the model', () => state() === 'busy');
  await engines.release('qwen', {
    force: false,
    why: 'stopped to make room for wan; starts with its next request',
  });
  t.equal(engines.status('qwen').loaded, null);
  t.match(await busy, { success: true });
  t.match(await enhancement.enhance({ prompt: 'a dog' }, signal), { success: true });
});
