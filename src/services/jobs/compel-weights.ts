import type { SdxlGenerateResult, WeightedPhrase } from '../../inference/generation.js';
import {
  decimal,
  type Fragment,
  isRatio,
  type PromptNote,
  quoted,
  signFactor,
} from '../../lib/prompt-weights.js';
import type { FieldNotes } from './plan.js';

export const maxWeights = 6;
/** Why an instance applies none. */
export const compelOff = 'Compel is switched off on this instance (COMPEL=off)';
export const weightRange = { min: 0.1, max: 2.0 } as const;

export interface CompelWeights {
  /** At most six, in the producer's order, each phrase once, weights within 0.1–2.0. */
  weights: WeightedPhrase[];
  dropped: Array<WeightedPhrase & { reason: string }>;
  /** Weights that were moved into the range, as they came. */
  normalised: Array<{ text: string; from: number; to: number }>;
  /** All of that, and what was left out before, in words. */
  notes: PromptNote[];
}
export type CompelWeightsResult =
  ({ valid: true } & CompelWeights) | { valid: false; reason: string; notes: PromptNote[] };

/**
 * Reads `compel_weights` by the policy of the service: `(text:1.3), (…)` or Compel's own forms, separated by
 * commas; the same phrase twice (whatever its case) keeps its first place and takes the last weight; weights
 * are clamped to 0.1–2.0; what is beyond six is dropped from the end, and so is an entry that is none of these
 * forms. Without one that is, the field is invalid.
 */
export function parseCompelWeights(text: string): CompelWeightsResult {
  const { text: rest, notes: leftOut } = dropTags(text);
  const { weights: read, malformed } = parseWeightList(rest);
  leftOut.push(...malformed.map(({ entry, why }) => ({ text: entry, note: `is dropped: it ${why}` })));
  if (read.length === 0) {
    const [first] = malformed;
    const reason = first === undefined ? 'no weight in it' : `entry 1 ${first.why}`;
    return { valid: false, reason, notes: leftOut };
  }
  const byPhrase = new Map<string, WeightedPhrase>();
  const dropped: CompelWeights['dropped'] = [];
  for (const weighted of read) {
    const key = weighted.text.toLowerCase();
    const earlier = byPhrase.get(key);
    if (earlier !== undefined) dropped.push({ ...earlier, reason: 'the same phrase comes again later' });
    byPhrase.set(key, weighted);
  }
  const normalised: CompelWeights['normalised'] = [];
  const unique = [...byPhrase.values()].map(({ text: phraseText, weight }) => {
    const clamped = Math.min(weightRange.max, Math.max(weightRange.min, weight));
    if (clamped !== weight) normalised.push({ text: phraseText, from: weight, to: clamped });
    return { text: phraseText, weight: clamped };
  });
  for (const extra of unique.slice(maxWeights))
    dropped.push({ ...extra, reason: `more than ${maxWeights} weights` });
  const notes = [
    ...leftOut,
    ...normalised.map(({ from, to, ...phrase }) => ({
      text: formatWeight({ ...phrase, weight: from }),
      note: `counts ${to}`,
    })),
    ...dropped.map(dropNote),
  ];
  return { valid: true, weights: unique.slice(0, maxWeights), dropped, normalised, notes };
}

const dropNote = ({ reason, ...phrase }: WeightedPhrase & { reason: string }): PromptNote => ({
  text: formatWeight(phrase),
  note: `is dropped: ${reason}`,
});

/** A weighted phrase as producers write it. */
export function formatWeight({ text, weight }: WeightedPhrase): string {
  return `(${text}:${weight})`;
}

const bracketed = String.raw`\(((?:[^()\\]|\\.)*)\)`;
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
 * @returns as `malformed` the entries that are not one weighted phrase each
 */
export function parseWeightList(text: string) {
  const weights: Fragment[] = [];
  const malformed: Array<{ entry: string; /** In words that follow "it". */ why: string }> = [];
  for (const entry of splitAtCommas(text)) {
    const match = listForms.map((form) => form.exec(entry)).find((found) => found !== null);
    const [, words = '', sign = ''] = match ?? [];
    const phrase = words.replace(/\\(.)/gs, '$1').replace(/\s+/g, ' ').trim();
    const weight = /\d/.test(sign) ? Number(sign) : Number(signFactor(sign).toFixed(6));
    if (match === undefined || phrase === '')
      malformed.push({ entry, why: 'is not of the form (text:weight)' });
    else if (!Number.isFinite(weight)) malformed.push({ entry, why: 'has a number too large to count' });
    else if (isRatio(phrase, sign)) malformed.push({ entry, why: 'looks like a ratio or a time' });
    else weights.push({ text: phrase, weight });
  }
  return { weights, malformed };
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

/** Tags by which other tools load something. Nothing is loaded here, and their words are nobody's. */
const loadingTag = new RegExp(
  String.raw`<\s*(?:lora|lyco|locon|loha|hypernet|ti|embedding)\s*:[^<>]{0,200}>` +
    // A weight of theirs has nothing to act on.
    String.raw`(?:(?:\++|-+|\.attend\([\d.\s]{0,20}\))(?=[\s,.;:!?)\]"]|$))?`,
  'giu',
);

export function dropTags(text: string): { text: string; notes: PromptNote[] } {
  const notes: PromptNote[] = [];
  const rest = text.replaceAll(loadingTag, (tag) => {
    notes.push({ text: tag, note: 'is left out: nothing is loaded by a prompt here' });
    return ' ';
  });
  if (notes.length === 0) return { text, notes };
  const joined = rest
    .replace(/\s+/gu, ' ')
    .replace(/(?:, ?){2,}/g, ', ')
    .replace(/ ,/g, ',');
  return { text: joined.replace(/^[ ,]+/, '').replace(/[ ,]+$/, ''), notes };
}

/** What only the engine can tell: it counts the tokens. */
export function engineNotes({
  weightsDropped,
  cut,
  negativeCut,
}: Pick<SdxlGenerateResult, 'weightsDropped' | 'cut' | 'negativeCut'>): FieldNotes {
  const cutNote = (text = '') => (text === '' ? [] : [{ text, note: 'is cut off: the window is full' }]);
  return [
    ['compel_weights', weightsDropped.map(dropNote)],
    ['prompt', cutNote(cut)],
    ['config.negative_prompt', cutNote(negativeCut)],
  ];
}
