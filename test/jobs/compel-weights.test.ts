import fc from 'fast-check';
import t from 'tap';
import { parseCompelWeights } from '../../src/services/jobs/compel-weights.js';

function weightsOf(text: string) {
  const result = parseCompelWeights(text);
  return result.valid ? result.weights.map(({ text: phrase, weight }) => [phrase, weight]) : result.reason;
}

t.test('reads what producers send and what Compel writes', async (t) => {
  t.same(weightsOf('(beautiful:1.3), (garden:1.1)'), [
    ['beautiful', 1.3],
    ['garden', 1.1],
  ]);
  t.same(weightsOf('(best quality:1.2),(masterpiece: 1.3 ) ,'), [
    ['best quality', 1.2],
    ['masterpiece', 1.3],
  ]);
  t.same(weightsOf('(masterpiece, best quality:1.2)'), [['masterpiece, best quality', 1.2]]);
  t.same(weightsOf('(two words)1.2, "quoted, text"0.8, word++, (a b)--, dim-'), [
    ['two words', 1.2],
    ['quoted, text', 0.8],
    ['word', 1.21],
    ['a b', 0.81],
    ['dim', 0.9],
  ]);
  t.same(weightsOf('(a\\) b:1.5)'), [['a) b', 1.5]]);
  t.same(weightsOf('(🔴 круг:.5), (time 12:30:1.2)'), [
    ['🔴 круг', 0.5],
    ['time 12:30', 1.2],
  ]);
});

t.test('nine weights with duplicates: the last weight wins, six stay, the rest is reported', async (t) => {
  const result = parseCompelWeights(
    '(red:1.3), (circle:1.2), (blue:1.1), (square:1.4), (Red:1.5), (sharp:1.1), (bright:1.2), (clean:1.1), (flat:1.3)',
  );
  t.match(result, {
    valid: true,
    weights: [
      { text: 'Red', weight: 1.5 },
      { text: 'circle' },
      { text: 'blue' },
      { text: 'square' },
      { text: 'sharp' },
      { text: 'bright' },
    ],
    dropped: [
      { text: 'red', weight: 1.3, reason: /again/ },
      { text: 'clean', reason: /more than 6/ },
      { text: 'flat', reason: /more than 6/ },
    ],
  });
});

t.test('weights out of range are moved into it', async (t) => {
  t.match(parseCompelWeights('(red:9), (blue:-3), (green:2.0)'), {
    weights: [
      { text: 'red', weight: 2 },
      { text: 'blue', weight: 0.1 },
      { text: 'green', weight: 2 },
    ],
    normalised: [
      { text: 'red', from: 9, to: 2 },
      { text: 'blue', from: -3, to: 0.1 },
    ],
  });
});

t.test('an entry that cannot be read is dropped with a note, the others act', async (t) => {
  t.match(parseCompelWeights('(red:1.3), (invalid:weights), (at 10:30), <lora:x:1>, dim-'), {
    weights: [{ text: 'red' }, { text: 'dim' }],
    notes: [
      { text: '<lora:x:1>', note: /left out/ },
      { text: '(invalid:weights)', note: 'is dropped: it is not of the form (text:weight)' },
      { text: '(at 10:30)', note: 'is dropped: it looks like a ratio or a time' },
    ],
  });
  t.match(parseCompelWeights('(red:100), (psalm:119)'), {
    normalised: [
      { text: 'red', from: 100, to: 2 },
      { text: 'psalm', from: 119, to: 2 },
    ],
  });
  t.match(parseCompelWeights(`(red:${'9'.repeat(400)})`), {
    reason: 'entry 1 has a number too large to count',
  });
});

t.test('anything else makes the field invalid', async (t) => {
  for (const text of [
    '',
    ' , ',
    '(invalid:weights)',
    '(red)',
    '((red:1.2))',
    '(:1.2)',
    '(red:1,2)',
    '(red:NaN)',
    '(red:1e3)',
    '(red:1.2',
    'red:1.2)',
    '(red:1.2) (blue:1.3)',
    '[red]',
    '1.3',
  ]) {
    t.equal(parseCompelWeights(text).valid, false, JSON.stringify(text));
  }
});

t.test('whatever comes in, what goes out keeps the limits', async (t) => {
  const texts = fc.oneof(
    fc.string(),
    fc
      .array(fc.tuple(fc.string(), fc.double({ noNaN: true })).map(([text, weight]) => `(${text}:${weight})`))
      .map((entries) => entries.join(', ')),
  );
  fc.assert(
    fc.property(texts, (text) => {
      const result = parseCompelWeights(text);
      if (!result.valid) return result.reason.length > 0;
      const phrases = result.weights.map((weight) => weight.text.toLowerCase());
      return (
        result.weights.length >= 1 &&
        result.weights.length <= 6 &&
        new Set(phrases).size === phrases.length &&
        result.weights.every(({ weight }) => weight >= 0.1 && weight <= 2)
      );
    }),
    { numRuns: 500 },
  );
  t.pass();
});
