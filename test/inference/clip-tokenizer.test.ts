import path from 'node:path';
import t from 'tap';
import { loadClipTokenizer } from '../../src/inference/diffusion/tokenizers.js';
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
