import t from 'tap';
import { buildMessages, readContext } from '../../src/services/enhancement/request-text.js';
import { createTestEnhancement } from './support.js';

const turns = [1, 2, 3].map((number) => ({ prompt: `prompt ${number}`, answer: `answer ${number}` }));

t.test('system, what was said, context, request', (t) => {
  t.same(buildMessages({ system: 's', turns: turns.slice(0, 1), context: 'rainy', prompt: 'p' }), {
    turnsUsed: 1,
    messages: [
      { role: 'system', content: 's' },
      { role: 'user', content: 'prompt 1' },
      { role: 'assistant', content: 'answer 1' },
      { role: 'user', content: 'Context: rainy' },
      { role: 'user', content: 'p' },
    ],
  });
  t.same(
    buildMessages({ system: 's', turns: [], context: ' ', prompt: 'p' }).messages.length,
    2,
    'no empty context',
  );
  t.end();
});

t.test('the oldest turns go first; system, context and request stay whole', (t) => {
  const long = turns.map((turn) => ({ ...turn, answer: turn.answer.repeat(100) }));
  const { messages, turnsUsed } = buildMessages({ system: 's', turns: long, context: 'c', prompt: 'p' }, 800);
  t.equal(turnsUsed, 2);
  t.same(
    messages.slice(1, 5).map(({ content }) => content.slice(0, 8)),
    ['prompt 2', 'answer 2', 'prompt 3', 'answer 3'],
  );
  const request = 'p'.repeat(5000);
  t.match(buildMessages({ system: 's', turns, context: undefined, prompt: request }, 100), {
    turnsUsed: 0,
    messages: [{ content: 's' }, { content: request }],
  });
  t.end();
});

const cat = { prompt: 'a cat', answer: "a cat's portrait, soft light" };
const written = `Previous prompt: 'a cat' → Enhanced: 'a cat's portrait, soft light'`;

t.test('what callers write of the conversation is read as what was said', (t) => {
  for (const [context, told, rest] of [
    [written, [cat], undefined],
    [`Previous prompt: "a cat" -> Enhanced: "a cat's portrait, soft light"`, [cat], undefined],
    [
      `${written}\n${written.replaceAll('cat', 'dog')}`,
      [cat, { prompt: 'a dog', answer: "a dog's portrait, soft light" }],
      undefined,
    ],
    [`It rains. ${written}; the style is noir`, [cat], 'It rains.  ; the style is noir'],
    [
      "Previous prompt: 'a cat' → Enhanced: 'a cat in so",
      [{ prompt: 'a cat', answer: 'a cat in so' }],
      undefined,
    ],
    ['a rainy day', [], 'a rainy day'],
    ["Previous prompt: 'a cat'", [], "Previous prompt: 'a cat'"],
    [undefined, [], undefined],
  ] as const)
    t.same(readContext(context), { told, context: rest }, String(context));
  for (const unit of ["Previous prompt: 'a", "Previous prompt: 'a'", "previous prompt:'a' \n", "'", ' '])
    readContext(`Previous prompt: 'a'${unit.repeat(10_000 / unit.length)}`);
  t.pass('text that nearly has the form takes no longer');
  t.end();
});

t.test('the model is told the conversation, and none of it comes back as the prompt', async (t) => {
  const { enhancement } = await createTestEnhancement(t);
  const { signal } = new AbortController();
  const ask = (prompt: string, sessionId = 's') =>
    enhancement.enhance({ prompt, model: 'qwen_instruct', sessionId, conversationContext: written }, signal);
  t.match(await ask('make it night [chat: history]'), {
    enhancedPrompt: `make it night [chat: history]: user a cat / assistant ${cat.answer} / user make it night [chat: history]`,
  });
  for (const rule of [`exactly ${cat.answer}`, 'context'])
    t.match(await ask(`at night [chat: ${rule}]`, rule), { source: 'qwen_base', fallback: true }, rule);
  t.match(await ask('a cat [chat: good]', 'x'), { source: 'qwen_instruct' });
});
