import { readFileSync } from 'node:fs';
import path from 'node:path';
import t from 'tap';
import { clipWindow } from '../../src/inference/generation.js';
import {
  estimateTokens,
  fitToWindow,
  type CountTokens,
} from '../../src/services/enhancement/prompt-length.js';
import { projectRoot } from '../../src/lib/project.js';

const { signal } = new AbortController();
/** A token a word and a sign: any count that grows with the text shows the rule. */
const words: CountTokens = (text) => Promise.resolve(2 + (text.match(/\w+|[^\w\s]/g)?.length ?? 0));
const clause = (name: string, count: number) => Array.from({ length: count }, () => name).join(' ');

t.test('an answer within the window stays as it is', async (t) => {
  t.same(await fitToWindow('a red circle, soft light', 'a red circle', words, signal), {
    fits: true,
    text: 'a red circle, soft light',
    tokens: 8,
    shortened: false,
  });
});

t.test('clauses go from the end until it fits, and no more of them than needed', async (t) => {
  const answer = `a red circle, ${clause('light', 40)}, ${clause('camera', 20)}. ${clause('style', 10)}, ${clause('grain', 10)}`;
  const fit = await fitToWindow(answer, 'a red circle', words, signal);
  t.same(fit, {
    fits: true,
    text: `a red circle, ${clause('light', 40)}, ${clause('camera', 20)}.`,
    tokens: 2 + 3 + 1 + 40 + 1 + 20 + 1,
    shortened: true,
  });
  const chinese = await fitToWindow(
    `一只猫，${'光'.repeat(30)}。`,
    '一只猫',
    () => Promise.resolve(null),
    signal,
  );
  t.match(chinese, { fits: true, text: '一只猫' }, 'without a counter the estimate decides');
});

t.test('what the user wrote is not dropped', async (t) => {
  t.same(
    await fitToWindow(
      `${clause('light', 60)}, a circle, ${clause('style', 30)}, in the rain`,
      'a circle in the rain',
      words,
      signal,
    ),
    { fits: false, hopeless: false },
  );
  t.same(
    await fitToWindow(clause('word', 90), 'a circle', words, signal),
    { fits: false, hopeless: false },
    'nothing to cut at',
  );
  t.same(await fitToWindow(`${clause('circle', 90)}, more`, clause('circle', 90), words, signal), {
    fits: false,
    hopeless: true,
  });
});

t.test("the estimate is never below CLIP's own count", (t) => {
  const cases = JSON.parse(
    readFileSync(path.join(projectRoot(), 'test/parity/kit/tokenizers/clip/cases.json'), 'utf8'),
  ) as Array<{ text: string; untruncated_ids: number[] }>;
  for (const { text, untruncated_ids: ids } of cases)
    t.ok(estimateTokens(text) >= ids.length, JSON.stringify(text.slice(0, 60)));
  t.ok(cases.some(({ untruncated_ids: ids }) => ids.length > clipWindow));
  t.end();
});
