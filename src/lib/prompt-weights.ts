/**
 * Prompt weight syntax: Compel's (`word++`, `(two words)1.2`, `"quoted"0.8`, `.and()`, `.blend()`) and the
 * one of A1111-style tools (`(text:1.3)`, `((text))`, `[text]`). docs/prompt-weights.md states every form
 * with an example. In a prompt, what is not well-formed is plain text; a list of weights is read strictly.
 */

/** Text whose tokens share a weight. */
export interface Fragment {
  text: string;
  weight: number;
}

export type ParsedPrompt =
  | { kind: 'prompt'; fragments: Fragment[] }
  /** Weighted mean of whole conditionings; weights are divided by their sum unless `normalise` is false. */
  | { kind: 'blend'; prompts: Fragment[][]; weights: number[]; normalise: boolean }
  /** Conditionings one after another on the token axis. */
  | { kind: 'and'; prompts: Fragment[][]; weights: number[] };

/** A piece of a prompt that was dropped, cut, or does not act as it looks, and what became of it. */
export interface PromptNote {
  text: string;
  note: string;
}

/** `both` reads both syntaxes; `compel` is Compel 2.4's own reading, for comparison with it. */
export type WeightSyntax = 'both' | 'compel';

const up = 1.1;
const down = 0.9;
/** A1111: one bracket divides by 1.1. */
const bracket = 1 / 1.1;
/** Beyond it the encoders' rows are so far from anything trained that the picture is noise. */
const largestWeight = 10;
/** Rarely meant; worth a note. */
const strongWeight = 2;
/** Deeper brackets are read as text: nobody writes them, and every level costs a call. */
const deepestNesting = 50;

/** @param notes gets what is bounded, or is text although it looks like a weight */
export function parsePrompt(
  text: string,
  syntax: WeightSyntax = 'both',
  notes: PromptNote[] = [],
): ParsedPrompt {
  return (
    parseCombination(text, syntax, notes) ?? {
      kind: 'prompt',
      fragments: parseFragments(text, syntax, notes),
    }
  );
}

/** The fragments of each part; a plain prompt is its only part. */
export function partsOf(parsed: ParsedPrompt): Fragment[][] {
  return parsed.kind === 'prompt' ? [parsed.fragments] : parsed.prompts;
}

/** The words of a prompt without its syntax, as they reach the tokenizer. */
export function plainText(parsed: ParsedPrompt): string {
  const texts = partsOf(parsed).flatMap((part) => part.map(({ text }) => text));
  return texts.join(' ');
}

/** The same with nothing in the syntax's place: `for(bidden)` is `forbidden`, as it looks to a reader. */
export function cutSyntax(text: string): string {
  const parts = combinationPattern.exec(text)?.[1];
  const cut = (part: string) => readFragments(part, 'both').map((fragment) => fragment.text);
  return (parts === undefined ? [text] : quotedTexts(parts)).map((part) => cut(part).join('')).join(' ');
}

/** A weight as prompts and `compel_weights` write it. */
export const decimal = String.raw`[+-]?(?:\d+(?:\.\d*)?|\.\d+)`;
const colonWeight = new RegExp(String.raw`^(.*):\s*(${decimal})\s*$`, 'su');

/** `(2:3)`, `(at 10:30)`: a ratio or a time, and no weight. */
export function isRatio(words: string, number: string): boolean {
  return /^[\s.,:]*\d[\s\d.,:]*$/.test(words) || (isWhole(number) && endsInDigit(words));
}
const isWhole = (number: string) => /^\d+$/.test(number);
const endsInDigit = (words: string) => /\d\s*$/.test(words);

/** Among words `(psalm:119)` and `(:3)` are no weights, either. */
const isProse = (words: string, number: string) =>
  isRatio(words, number) || (isWhole(number) && (words.trim() === '' || Number(number) > largestWeight));

