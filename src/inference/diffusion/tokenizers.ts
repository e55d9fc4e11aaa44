import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';
import { LRUCache } from 'lru-cache';
import { clipWindow } from '../generation.js';

/** What is used of the library, whose own declarations do not resolve under Node's module rules. */
type CreateTokenizer = new (
  definition: object,
  settings: object,
) => {
  encode(text: string): { ids: number[]; tokens: string[] };
  decode(ids: number[], options: { clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
};

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
  // counting, framing and telling tokens each ask for the same texts
  const encoded = new LRUCache<string, readonly number[]>({ max: 256 });

  return {
    maxLength,
    bosId,
    eosId,
    padId,
    /**
     * Token ids without start, end and padding. Lower case is one character's at a time: a sigma at the end
     * of a word stays what it is elsewhere.
     */
    encode(text: string): readonly number[] {
      const ids =
        encoded.get(text) ??
        piecesOf(text.replaceAll('Σ', 'σ')).flatMap((piece) => tokenizer.encode(piece).ids);
      encoded.set(text, ids);
      return ids;
    },
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

interface TokenizerJson {
  model: { byte_fallback?: boolean; vocab: Array<[string, number]>; unk_id: number };
  [part: string]: unknown;
}

/** Wan's length for text, where the folder's own is "no limit". */
const wanTextLength = 512;

/** A SentencePiece unigram tokenizer, from the folder's `tokenizer.json` and `tokenizer_config.json`. */
export async function loadT5Tokenizer(folder: string) {
  const read = async (name: string) => JSON.parse(await readFile(path.join(folder, name), 'utf8')) as unknown;
  const definition = (await read('tokenizer.json')) as TokenizerJson;
  const settings = (
    existsSync(path.join(folder, 'tokenizer_config.json')) ? await read('tokenizer_config.json') : {}
  ) as { model_max_length?: number };
  const tokenizer = new (Tokenizer as CreateTokenizer)(definition, settings);
  const { byte_fallback: byteFallback = false, unk_id: unknownId, vocab } = definition.model;
  const unknownToken = vocab[unknownId]?.[0];
  const { model_max_length: declared } = settings;

  /**
   * Ids of the UTF-8 bytes of a piece outside the vocabulary (`<0xE2>`); the tokenizer library knows none for
   * unigram models.
   */
  function byteIds(piece: string): number[] | undefined {
    const ids = Array.from(Buffer.from(piece, 'utf8'), (byte) =>
      tokenizer.token_to_id(`<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`),
    );
    return ids.every((id) => id !== undefined) ? ids : undefined;
  }

  return {
    /** Longest text in tokens, the end token included; longer ones are cut. */
    maxLength: declared !== undefined && declared < 10_000 ? declared : wanTextLength,
    /** Ids with the end token last, neither cut nor padded. */
    encode(text: string): number[] {
      const pieces = piecesOf(text);
      return pieces.flatMap((piece, nth) => {
        const { ids, tokens } = tokenizer.encode(piece);
        const words = nth < pieces.length - 1 ? ids.slice(0, -1) : ids;
        if (!byteFallback) return words;
        return words.flatMap((id, i) =>
          id === unknownId && tokens[i] !== unknownToken ? (byteIds(tokens[i] as string) ?? [id]) : [id],
        );
      });
    },
    tokenText: (id: number) => tokenizer.id_to_token(id) ?? '',
  };
}

/** The library passes all tokens of a word as arguments, and the stack holds some 100,000 of them. */
const longestPiece = 4096;

/** Pieces of a long text, cut at white space where there is some, and never within a character. */
function piecesOf(text: string): string[] {
  const pieces: string[] = [];
  let rest = text;
  while (rest.length > longestPiece) {
    const head = rest.slice(0, longestPiece);
    const blank = head.search(/\s\S*$/u);
    const cut = blank > 0 ? blank : longestPiece - (/[\ud800-\udbff]$/.test(head) ? 1 : 0);
    pieces.push(rest.slice(0, cut));
    rest = rest.slice(cut).trimStart();
  }
  return [...pieces, rest];
}

/** At most `length` ids; of a text that is cut the end token stays last, as transformers cuts. */
export function truncateIds(ids: readonly number[], length: number): number[] {
  return ids.length <= length ? [...ids] : [...ids.slice(0, length - 1), ids.at(-1) as number];
}
