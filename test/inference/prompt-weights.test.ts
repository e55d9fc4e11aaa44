import { readFileSync } from 'node:fs';
import path from 'node:path';
import fc from 'fast-check';
import t from 'tap';
import { parsePrompt, plainText, type Fragment } from '../../src/lib/prompt-weights.js';
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

void t.test('any text is read: finite weights from 0 to 10, no words lost or invented', (t) => {
  const piece = fc.constantFrom(
    '(',
    ')',
    '[',
    ']',
    '"',
    '+',
    '-',
    ':',
    '1.3',
    '.',
    ',',
    ' ',
    'red',
    'ö',
    '🎈',
    '\\',
    '.and()',
    '.blend(1)',
    '0',
    'e308',
  );
  fc.assert(
    fc.property(
      fc.array(piece, { maxLength: 60 }).map((pieces) => pieces.join('')),
      (prompt) => {
        const parsed = parsePrompt(prompt);
        const lists = parsed.kind === 'prompt' ? [parsed.fragments] : parsed.prompts;
        const letters = (text: string) => text.replace(/[^a-zö🎈]/gu, '').replace(/and|blend/g, '');
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
