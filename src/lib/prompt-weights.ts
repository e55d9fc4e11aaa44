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

/** `both` reads both syntaxes; `compel` is Compel 2.4's own reading, for comparison with it. */
export type WeightSyntax = 'both' | 'compel';

const up = 1.1;
const down = 0.9;
/** A1111: one bracket divides by 1.1. */
const bracket = 1 / 1.1;
/** Beyond it the encoders' rows are so far from anything trained that the picture is noise. */
const largestWeight = 10;
/** Deeper brackets are read as text: nobody writes them, and every level costs a call. */
const deepestNesting = 50;

export function parsePrompt(text: string, syntax: WeightSyntax = 'both'): ParsedPrompt {
  const combined = parseCombination(text, syntax);
  if (combined !== null) return combined;
  return { kind: 'prompt', fragments: parseFragments(text, syntax) };
}

/** The words of a prompt without its syntax, as they reach the tokenizer. */
export function plainText(parsed: ParsedPrompt): string {
  const lists = parsed.kind === 'prompt' ? [parsed.fragments] : parsed.prompts;
  return lists.map((fragments) => fragments.map(({ text }) => text).join(' ')).join(' ');
}

const combinationPattern =
  /^\s*\(\s*((?:"(?:[^"\\]|\\.)*"\s*,\s*)*"(?:[^"\\]|\\.)*")\s*\)\s*\.(and|blend)\(\s*([^()]*)\)\s*$/su;

function parseCombination(text: string, syntax: WeightSyntax): ParsedPrompt | null {
  const match = combinationPattern.exec(text);
  if (match === null) return null;
  const prompts = [...(match[1] as string).matchAll(/"((?:[^"\\]|\\.)*)"/gsu)].map(([, inner]) =>
    parseFragments(inner as string, syntax),
  );
  const terms = (match[3] as string)
    .split(',')
    .map((term) => term.trim())
    .filter((term) => term !== '');
  const normalise = !terms.includes('no_normalize');
  const weights = terms.filter((term) => term !== 'no_normalize').map(Number);
  if (weights.some((weight) => !Number.isFinite(weight))) return null;
  if (match[2] === 'and')
    return weights.length > 0 && weights.length !== prompts.length
      ? null
      : { kind: 'and', prompts, weights: weights.length > 0 ? weights : prompts.map(() => 1) };
  return weights.length === prompts.length ? { kind: 'blend', prompts, weights, normalise } : null;
}

function parseFragments(text: string, syntax: WeightSyntax): Fragment[] {
  const fragments: Fragment[] = [];
  read({ text, syntax, weight: 1, depth: 0, fragments });
  return fuse(
    syntax === 'both'
      ? fragments.map(({ text: words, weight }) => ({ text: words, weight: Math.min(weight, largestWeight) }))
      : fragments,
  );
}

interface Reading {
  text: string;
  syntax: WeightSyntax;
  weight: number;
  depth: number;
  fragments: Fragment[];
}

