import t from 'tap';
import { buildMessages } from '../../src/services/enhancement/request-text.js';

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