const escaped = /\\([()[\]"\\])/gu;
export const quoted = String.raw`"((?:[^"\\]|\\.)*)"`;
const quotedPattern = new RegExp(quoted, 'gsu');
const quoteHere = new RegExp(quoted, 'suy');
const combinationPattern = new RegExp(
  String.raw`^\s*\(\s*((?:${quoted}\s*,\s*)*${quoted})\s*\)\s*\.(?<kind>and|blend)\((?<terms>[^()]*)\)\s*$`,
  'su',
);

function parseCombination(text: string, syntax: WeightSyntax, notes: PromptNote[]): ParsedPrompt | null {
  const match = combinationPattern.exec(text);
  if (match?.groups === undefined) return null;
  const { groups } = match;
  const prompts = quotedTexts(match[1]).map((inner) => parseFragments(inner, syntax, notes));
  const terms = (groups['terms'] as string).split(',').map((term) => term.trim());
  const limit = largestOf(syntax);
  const weights = terms
    .filter((term) => term !== '' && term !== 'no_normalize')
    .map((term) => Math.max(-limit, Math.min(Number(term), limit)));
  const isAnd = groups['kind'] === 'and';
  if (isAnd && weights.length === 0) return { kind: 'and', prompts, weights: prompts.map(() => 1) };
  if (weights.length !== prompts.length || !weights.every(Number.isFinite)) return null;
  return isAnd
    ? { kind: 'and', prompts, weights }
    : { kind: 'blend', prompts, weights, normalise: !terms.includes('no_normalize') };
}

const quotedTexts = (list = '') => [...list.matchAll(quotedPattern)].map(([, inner = '']) => inner);

function parseFragments(text: string, syntax: WeightSyntax, notes: PromptNote[]): Fragment[] {
  return fuse(readFragments(text, syntax, notes), largestOf(syntax), notes);
}

function readFragments(text: string, syntax: WeightSyntax, notes: PromptNote[] = []): Fragment[] {
  const fragments: Fragment[] = [];
  read({ text, syntax, closing: closingBrackets(text), fragments, notes }, 0, text.length, 1, 0);
  return fragments.map(({ text: words, weight }) => ({ text: words.replace(escaped, '$1'), weight }));
}

const largestOf = (syntax: WeightSyntax) => (syntax === 'both' ? largestWeight : Infinity);

interface Reading {
  text: string;
  syntax: WeightSyntax;
  closing: ReadonlyMap<number, number>;
  fragments: Fragment[];
  notes: PromptNote[];
}

/** Words of the text with their syntax, which ends before `end`. */
interface Piece {
  from: number;
  to: number;
  factor: number;
  end: number;
  /** The words may hold weights themselves. */
  nested: boolean;
}

/** Reads one level of nesting, `from` to `to`; deeper levels are read with the weight multiplied. */
function read(reading: Reading, from: number, to: number, weight: number, depth: number): void {
  const { text, fragments } = reading;
  let plain = '';
  const flush = () => {
    if (plain !== '') fragments.push({ text: plain, weight });
    plain = '';
  };
  for (let at = from; at < to;) {
    const group = depth < deepestNesting ? readGroup(reading, at, to) : null;
    const piece = group ?? readQuote(text, at, to) ?? readWeightedWord(text, at, from, to);
    if (piece === null) {
      const length = text[at] === '\\' && at + 1 < to && /[()[\]"\\]/.test(text[at + 1] as string) ? 2 : 1;
      plain += text.slice(at, at + length);
      at += length;
      continue;
    }
    flush();
    if (text.slice(piece.from, piece.to).trim() === '')
      reading.notes.push({ text: text.slice(at, piece.end), note: 'is left out: it has no words' });
    if (piece.nested) read(reading, piece.from, piece.to, weight * piece.factor, depth + 1);
    else fragments.push({ text: text.slice(piece.from, piece.to), weight: weight * piece.factor });
    at = piece.end;
  }
  flush();
}

function readGroup({ text, syntax, closing, notes }: Reading, at: number, to: number): Piece | null {
  const close = closing.get(at) ?? to;
  if (close >= to || (text[at] === '[' && syntax === 'compel')) return null;
  const group = { from: at + 1, to: close, end: close + 1, nested: true };
  const whole = text.slice(at, close + 1);
  if (text[at] === '[') return { ...group, factor: bracket };
  const [, words = '\\', number = ''] =
    syntax === 'both' ? (colonWeight.exec(text.slice(at + 1, close)) ?? []) : [];
  if (words.endsWith('\\'))
    return { ...group, factor: syntax === 'both' ? up : 1, ...readSuffix(text, close + 1, to) };
  if (isProse(words, number)) {
    notes.push({ text: whole, note: 'is read as text, not as a weight' });
    return null;
  }
  if (endsInDigit(words))
    notes.push({ text: whole, note: `is read as a weight of ${number}, not as a ratio` });
  if (Number(number) < 0) notes.push({ text: whole, note: 'has a weight of 0, the least' });
  return { ...group, to: at + 1 + words.length, factor: Math.max(0, Number(number)) };
}

function readQuote(text: string, at: number, to: number): Piece | null {
  quoteHere.lastIndex = at;
  const end = at + (quoteHere.exec(text)?.[0].length ?? Infinity);
  if (end > to) return null;
  return { from: at + 1, to: end - 1, factor: 1, end, nested: false, ...readSuffix(text, end, to) };
}

/** `++`, `--`, `1.3` or `.attend(1.3)` right behind a bracket or quote. */
function readSuffix(text: string, at: number, to: number): { factor: number; end: number } | null {
  const rest = text.slice(at, Math.min(at + 64, to));
  const attend = /^\.attend\(\s*(\d+(?:\.\d+)?|\.\d+)\s*\)/u.exec(rest);
  if (attend !== null) return { factor: Number(attend[1]), end: at + attend[0].length };
  const signs = /^(?:\++|-+)/u.exec(rest);
  if (signs !== null) return { factor: signFactor(signs[0]), end: at + signs[0].length };
  const number = /^(?:\d+(?:\.\d+)?|\.\d+)/u.exec(rest);
  return number === null ? null : { factor: Number(number[0]), end: at + number[0].length };
}

/** Each sign is a factor. */
export function signFactor(signs: string): number {
  return (signs.startsWith('+') ? up : down) ** signs.length;
}

/** A bare word can only take signs or `.attend()`; a hyphen inside a word is none. */
function readWeightedWord(text: string, at: number, from: number, to: number): Piece | null {
  if (at > from && !/[\s,(["]/u.test(text[at - 1] as string)) return null;
  const word = weightedWord.exec(text.slice(at, Math.min(at + 256, to)))?.[0];
  if (word === undefined) return null;
  const suffix = readSuffix(text, at + word.length, to);
  if (suffix === null || (suffix.end < to && !/[\s,.;:!?)\]"]/u.test(text[suffix.end] as string)))
    return null;
  return { from: at, to: at + word.length, nested: false, ...suffix };
}
const weightedWord =
  /^[^\s()[\]"\\+,-](?:[^\s()[\]"\\+,]*?[^\s()[\]"\\+,.-])??(?=\++|-+(?:[\s,.;:!?)\]]|$)|\.attend\()/u;

/** Indices of closing brackets by those of opening ones; escaped and unmatched ones are left out. */
function closingBrackets(text: string): Map<number, number> {
  const closing = new Map<number, number>();
  const open = { '(': [] as number[], '[': [] as number[] };
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (char === '\\') at += 1;
    else if (char === '(' || char === '[') open[char].push(at);
    else if (char === ')' || char === ']') {
      const partner = open[char === ')' ? '(' : '['].pop();
      if (partner !== undefined) closing.set(partner, at);
    }
  }
  return closing;
}

/** Trims, drops empty pieces and joins neighbours of equal weight by one blank, as Compel does. */
function fuse(fragments: readonly Fragment[], largest: number, notes: PromptNote[]): Fragment[] {
  const fused: Fragment[] = [];
  for (const { text, weight: given } of fragments) {
    const weight = Math.min(given, largest);
    const clean = text.trim();
    if (given > largest) notes.push({ text: clean, note: `has a weight of ${largest}, the largest` });
    else if (given > strongWeight) notes.push({ text: clean, note: `has a weight of ${given}` });
    const last = fused.at(-1);
    if (clean === '') continue;
    if (last?.weight === weight) last.text += ` ${clean}`;
    else fused.push({ text: clean, weight });
  }
  return fused.length === 0 ? [{ text: '', weight: 1 }] : fused;
}