/** Reads one level of nesting; deeper levels are read with the weight multiplied. */
function read({ text, syntax, weight, depth, fragments }: Reading): void {
  let plain = '';
  const flush = () => {
    if (plain !== '') fragments.push({ text: plain, weight });
    plain = '';
  };
  let at = 0;
  while (at < text.length) {
    const char = text[at] as string;
    if (char === '\\' && /[()[\]"\\]/.test(text[at + 1] ?? '')) {
      plain += text.slice(at, at + 2);
      at += 2;
      continue;
    }
    if (depth < deepestNesting && (char === '(' || (char === '[' && syntax === 'both'))) {
      const close = matching(text, at);
      if (close > 0) {
        flush();
        const group = readGroup(text, at, close, syntax);
        read({ text: group.text, syntax, weight: weight * group.factor, depth: depth + 1, fragments });
        at = group.end;
        continue;
      }
    }
    if (char === '"') {
      const close = closingQuote(text, at);
      if (close > 0) {
        const suffix = readSuffix(text, close + 1);
        flush();
        fragments.push({ text: text.slice(at + 1, close), weight: weight * (suffix?.factor ?? 1) });
        at = suffix?.end ?? close + 1;
        continue;
      }
    }
    const word = readWeightedWord(text, at);
    if (word !== null) {
      flush();
      fragments.push({ text: word.text, weight: weight * word.factor });
      at = word.end;
      continue;
    }
    plain += char;
    at += 1;
  }
  flush();
}

function readGroup(
  text: string,
  open: number,
  close: number,
  syntax: WeightSyntax,
): { text: string; factor: number; end: number } {
  const inner = text.slice(open + 1, close);
  if (text[open] === '[') return { text: inner, factor: bracket, end: close + 1 };
  const colon = syntax === 'both' ? /^(.*):\s*(\d+(?:\.\d+)?|\.\d+)\s*$/su.exec(inner) : null;
  if (colon !== null && !/\\$/.test(colon[1] as string))
    return { text: colon[1] as string, factor: Number(colon[2]), end: close + 1 };
  const suffix = readSuffix(text, close + 1);
  if (suffix !== null) return { text: inner, ...suffix };
  return { text: inner, factor: syntax === 'both' ? up : 1, end: close + 1 };
}

/** `++`, `--`, `1.3` or `.attend(1.3)` right behind a bracket or quote. */
function readSuffix(text: string, at: number): { factor: number; end: number } | null {
  const rest = text.slice(at, at + 64);
  const attend = /^\.attend\(\s*(\d+(?:\.\d+)?|\.\d+)\s*\)/u.exec(rest);
  if (attend !== null) return { factor: Number(attend[1]), end: at + attend[0].length };
  const signs = /^(?:\++|-+)/u.exec(rest);
  if (signs !== null) return { factor: signFactor(signs[0]), end: at + signs[0].length };
  const number = /^(?:\d+(?:\.\d+)?|\.\d+)/u.exec(rest);
  return number === null ? null : { factor: Number(number[0]), end: at + number[0].length };
}

/** Each sign is a factor. */
function signFactor(signs: string): number {
  return (signs.startsWith('+') ? up : down) ** signs.length;
}

/** A bare word can only take signs or `.attend()`; a hyphen inside a word is none. */
function readWeightedWord(text: string, at: number): { text: string; factor: number; end: number } | null {
  if (at > 0 && !/[\s,(["]/u.test(text[at - 1] as string)) return null;
  const word =
    /^[^\s()[\]"\\+,-](?:[^\s()[\]"\\+,]*?[^\s()[\]"\\+,.-])??(?=\++|-+(?:[\s,.;:!?)\]]|$)|\.attend\()/u.exec(
      text.slice(at, at + 256),
    )?.[0];
  if (word === undefined) return null;
  const suffix = readSuffix(text, at + word.length);
  if (suffix === null || !/^(?:[\s,.;:!?)\]"]|$)/u.test(text.slice(suffix.end, suffix.end + 1))) return null;
  return { text: word, ...suffix };
}

/** Index of the bracket that closes the one at `open`, or -1. Escapes and quotes are skipped. */
function matching(text: string, open: number): number {
  const opening = text[open] as string;
  const closing = opening === '(' ? ')' : ']';
  let depth = 0;
  for (let i = open; i < text.length; i += 1) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === opening) depth += 1;
    else if (text[i] === closing) {
      depth -= 1;
      if (depth === 0) return i;
    }
  }
  return -1;
}

function closingQuote(text: string, open: number): number {
  for (let i = open + 1; i < text.length; i += 1) {
    if (text[i] === '\\') i += 1;
    else if (text[i] === '"') return i;
  }
  return -1;
}

/** Trims, drops empty pieces and joins neighbours of equal weight by one blank, as Compel does. */
function fuse(fragments: Fragment[]): Fragment[] {
  const fused: Fragment[] = [];
  for (const { text, weight } of fragments) {
    const clean = text.replace(/\\([()[\]"\\])/gu, '$1').trim();
    if (clean === '') continue;
    const last = fused.at(-1);
    if (last !== undefined && last.weight === weight) last.text += ` ${clean}`;
    else fused.push({ text: clean, weight });
  }
  return fused.length === 0 ? [{ text: '', weight: 1 }] : fused;
}

const quoted = String.raw`"((?:[^"\\]|\\.)*)"`;
const bracketed = String.raw`\(((?:[^()\\]|\\.)*)\)`;
const decimal = String.raw`[+-]?(?:\d+(?:\.\d*)?|\.\d+)`;
/** `(red circle:1.3)`; `(red circle)1.3` and `"red circle"1.3`; `red++` and `(red circle)--`. */
const listForms = [
  String.raw`\(((?:[^()\\]|\\.)*):\s*(${decimal})\s*\)`,
  `${bracketed}(${decimal})`,
  `${quoted}(${decimal})`,
  String.raw`${bracketed}(\++|-+)`,
  String.raw`([^\s()"+-]+)(\++|-+)`,
].map((form) => new RegExp(`^${form}$`, 's'));

/**
 * Reads weights separated by commas, as `compel_weights` holds them, in their order and of any size.
 * @returns the first entry that is not one weighted phrase as `malformed`, if there is one
 */
export function parseWeightList(text: string): { weights: Fragment[]; malformed?: string } {
  const weights: Fragment[] = [];
  for (const entry of splitAtCommas(text)) {
    const match = listForms.map((form) => form.exec(entry)).find((found) => found !== null);
    const [, words = '', sign = ''] = match ?? [];
    const phrase = words.replace(/\\(.)/gs, '$1').replace(/\s+/g, ' ').trim();
    const weight = /\d/.test(sign) ? Number(sign) : Number(signFactor(sign).toFixed(6));
    if (phrase === '' || !Number.isFinite(weight)) return { weights, malformed: entry };
    weights.push({ text: phrase, weight });
  }
  return { weights };
}

/** Splits at commas outside parentheses and quotes; empty entries (a trailing comma) do not count. */
function splitAtCommas(text: string): string[] {
  const entries: string[] = [];
  let [start, depth, inQuotes] = [0, 0, false];
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (char === '\\') at += 1;
    else if (char === '"' && depth === 0) inQuotes = !inQuotes;
    else if (char === '(') depth += 1;
    else if (char === ')') depth -= 1;
    else if (char === ',' && depth <= 0 && !inQuotes) {
      entries.push(text.slice(start, at));
      start = at + 1;
    }
  }
  return [...entries, text.slice(start)].map((entry) => entry.trim()).filter((entry) => entry !== '');
}
