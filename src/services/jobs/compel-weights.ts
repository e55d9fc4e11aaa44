import type { WeightedPhrase } from '../../inference/generation.js';
import { parseWeightList } from '../../lib/prompt-weights.js';

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
}
export type CompelWeightsResult = ({ valid: true } & CompelWeights) | { valid: false; reason: string };

/**
 * Reads `compel_weights` by the policy of the service: `(text:1.3), (…)` or Compel's own forms, separated by
 * commas; the same phrase twice (whatever its case) keeps its first place and takes the last weight; weights
 * are clamped to 0.1–2.0; what is beyond six is dropped from the end. One entry that is none of these forms
 * makes the whole field invalid: half a set of weights would draw something nobody asked for.
 */
export function parseCompelWeights(text: string): CompelWeightsResult {
  const { weights: read, malformed } = parseWeightList(text);
  if (malformed !== undefined)
    return { valid: false, reason: `entry ${read.length + 1} is not of the form (text:weight)` };
  if (read.length === 0) return { valid: false, reason: 'no weight in it' };
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
  return { valid: true, weights: unique.slice(0, maxWeights), dropped, normalised };
}

/** A weighted phrase as producers write it. */
export function formatWeight({ text, weight }: WeightedPhrase): string {
  return `(${text}:${weight})`;
}
