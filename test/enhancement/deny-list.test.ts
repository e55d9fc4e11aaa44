import path from 'node:path';
import t from 'tap';
import { projectRoot } from '../../src/lib/project.js';
import { parseDenyList, readDenyList } from '../../src/services/enhancement/deny-list.js';

t.test('the shipped list is empty', async (t) => {
  t.equal((await readDenyList(path.join(projectRoot(), 'prompts/deny-list.txt'))).size, 0);
  await t.rejects(readDenyList('/nonexistent/list'), { message: /cannot be read \(ENOENT\)/ });
});

t.test('exact, word and regex', (t) => {
  const list = parseDenyList(
    '# a comment\n\nexact: A  Test \nword: gold coin\nword: naïve\nregex: n[o0]pe+\\b\nword: 猫',
  );
  t.equal(list.size, 5);
  for (const [text, denied] of [
    ['a test', { kind: 'exact', line: 3 }],
    [' A\tTEST ', { kind: 'exact', line: 3 }],
    ['a test of it', null],
    ['one Gold  Coin, please', { kind: 'word', line: 4 }],
    ['gold coin', { kind: 'word', line: 4 }],
    ['gold coins', null],
    ['marigold coin', null],
    ['(gold coin)', { kind: 'word', line: 4 }],
    ['gold\u00AD coin', { kind: 'word', line: 4 }],
    ['ｇｏｌｄ coin', { kind: 'word', line: 4 }],
    ['a naïve picture', { kind: 'word', line: 5 }],
    ['a nai\u0308ve picture', { kind: 'word', line: 5 }],
    ['so NOPEEE', { kind: 'regex', line: 6 }],
    ['n0pe', { kind: 'regex', line: 6 }],
    ['nopes', null],
    ['一只猫', null],
    ['一只 猫', { kind: 'word', line: 7 }],
    ['', null],
  ] as const)
    t.same(list.check(text), denied, text);
  t.match(list.check(undefined, null, 'fine', 'gold coin'), { line: 4 }, 'any of several texts');
  t.end();
});

t.test('what is judged is what the model reads', (t) => {
  const list = parseDenyList('word: gold coin\nexact: naked gun\nregex: ^silver$');
  for (const text of [
    '(gold:1.2) coin',
    '((gold)) [coin]',
    'go(ld) coin',
    'a g(o(l:1.1)d)++ coin',
    '"gold" coin',
    'gold++ coin',
    '(gold)1.3 (coin)0.8',
    '("two go(ld) coins", "one go(ld) coin").and()',
    '("gold coin", "tree").blend(0.7, 0.3)',
    'g\u200Bold coin',
    'go\u00ADld co\uFE0Fin',
    'gol\u034Fd\u2060 coin',
    'go\u180Eld c\u{E0041}oin',
    'g\u115Fold coin',
    'go\u0007ld coin',
    '(na:1.1)ked gun',
    '(silver:1.5)',
  ])
    t.ok(list.check(text), JSON.stringify(text));
  for (const text of ['gold) (coin', 'marigold coin', '(gold:1.2), coin', 'gold\\(coin\\)', 'goldcoin'])
    t.equal(list.check(text), null, text);
  t.ok(parseDenyList('word: café').check('cafe\u200B\u0301'), 'composed once what lay between is gone');
  t.end();
});

t.test('a pattern that would hang a backtracking engine does not', (t) => {
  const list = parseDenyList('regex: ^(a+)+$');
  t.equal(list.check(`${'a'.repeat(5000)}!`), null);
  t.match(list.check('a'.repeat(5000)), { kind: 'regex' });
  t.end();
});

t.test('lines that are no rules', (t) => {
  t.throws(() => parseDenyList('gold\nword:\nregex: (\nexact: fine'), {
    message: /line 1: a rule is[\s\S]*line 2: a rule is[\s\S]*line 3: /,
  });
  t.end();
});
