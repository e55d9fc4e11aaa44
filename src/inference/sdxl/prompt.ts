import { parsePrompt, plainText, type Fragment, type ParsedPrompt } from '../../lib/prompt-weights.js';
import { clipWindow, type WeightedPhrase } from '../generation.js';
import type { SdxlModel } from './model.js';
import { countTokens } from './windows.js';

/** A prompt with the job's weights worked in, and what became of each. */
export interface CombinedPrompt {
  parsed: ParsedPrompt;
  /** Words alone; what the pooled vector is taken of. */
  plain: string;
  used: WeightedPhrase[];
  dropped: Array<WeightedPhrase & { reason: string }>;
  /** Tokens of the longer of the two tokenizations, start and end included. */
  tokenCount: number;
  truncated: boolean;
}

/**
 * Works weights into a prompt: a phrase the prompt contains is weighted where it stands, any other is
 * appended (`prompt, phrase`). Appended ones that would overrun the window are dropped from the end; the
 * prompt itself is never cut to make room (spec section 5). In place, because a phrase said twice is drawn
 * twice.
 */
export function combinePrompt(
  model: SdxlModel,
  prompt: string,
  weights: readonly WeightedPhrase[],
  parseWeights: boolean,
): CombinedPrompt {
  const base: ParsedPrompt = parseWeights
    ? parsePrompt(prompt)
    : { kind: 'prompt', fragments: [{ text: prompt.trim(), weight: 1 }] };
  const window = model.encoders[0]?.tokenizer.maxLength ?? clipWindow;
  // Chunked prompts get as many windows as they need: nothing overruns.
  const limit = model.longPrompts === 'chunk' ? Infinity : window;
  const count = (fragments: readonly Fragment[]) =>
    Math.max(...model.encoders.map((encoder) => countTokens(encoder, fragments)));
  if (base.kind !== 'prompt') {
    const longest = Math.max(...base.prompts.map((fragments) => count(fragments)));
    return {
      parsed: base,
      plain: plainText(base),
      used: [],
      dropped: weights.map((phrase) => ({ ...phrase, reason: 'the prompt is a blend or conjunction' })),
      tokenCount: longest,
      truncated: longest > limit,
    };
  }

  let fragments = base.fragments;
  const used: WeightedPhrase[] = [];
  const dropped: CombinedPrompt['dropped'] = [];
  const appended: WeightedPhrase[] = [];
  for (const phrase of weights) {
    const placed = weighInPlace(fragments, phrase);
    if (placed === null) appended.push(phrase);
    else {
      fragments = placed;
      used.push(phrase);
    }
  }
  let full = false;
  for (const phrase of appended) {
    const longer = [...fragments, { text: ',', weight: 1 }, { text: phrase.text, weight: phrase.weight }];
    full ||= count(longer) > limit;
    if (full) dropped.push({ ...phrase, reason: `the prompt would have more than ${window} tokens` });
    else {
      fragments = longer;
      used.push(phrase);
    }
  }
  const parsed: ParsedPrompt = { kind: 'prompt', fragments };
  const tokenCount = count(fragments);
  return {
    parsed,
    plain: plainText(parsed),
    used: weights.filter((phrase) => used.includes(phrase)),
    dropped,
    tokenCount,
    truncated: tokenCount > limit,
  };
}

/** Splits the neutral fragment that holds the phrase as whole words; null when none does. */
function weighInPlace(fragments: readonly Fragment[], phrase: WeightedPhrase): Fragment[] | null {
  const words = phrase.text
    .trim()
    .split(/\s+/u)
    .map((word) => word.replace(/[\\^$.*+?()[\]{}|]/gu, '\\$&'));
  const pattern = new RegExp(`(?<![\\p{L}\\p{N}])${words.join('\\s+')}(?![\\p{L}\\p{N}])`, 'iu');
  for (const [i, fragment] of fragments.entries()) {
    const match = fragment.weight === 1 ? pattern.exec(fragment.text) : null;
    if (match === null) continue;
    const parts: Fragment[] = [
      { text: fragment.text.slice(0, match.index).trim(), weight: 1 },
      { text: match[0], weight: phrase.weight },
      { text: fragment.text.slice(match.index + match[0].length).trim(), weight: 1 },
    ];
    return [...fragments.slice(0, i), ...parts.filter(({ text }) => text !== ''), ...fragments.slice(i + 1)];
  }
  return null;
}
