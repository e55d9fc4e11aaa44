import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { parsePrompt, plainText, type Fragment, type PromptNote } from '../../src/lib/prompt-weights.js';
import { dropTags, parseWeightList } from '../../src/services/jobs/compel-weights.js';
import { projectRoot } from '../../src/lib/project.js';

const showFragments = (fragments: readonly Fragment[]) =>
  fragments
    .map(({ text, weight }) => (text === '' ? '(no words)' : `${text} ×${Number(weight.toFixed(3))}`))
    .join(' · ');

function show(prompt: string): string {
  const parsed = parsePrompt(prompt);
  if (parsed.kind === 'prompt') return showFragments(parsed.fragments);
  const normalised = parsed.kind === 'blend' && !parsed.normalise ? ', not normalised' : '';
  return `${parsed.kind}(${parsed.prompts.map(showFragments).join(' / ')}; ${parsed.weights.join(', ')}${normalised})`;
}

void t.test('every line of the table in docs/prompt-weights.md', (t) => {
  const page = readFileSync(path.join(projectRoot(), 'docs/prompt-weights.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `` (.+?) `` \| `` (.+?) `` \|$/gmu)];
  t.ok(rows.length >= 40, `${rows.length} rows`);
  for (const [, prompt = '', reading = ''] of rows) t.equal(show(prompt), reading, prompt);
  t.end();
});

const syntax = fc.constantFrom(
  ...['(', ')', '[', ']', '"', '+', '-', ':', '1.3', '.', ',', ' ', 'red', 'ö', '🎈', '\\', '0', 'e308'],
  ...['.and()', '.blend(1)', '.attend(', '("a",', '(a:1.2)'],
);

void t.test('any text is read: finite weights from 0 to 10, no words lost or invented', (t) => {
  fc.assert(
    fc.property(
      fc.array(syntax, { maxLength: 60 }).map((pieces) => pieces.join('')),
      (prompt) => {
        const parsed = parsePrompt(prompt);
        const lists = parsed.kind === 'prompt' ? [parsed.fragments] : parsed.prompts;
        const letters = (text: string) => text.replace(/[^a-zö🎈]/gu, '').replace(/and|blend|attend/g, '');
        return (
          lists.flat().every(({ weight }) => weight >= 0 && weight <= 10) &&
          letters(plainText(parsed)).length <= letters(prompt).length &&
          (letters(plainText(parsed)).match(/red/g) ?? []).length ===
            (letters(prompt).match(/red/g) ?? []).length
        );
      },
    ),
    { numRuns: 2000 },
  );
  const deep = parsePrompt(`${'('.repeat(5000)}a${')'.repeat(5000)}`);
  t.ok(deep.kind === 'prompt' && deep.fragments.every(({ weight }) => weight <= 10), 'ten thousand brackets');
  t.end();
});

void t.test('reading takes time in proportion to the text, whatever stands in it', (t) => {
  /** Tried again when it was too slow: other work on this machine does not count. */
  const isFast = (text: string, limitMs: number) =>
    Array.from({ length: 5 }).some(() => {
      const startedAt = performance.now();
      parsePrompt(text);
      parseWeightList(text);
      return performance.now() - startedAt < limitMs;
    });
  const repeated = (unit: string, length: number) =>
    unit.repeat(Math.ceil(length / unit.length)).slice(0, length);
  const check = (name: string, textOf: (length: number) => string) => {
    for (const [length, limitMs] of [
      [10_000, 100],
      [100_000, 1000],
    ] as const)
      if (!isFast(textOf(length), limitMs))
        throw new Error(`${name}: ${length} characters take over ${limitMs} ms`);
  };
  for (const unit of [
    '(',
    '[',
    '((a)',
    '(a:1',
    '"',
    '\\"',
    'a- ',
    'a.attend(',
    '(:',
    '("a",',
    '[[a]',
    '.and( ',
  ])
    check(unit, (length) => repeated(unit, length));
  check('a conjunction', (length) => `(${repeated('"a",', length - 12)}"a").and()`);
  check('blanks', (length) => `("a").and(${repeated(' ', length)}`);
  check('nested', (length) => `${repeated('(', length / 2)}${repeated(')', length / 2)}`);
  fc.assert(
    fc.property(
      fc.array(fc.oneof(syntax, fc.string({ unit: 'binary', maxLength: 4 })), { minLength: 1, maxLength: 8 }),
      (pieces) => {
        check(JSON.stringify(pieces), (length) => repeated(pieces.join('') || ' ', length));
      },
    ),
    { numRuns: 50 },
  );
  t.pass('checked');
  t.end();
});

void t.test('what does not act as it looks is noted', (t) => {
  const notesOf = (prompt: string) => {
    const notes: PromptNote[] = [];
    parsePrompt(prompt, 'both', notes);
    return notes.map(({ text, note }) => `${text} ${note}`);
  };
  for (const [prompt, ...expected] of [
    ['a (2:3) frame', '(2:3) is read as text, not as a weight'],
    ['(psalm:119) and (red:1.3)', '(psalm:119) is read as text, not as a weight'],
    ['(chapter:3)', 'chapter has a weight of 3'],
    ['a red (:3) circle', '(:3) is read as text, not as a weight'],
    ['a (:1.3) cat () and ""++', '(:1.3)', '()', '""++'],
    ['a map (scale 1:1.5)', '(scale 1:1.5) is read as a weight of 1.5, not as a ratio'],
    ['(red:12.5)', 'red has a weight of 10, the largest'],
    ['(cold: -5)', '(cold: -5) has a weight of 0, the least'],
    ['("a (16:9) b", "c").and()', '(16:9) is read as text, not as a weight'],
    ['(red:1.3), ((blue)), [green] and "white"1.2'],
  ] as const)
    t.same(
      notesOf(prompt).map((note) => note.replace(' is left out: it has no words', '')),
      expected,
      prompt,
    );
  t.end();
});

void t.test('what loads something elsewhere is left out, its words too', (t) => {
  for (const [prompt, left] of [
    ['<lora:detail:0.8>, a cat', 'a cat'],
    ['a cat <lora:add_detail:1> in the rain', 'a cat in the rain'],
    ['a cat, <LoRA:x:0.5>, <hypernet:y>, rain', 'a cat, rain'],
    ['a cat, rain, <lyco:z:1>', 'a cat, rain'],
    ['for<lora:x:1>bidden', 'for bidden'],
    ['<lora:x:1>', ''],
    ['<lora:x:1>++ red, <lora:y>--, <lora:z>.attend(0.7)', 'red'],
    ['<lora:x:1>1girl, <lora:x:1>+1', '1girl, +1'],
    ['a <b> c < d, <lora:', 'a <b> c < d, <lora:'],
  ] as const)
    t.equal(dropTags(prompt).text, left, prompt);
  t.end();
});

void t.test('a number means the same in a prompt and in a list', (t) => {
  for (const number of [
    '1.3',
    '.5',
    '0.5',
    '1.',
    '+1.3',
    '1.30',
    ' 1.2',
    '2',
    '0',
    '1,3',
    'x',
    '1e1',
    '٣',
    '',
  ]) {
    const inPrompt = parsePrompt(`(red:${number})`);
    const read = inPrompt.kind === 'prompt' ? inPrompt.fragments[0] : undefined;
    const { weights, malformed } = parseWeightList(`(red:${number})`);
    if (read?.text === 'red') t.same(weights, [read], number);
    else t.ok(malformed.length > 0 || weights[0]?.text !== 'red', `${number} is no weight in either`);
  }
  for (const prose of ['(2:3)', '(at 10:30)', '(1:1.5)'])
    t.match(parseWeightList(prose), { weights: [], malformed: [{ entry: prose }] });
  t.same(parseWeightList('(...:0.8), (!:1.2)').weights.length, 2, 'marks may have a weight');
  t.end();
});
