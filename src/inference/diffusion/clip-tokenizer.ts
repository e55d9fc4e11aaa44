import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import type { CreateTokenizer } from './t5-tokenizer.js';
import { clipWindow } from '../generation.js';

interface SpecialTokens {
  bos_token?: TokenEntry;
  eos_token?: TokenEntry;
  unk_token?: TokenEntry;
  pad_token?: TokenEntry;
  model_max_length?: number;
}
type TokenEntry = string | { content: string };

const words = String.raw`'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+`;
const endOfWord = '</w>';

/**
 * CLIP's byte-level BPE from `vocab.json`, `merges.txt` and the special tokens of the folder's config files.
 * Equals transformers' CLIPTokenizer; a pad token that is an ordinary word of the text ("!" in SDXL's second
 * tokenizer) is cut out before the BPE, as there.
 */
export async function loadClipTokenizer(folder: string) {
  const read = async (name: string) => readFile(path.join(folder, name), 'utf8');
  const vocab = JSON.parse(await read('vocab.json')) as Record<string, number>;
  // the first line is a version comment
  const merges = (await read('merges.txt'))
    .split('\n')
    .map((line) => line.trimEnd())
    .filter((line) => line !== '' && !line.startsWith('#version'));
  const special = {
    ...(JSON.parse(await read('tokenizer_config.json').catch(() => '{}')) as SpecialTokens),
    ...(JSON.parse(await read('special_tokens_map.json').catch(() => '{}')) as SpecialTokens),
  };
  const nameOf = (entry: TokenEntry | undefined, fallback: string) =>
    entry === undefined ? fallback : typeof entry === 'string' ? entry : entry.content;
  const idOf = (token: string) => {
    const id = vocab[token];
    if (id === undefined) throw new Error(`${folder}/vocab.json has no token ${JSON.stringify(token)}`);
    return id;
  };
  const bosToken = nameOf(special.bos_token, '<|startoftext|>');
  const eosToken = nameOf(special.eos_token, '<|endoftext|>');
  const padToken = nameOf(special.pad_token, eosToken);
  const unknownToken = nameOf(special.unk_token, eosToken);
  const [bosId, eosId, padId] = [idOf(bosToken), idOf(eosToken), idOf(padToken)];
  idOf(unknownToken);
  const specialTokens = [...new Set([bosToken, eosToken, padToken])];
  const tokenizer = new (Tokenizer as CreateTokenizer)(
    {
      added_tokens: specialTokens.map((content) => ({ id: idOf(content), content, special: true })),
      normalizer: {
        type: 'Sequence',
        normalizers: [
          { type: 'NFC' },
          { type: 'Replace', pattern: { Regex: String.raw`\s+` }, content: ' ' },
          { type: 'Lowercase' },
        ],
      },
      pre_tokenizer: {
        type: 'Sequence',
        pretokenizers: [
          { type: 'Split', pattern: { Regex: words }, behavior: 'Removed', invert: true },
          { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
        ],
      },
      post_processor: null,
      decoder: { type: 'ByteLevel' },
      model: { type: 'BPE', vocab, merges, unk_token: unknownToken, end_of_word_suffix: endOfWord },
    },
    {},
  );
  const maxLength =
    special.model_max_length !== undefined && special.model_max_length < 10_000
      ? special.model_max_length
      : clipWindow;

  return {
    maxLength,
    bosId,
    eosId,
    padId,
    /**
     * Token ids without start, end and padding. Lower case is one character's at a time: a sigma at the end of
     * a word stays what it is elsewhere.
     */
    encode: (text: string): number[] => tokenizer.encode(text.replaceAll('Σ', 'σ')).ids,
    /** Start, up to `maxLength - 2` ids, end, padding: always `maxLength` long. */
    frame(ids: readonly number[]): number[] {
      const framed = [bosId, ...ids.slice(0, maxLength - 2), eosId];
      return [...framed, ...new Array<number>(maxLength - framed.length).fill(padId)];
    },
    endsWord: (id: number) => (tokenizer.id_to_token(id) ?? '').endsWith(endOfWord),
    /** The token as a person would write it, without the end-of-word mark. */
    tokenText: (id: number): string =>
      tokenizer.decode([id], { clean_up_tokenization_spaces: false }).replace(/ $/, ''),
  };
}
