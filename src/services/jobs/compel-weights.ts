import type { WeightedPhrase } from '../../inference/engine-protocol.js';

export const maxWeights = 6;
export const weightRange = { min: 0.1, max: 2.0 } as const;

export interface CompelWeights {
  /** At most six, in the producer's order, each phrase once, weights within 0.1–2.0. */
  weights: WeightedPhrase[];
  dropped: Array<WeightedPhrase & { reason: string }>;
  /** Weights that were moved into the range, as they came. */
  normalised: Array<{ text: string; from: number; to: number }>;
}
export type CompelWeightsResult = ({ valid: true } & CompelWeights) | { valid: false; reason: string };

const decimal = String.raw`[+-]?(?:\d+(?:\.\d*)?|\.\d+)`;
const inside = String.raw`(?:[^()\\]|\\.)*`;
const forms: ReadonlyArray<{ pattern: RegExp; read: (match: RegExpExecArray) => WeightedPhrase }> = [
  // `(red circle:1.3)`, what the producers send
  {
    pattern: new RegExp(`^\\((${inside}):\\s*(${decimal})\\s*\\)$`, 's'),
    read: (match) => phrase(match[1], Number(match[2])),
  },
  // Compel's own: `(red circle)1.3`, `"red circle"1.3`
  {
    pattern: new RegExp(`^\\((${inside})\\)(${decimal})$`, 's'),
    read: (match) => phrase(match[1], Number(match[2])),
  },
  {
    pattern: new RegExp(`^"((?:[^"\\\\]|\\\\.)*)"(${decimal})$`, 's'),
    read: (match) => phrase(match[1], Number(match[2])),
  },
  // Compel's own: `red++`, `(red circle)--`; each sign is a factor of 1.1 or 0.9
  {
    pattern: new RegExp(`^(?:\\((${inside})\\)|([^\\s()"+-]+))(\\++|-+)$`, 's'),
    read: (match) => phrase(match[1] ?? match[2], signs(match[3] ?? '')),
  },
];

/**
 * Reads `compel_weights` by the policy of the service: `(text:1.3), (…)` or Compel's own forms, separated by
 * commas; the same phrase twice (whatever its case) keeps its first place and takes the last weight; weights
 * are clamped to 0.1–2.0; what is beyond six is dropped from the end. One entry that is none of these forms
 * makes the whole field invalid: half a set of weights would draw something nobody asked for.
 */
export function parseCompelWeights(text: string): CompelWeightsResult {
  const entries = splitAtCommas(text);
  if (entries.length === 0) return { valid: false, reason: 'no weight in it' };
  const byPhrase = new Map<string, WeightedPhrase>();
  const dropped: CompelWeights['dropped'] = [];
  for (const entry of entries) {
    const read = readEntry(entry);
    if (read === null)
      return { valid: false, reason: `"${shorten(entry)}" is not of the form (text:weight)` };
    const key = read.text.toLowerCase();
    const earlier = byPhrase.get(key);
    if (earlier !== undefined) dropped.push({ ...earlier, reason: 'the same phrase comes again later' });
    byPhrase.set(key, read);
  }
  const normalised: CompelWeights['normalised'] = [];
  const unique = [...byPhrase.values()].map(({ text: phraseText, weight }) => {
    const clamped = Math.min(weightRange.max, Math.max(weightRange.min, weight));
    if (clamped !== weight) normalised.push({ text: phraseText, from: weight, to: clamped });
    return { text: phraseText, weight: clamped };
  });
  for (const extra of unique.slice(maxWeights))
    dropped.push({ ...extra, reason: `more than ${maxWeights} weights` });
  return { valid: true, weights: unique.slice(0, maxWeights), dropped, normalised };
}

function readEntry(entry: string): WeightedPhrase | null {
  for (const { pattern, read } of forms) {
    const match = pattern.exec(entry);
    if (match === null) continue;
    const result = read(match);
    return result.text !== '' && Number.isFinite(result.weight) ? result : null;
  }
  return null;
}

/** Splits at commas outside parentheses and quotes; empty entries (a trailing comma) do not count. */
function splitAtCommas(text: string): string[] {
  const entries: string[] = [];
  let depth = 0;
  let quoted = false;
  let current = '';
  for (let index = 0; index < text.length; index += 1) {
    const char = text.charAt(index);
    if (char === '\\') {
      current += char + text.charAt(index + 1);
      index += 1;
      continue;
    }
    if (char === '"' && depth === 0) quoted = !quoted;
    else if (char === '(') depth += 1;
    else if (char === ')') depth -= 1;
    if (char === ',' && depth <= 0 && !quoted) {
      entries.push(current);
      current = '';
    } else current += char;
  }
  entries.push(current);
  return entries.map((entry) => entry.trim()).filter((entry) => entry !== '');
}

function phrase(text: string | undefined, weight: number): WeightedPhrase {
  return { text: (text ?? '').replace(/\\(.)/gs, '$1').replace(/\s+/g, ' ').trim(), weight };
}

function signs(run: string): number {
  return Number(((run.startsWith('+') ? 1.1 : 0.9) ** run.length).toFixed(6));
}

function shorten(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text;
}
