import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import path from 'node:path';
import { Tokenizer } from '@huggingface/tokenizers';

interface TokenizerJson {
  model: { byte_fallback?: boolean; vocab: Array<[string, number]>; unk_id: number };
  [part: string]: unknown;
}

/** What is used of the library, whose own declarations do not resolve under Node's module rules. */
export type CreateTokenizer = new (
  definition: object,
  settings: object,
) => {
  encode(text: string): { ids: number[]; tokens: string[] };
  decode(ids: number[], options: { clean_up_tokenization_spaces: boolean }): string;
  token_to_id(token: string): number | undefined;
  id_to_token(id: number): string | undefined;
};

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
      const { ids, tokens } = tokenizer.encode(text);
      if (!byteFallback) return ids;
      return ids.flatMap((id, i) =>
        id === unknownId && tokens[i] !== unknownToken ? (byteIds(tokens[i] as string) ?? [id]) : [id],
      );
    },
    tokenText: (id: number) => tokenizer.id_to_token(id) ?? '',
  };
}

/** At most `length` ids; of a text that is cut the end token stays last, as transformers cuts. */
export function truncateIds(ids: readonly number[], length: number): number[] {
  return ids.length <= length ? [...ids] : [...ids.slice(0, length - 1), ids.at(-1) as number];
}
