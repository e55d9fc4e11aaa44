/** The judge of enhanced prompts, on answers whose faults are known. */
import t from 'tap';
import {
  contradicts,
  hasTwoDetails,
  judgeAnswer,
  judgeOutside,
  keepsAll,
} from '../../tools/pocket-check/structures/answer.js';
import type { Stated } from '../../tools/pocket-check/structures/fill.js';

const circle: Stated = { objects: [{ colour: 'red', shape: 'circle' }] };
const placed: Stated = {
  objects: [{ colour: 'red', shape: 'circle', size: 'small', place: 'left' }],
  background: 'blue',
};
const pair: Stated = {
  objects: [
    { colour: 'red', shape: 'circle' },
    { colour: 'green', shape: 'square' },
  ],
  relation: 'above',
};
const sea: Stated = { objects: [], ground: 'sea', sky: 'night' };
const clip: Stated = { objects: [{ colour: 'red', shape: 'circle' }], motion: 'left' };

t.test('what fits is counted once for each slot', async (t) => {
  const fine = (
    prompt: string,
    stated: Stated,
    answer: string,
    added: string[],
    target: 'image' | 'video' = 'image',
  ) => {
    const verdict = judgeAnswer(prompt, stated, target, answer);
    t.ok(keepsAll(verdict), answer);
    t.notOk(contradicts(verdict), `${answer}: ${JSON.stringify(verdict)}`);
    t.same(verdict.added, added, answer);
    t.ok(hasTwoDetails(verdict), answer);
  };
  fine('red circle', circle, 'red circle, large and in the centre', ['size of red circle', 'place']);
  fine('a red circle', circle, 'a small red circle, plain white background', [
    'size of red circle',
    'background',
  ]);
  fine('a crimson disc please', circle, 'a red circle, large, on the left-hand side', [
    'size of red circle',
    'place',
  ]);
  fine(
    'small red circle left, blue backdrop',
    placed,
    'small red circle left, blue backdrop, flat colours, sharp edges',
    [],
  );
  fine(
    'a red circle above a green square',
    pair,
    'a red circle above a green square, the circle large, the square small',
    ['size of red circle', 'size of green square'],
  );
  fine('the sea at night', sea, 'the sea at night, the moon on the left, white clouds', ['light', 'clouds']);
  fine(
    'red circle moving left',
    clip,
    'red circle moving left, slowly, plain white background',
    ['speed', 'background'],
    'video',
  );
});

t.test('what is lost, contradicted or invented is seen', async (t) => {
  t.same(judgeAnswer('a red circle', circle, 'image', 'a red square, large').lost, ['circle']);
  t.same(judgeAnswer('a red circle', circle, 'image', '').lost, ['red', 'circle']);
  for (const [stated, target, prompt, tail] of [
    [placed, 'image', 'a small red circle on the left on blue', 'large'],
    [placed, 'image', 'a small red circle on the left on blue', 'in the centre'],
    [placed, 'image', 'a small red circle on the left on blue', 'plain white background'],
    [placed, 'image', 'a small red circle on the left on blue', 'a night sky'],
    [placed, 'image', 'a small red circle on the left on blue', 'the moon on the left'],
    [circle, 'image', 'a red circle', 'plain red background'],
    [circle, 'image', 'a red circle', 'moving left'],
    [circle, 'image', 'a red circle', 'a blue square'],
    [circle, 'image', 'a red circle', 'in the style of Rembrandt'],
    [pair, 'image', 'a red circle above a green square', 'large and in the centre'],
    [sea, 'image', 'the sea at night', 'the sun on the left'],
    [sea, 'image', 'the sea at night', 'a clear day'],
    [sea, 'image', 'the sea at night', 'plain white background'],
    [clip, 'video', 'a red circle moving left', 'resting'],
    [clip, 'video', 'a red circle moving left', 'moving to the right'],
  ] as const)
    t.ok(contradicts(judgeAnswer(prompt, stated, target, `${prompt}, ${tail}`)), `${prompt}, ${tail}`);
  t.notOk(
    hasTwoDetails(
      judgeAnswer('a red circle', circle, 'image', 'a red circle, large, flat colours, sharp edges'),
    ),
  );
});

t.test('outside the world the prompt stays as it was typed and nothing is said of it', async (t) => {
  t.same(judgeOutside('an Apple?', 'an Apple, best quality, sharp focus'), { verbatim: true, invented: [] });
  for (const answer of ['an apple, best quality', 'Apple, best quality', 'an Apples, best quality'])
    t.notOk(judgeOutside('an Apple', answer).verbatim, answer);
  t.same(judgeOutside('an Apple', 'an Apple, large, on a table').invented, ['large', 'on a table']);
});
