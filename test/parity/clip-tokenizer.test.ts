import path from 'node:path';
import t from 'tap';
import { loadClipTokenizer } from '../../src/inference/diffusion/clip-tokenizer.js';
import { kitFolder, readCases, requireKit } from './kit.js';

interface TokenCase { text: string; input_ids: number[]; input_ids_2: number[]; untruncated_ids: number[]; untruncated_ids_2: number[] }

t.test('token ids of both CLIP tokenizers are exactly transformers\'', async (t) => {
  if (!requireKit(t, 'tokenizers/clip')) return;
  const first = await loadClipTokenizer(path.join(kitFolder, 'sdxl-tiny/tokenizer'));
  const second = await loadClipTokenizer(path.join(kitFolder, 'sdxl-tiny/tokenizer_2'));
  for (const item of await readCases<TokenCase[]>('tokenizers/clip/cases.json')) {
    const name = JSON.stringify(item.text.slice(0, 60));
    t.same([first.bosId, ...first.encode(item.text), first.eosId], item.untruncated_ids, name);
    t.same([second.bosId, ...second.encode(item.text), second.eosId], item.untruncated_ids_2, `${name}, second tokenizer`);
    t.same(first.frame(first.encode(item.text)), item.input_ids, `${name}, framed`);
    t.same(second.frame(second.encode(item.text)), item.input_ids_2, `${name}, framed, second tokenizer`);
  }
  t.equal(first.tokenText(first.encode('café')[0] ?? -1), 'café');
});
