import { readFile } from 'node:fs/promises';
import path from 'node:path';

/**
 * CLIP's byte-level BPE from `vocab.json`, `merges.txt` and the special tokens of the folder's config files.
 * Equals transformers' CLIPTokenizer; a pad token that is an ordinary word of the text ("!" in SDXL's second
 * tokenizer) is cut out before the BPE, as there.
 */
export type ClipTokenizer = Awaited<ReturnType<typeof loadClipTokenizer>>;

interface SpecialTokens {
  bos_token?: TokenEntry;
  eos_token?: TokenEntry;
  unk_token?: TokenEntry;
  pad_token?: TokenEntry;
  model_max_length?: number;
}
type TokenEntry = string | { content: string };

const words = /'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu;
const endOfWord = '</w>';

export async function loadClipTokenizer(folder: string) {
  const read = async (name: string) => readFile(path.join(folder, name), 'utf8');
  const vocabulary = new Map(Object.entries(JSON.parse(await read('vocab.json')) as Record<string, number>));
  const ranks = new Map<string, number>();
  for (const line of (await read('merges.txt')).split('\n')) {
    // the first line is a version comment
    if (line !== '' && !line.startsWith('#version')) ranks.set(line.trimEnd(), ranks.size);
  }
  const special = {
    ...(JSON.parse(await read('tokenizer_config.json').catch(() => '{}')) as SpecialTokens),
    ...(JSON.parse(await read('special_tokens_map.json').catch(() => '{}')) as SpecialTokens),
  };
  const text = (entry: TokenEntry | undefined, fallback: string) =>
    entry === undefined ? fallback : typeof entry === 'string' ? entry : entry.content;
  const idOf = (token: string) => {
    const id = vocabulary.get(token);
    if (id === undefined) throw new Error(`${folder}/vocab.json has no token ${JSON.stringify(token)}`);
    return id;
  };
  const bosToken = text(special.bos_token, '<|startoftext|>');
  const eosToken = text(special.eos_token, '<|endoftext|>');
  const padToken = text(special.pad_token, eosToken);
  const unknownId = idOf(text(special.unk_token, eosToken));
  const specialTokens = [...new Set([bosToken, eosToken, padToken])];
  const specialPattern = new RegExp(`(${specialTokens.map(escapeRegExp).join('|')})`, 'u');
  const tokenTexts = new Map([...vocabulary].map(([token, id]) => [id, token]));
  const cache = new Map<string, readonly number[]>();

  /** Ids of one pre-token, by merging the pair of lowest rank until none is left. */
  function encodeWord(word: string): readonly number[] {
    const known = cache.get(word);
    if (known !== undefined) return known;
    let symbols = Array.from(Buffer.from(word, 'utf8'), (byte) => byteSymbols[byte] as string);
    symbols[symbols.length - 1] += endOfWord;
    while (symbols.length > 1) {
      let best = Infinity;
      let at = -1;
      for (let i = 0; i + 1 < symbols.length; i += 1) {
        const rank = ranks.get(`${symbols[i]} ${symbols[i + 1]}`) ?? Infinity;
        if (rank < best) {
          best = rank;
          at = i;
        }
      }
      if (at < 0) break;
      symbols = mergeAll(symbols, symbols[at] as string, symbols[at + 1] as string);
    }
    const ids = symbols.map((symbol) => vocabulary.get(symbol) ?? unknownId);
    // prompts share words; the bound keeps a hostile stream of new words from growing it for ever
    if (cache.size >= 20_000) cache.clear();
    cache.set(word, ids);
    return ids;
  }

  /** Token ids without start, end and padding. */
  function encode(input: string): number[] {
    return input.split(specialPattern).flatMap((part) => {
      if (specialTokens.includes(part)) return [idOf(part)];
      const normalised = part.normalize('NFC').replace(/\s+/gu, ' ').toLowerCase();
      return (normalised.match(words) ?? []).flatMap((word) => encodeWord(word));
    });
  }

  const maxLength =
    special.model_max_length !== undefined && special.model_max_length < 10_000
      ? special.model_max_length
      : 77;
  const [bosId, eosId, padId] = [idOf(bosToken), idOf(eosToken), idOf(padToken)];
  return {
    maxLength,
    bosId,
    eosId,
    padId,
    encode,
    /** Start, up to `maxLength - 2` ids, end, padding: always `maxLength` long. */
    frame(ids: readonly number[]): number[] {
      const framed = [bosId, ...ids.slice(0, maxLength - 2), eosId];
      return [...framed, ...new Array<number>(maxLength - framed.length).fill(padId)];
    },
    endsWord: (id: number) => (tokenTexts.get(id) ?? '').endsWith(endOfWord),
    /** The token as a person would write it, without the end-of-word mark. */
    tokenText(id: number): string {
      const token = (tokenTexts.get(id) ?? '').replace(endOfWord, '');
      return specialTokens.includes(token)
        ? token
        : Buffer.from(Array.from(token, (symbol) => symbolBytes.get(symbol) ?? 63)).toString('utf8');
    },
  };
}

function mergeAll(symbols: string[], left: string, right: string): string[] {
  const merged: string[] = [];
  for (let i = 0; i < symbols.length; i += 1) {
    if (symbols[i] === left && symbols[i + 1] === right) {
      merged.push(left + right);
      i += 1;
    } else merged.push(symbols[i] as string);
  }
  return merged;
}

function escapeRegExp(text: string): string {
  return text.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
}

/** GPT-2's printable stand-ins for the 256 bytes (openai/gpt-2, src/encoder.py, bytes_to_unicode). */
const byteSymbols: readonly string[] = (() => {
  const printable = (byte: number) =>
    (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || (byte >= 174 && byte <= 255);
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => String.fromCodePoint(printable(byte) ? byte : next++));
})();
const symbolBytes = new Map(byteSymbols.map((symbol, byte) => [symbol, byte]));
