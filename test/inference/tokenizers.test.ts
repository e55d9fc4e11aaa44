import path from 'node:path';
import t from 'tap';
import { loadClipTokenizer, loadT5Tokenizer } from '../../src/inference/diffusion/tokenizers.js';
import { projectRoot } from '../../src/lib/project.js';

const load = (name: string) =>
  loadClipTokenizer(path.join(projectRoot(), 'test/parity/models/sdxl-tiny', name));

t.test(
  'characters on which JavaScript and the reference disagree are read as the reference does',
  async (t) => {
    const { encode } = await load('tokenizer');
    const sigma = encode('σ');
    t.same(encode('ΣΊΣΥΦΟΣ').slice(-sigma.length), sigma, 'a capital sigma at the end of a word is σ, not ς');
    t.notSame(encode('ς'), sigma, 'which is another token');
    t.same(encode('red\u0085circle'), encode('red circle'), 'the next-line character is white space');
    t.notSame(encode('red\ufeffcircle'), encode('red circle'), 'the byte order mark is not');
  },
);

t.test('tokens are shown as a person would write them', async (t) => {
  const { encode, tokenText, endsWord, bosId } = await load('tokenizer_2');
  const ids = encode('a 🎈 naïveness, <|endoftext|>!');
  t.equal(
    ids.map((id) => tokenText(id) + (endsWord(id) ? ' ' : '')).join(''),
    'a 🎈 naïveness , <|endoftext|>!',
  );
  t.equal(tokenText(bosId), '<|startoftext|>');
});

t.test(
  'the longest prompts are read, whatever they consist of, and long ones like their parts',
  async (t) => {
    const clip = await load('tokenizer');
    const t5 = await loadT5Tokenizer(path.join(projectRoot(), 'test/parity/models/wan-tiny/tokenizer'));
    // one ligature is 18 characters when it is taken apart, one note 3 of four bytes each
    for (const character of ['ﷺ', '\u{1d160}', 'a', '🎈', '漢', '\u0301', '!']) {
      const text = character.repeat(10_000);
      t.ok(clip.encode(text).length > 0, `CLIP, ${character}`);
      t.ok(t5.encode(text).length > 0, `T5, ${character}`);
    }
    const sentence = 'a red circle, above a blue square.';
    const long = Array.from({ length: 280 }, () => sentence).join(' ');
    t.same(clip.encode(long), Array.from({ length: 280 }, () => clip.encode(sentence)).flat());
    const own = t5.encode(sentence);
    t.same(t5.encode(long), [...Array.from({ length: 280 }, () => own.slice(0, -1)).flat(), own.at(-1)]);
  },
);
