import fc from 'fast-check';
import t from 'tap';
import { cleanAnswer, isUnchanged } from '../../src/services/enhancement/clean-answer.js';

const wanted = 'a large red circle, soft light, sharp focus';

t.test('what is around a prompt goes', (t) => {
  for (const answer of [
    wanted,
    `  ${wanted}\n`,
    `Enhanced detailed prompt: ${wanted}`,
    `enhanced prompt:\n${wanted}`,
    `**Enhanced Prompt:** ${wanted}`,
    `Detailed description: ${wanted}`,
    `Sure, here is the enhanced prompt: ${wanted}`,
    `Sure! Here's a more detailed version of your prompt:\n\n"${wanted}"`,
    `Certainly! ${wanted}`,
    `Of course. Here is the rewritten prompt:\n${wanted}`,
    `Here is the detailed prompt you asked for: ${wanted}`,
    `Okay, ${wanted}`,
    `Sure, here you go: ${wanted}`,
    `"${wanted}"`,
    `“${wanted}”`,
    `'${wanted}'`,
    `"${wanted}`,
    `\`${wanted}\``,
    `\`\`\`\n${wanted}\n\`\`\``,
    `\`\`\`text\n${wanted}\`\`\` There.`,
    `${wanted}\n\nLet me know if you would like changes!`,
    `${wanted}\n\nNote: the light can be changed.`,
    `${wanted}\n\nThis prompt adds detail.`,
    `${wanted}\n\nOriginal prompt: a cat\nEnhanced detailed prompt: a large cat`,
    `${wanted}\nUser: thanks`,
    `${wanted}<|im_end|>`,
    `<|im_start|>${wanted}<|im_end|>`,
    '- a large red circle\n- soft light\n- sharp focus',
    '1. a large red circle\n2. soft light\n3. sharp focus',
    '* a large red circle,\n* **soft light**\n\n* sharp focus',
    '# a large red circle\n---\nsoft light\nsharp focus',
    'a large\tred  circle, soft \u0007light, sharp focus',
  ])
    t.equal(cleanAnswer(answer, { truncated: false }), wanted, JSON.stringify(answer));
  t.end();
});

t.test('what belongs to a prompt stays', (t) => {
  for (const answer of [
    'a sign that says "open" in red',
    '"open" and "closed" signs above two doors',
    'here is a castle: tall towers above a lake',
    'an okay day at the sea',
    'sure-footed goats on a cliff',
    'a prompt box on a stage',
    '3 cats on 2 chairs',
    "a dog's bowl, the cat's too",
    'the great wall at night',
    'great wall at night, wide view',
    'ein roter Kreis über einem Quadrat',
    '一只猫，坐在窗边。',
    'a red circle 🔴, glowing',
    'note cards on a table',
    'Okinawa beach, white sand',
  ])
    t.equal(cleanAnswer(answer, { truncated: false }), answer, answer);
  t.end();
});

t.test('an answer that is none', (t) => {
  for (const answer of [
    '',
    ' \n ',
    '<|im_end|>',
    'Enhanced detailed prompt:',
    '```\n```'.replace('```\n```', '""'),
  ])
    t.equal(cleanAnswer(answer, { truncated: false }), '', JSON.stringify(answer));
  t.end();
});

t.test('a sentence that was cut off goes, unless it is most of the answer', (t) => {
  const cut = (text: string) => cleanAnswer(text, { truncated: true });
  t.equal(
    cut('A red circle glows in the dark. Soft light falls from the left. The camera sl'),
    'A red circle glows in the dark. Soft light falls from the left.',
  );
  t.equal(
    cut('a red circle, soft light from the left, a sharp fo'),
    'a red circle, soft light from the left',
  );
  t.equal(cut('一只猫坐在窗边。阳光很好。它看'), '一只猫坐在窗边。阳光很好。');
  t.equal(
    cut('A cat. The camera moves slowly over the quiet sea at dawn while th'),
    'A cat. The camera moves slowly over the quiet sea at dawn while th',
    'half of it would be gone',
  );
  t.equal(cut('A red circle glows.'), 'A red circle glows.');
  t.equal(
    cut('a red circle, soft light\n\nOriginal prompt: a ca'),
    'a red circle, soft light',
    'the cut is in what goes anyway',
  );
  t.equal(
    cleanAnswer('a red circle, soft light from the left, a sharp fo', { truncated: false }),
    'a red circle, soft light from the left, a sharp fo',
  );
  t.end();
});

t.test('any text: one line, never longer by more than the commas of its lines, and quick', (t) => {
  fc.assert(
    fc.property(fc.string({ unit: 'binary', maxLength: 300 }), fc.boolean(), (text, truncated) => {
      const cleaned = cleanAnswer(text, { truncated });
      return (
        !/[\n\r]/.test(cleaned) &&
        cleaned === cleaned.trim() &&
        cleaned.length <= text.normalize('NFC').length * 2
      );
    }),
    { numRuns: 2000 },
  );
  for (const hostile of [
    'sure '.repeat(20_000),
    'prompt: '.repeat(5000),
    '"'.repeat(50_000),
    '**'.repeat(30_000),
    '\n'.repeat(50_000),
    'enhanced '.repeat(10_000),
    ', '.repeat(30_000),
    'here is '.repeat(10_000),
  ]) {
    const startedMs = performance.now();
    cleanAnswer(hostile, { truncated: true });
    t.ok(performance.now() - startedMs < 2000, `${hostile.slice(0, 10)}… does not hang`);
  }
  t.end();
});

t.test('unchanged', (t) => {
  t.ok(isUnchanged('A red circle.', 'a  red circle'));
  t.ok(isUnchanged('"a red, circle"', 'a red circle'));
  t.notOk(isUnchanged('a red circle at night', 'a red circle'));
  t.notOk(isUnchanged('一只猫', '一只狗'));
  t.end();
});
