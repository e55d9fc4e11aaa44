import { LRUCache } from 'lru-cache';
import { type ParsedPrompt, partsOf } from '../../lib/prompt-weights.js';
import { type Conditioning, conditionPrompt, padToLongest, zeroConditioning } from './conditioning.js';
import type { SdxlModel } from './model.js';
import { type CombinedPrompt, combinePrompt, frameFragments, windowsOfPart } from './prompt.js';
import type { DescribePromptParams, DescribePromptResult, SdxlGenerateParams } from '../generation.js';

export interface EncodedText {
  positive: Conditioning;
  negative: Conditioning;
  combined: CombinedPrompt;
  /** The words the first encoder saw, with their weights; padding left out. */
  tokens: Array<{ token: string; id: number; weight: number }>;
  negativeCut: string;
  /** The same for the negative prompt; empty when it is zeros. */
  negativeTokens: EncodedText['tokens'];
  fromCache: boolean;
}

/** How often texts were found, since the model was loaded. */
interface TextCacheUse {
  entries: number;
  capacity: number;
  hits: number;
  misses: number;
}

/** A prompt of one window takes 1.3 MB with its negative one, the longest 20 MB. */
const mostBytes = 256 * 2 ** 20;

type TextParams = Pick<SdxlGenerateParams, 'prompt' | 'negativePrompt' | 'weights' | 'parseWeights'>;

export type TextCache = ReturnType<typeof createTextCache>;

/** Encodes prompts once: a batch shares one encoding, and a prompt that comes again is not encoded again. */
export function createTextCache(model: SdxlModel, capacity = 64) {
  const entries = new LRUCache<string, EncodedText>({
    max: capacity,
    maxSize: mostBytes,
    sizeCalculation: ({ positive, negative }) => positive.embeds.byteLength + negative.embeds.byteLength,
  });
  let [hits, misses] = [0, 0];

  async function encodeNow({
    prompt,
    negativePrompt,
    weights,
    parseWeights,
  }: TextParams): Promise<EncodedText> {
    const combined = combinePrompt(model, prompt, weights, parseWeights);
    const wanted = await conditionPrompt(model, combined.parsed, combined.plain);
    const against =
      negativePrompt === null && model.zerosForNoNegative
        ? null
        : combinePrompt(model, negativePrompt ?? '', [], parseWeights, 'config.negative_prompt');
    const unwanted =
      against === null
        ? zeroConditioning(wanted)
        : await conditionPrompt(model, against.parsed, against.plain);
    const [positive, negative] = (await padToLongest(model, [wanted, unwanted])) as [
      Conditioning,
      Conditioning,
    ];
    return {
      positive,
      negative,
      combined,
      tokens: listTokens(model, combined),
      negativeCut: against?.cut ?? '',
      negativeTokens: against === null ? [] : listTokens(model, against),
      fromCache: false,
    };
  }

  return {
    async encode(params: TextParams): Promise<EncodedText> {
      const key = JSON.stringify([params.prompt, params.negativePrompt, params.weights, params.parseWeights]);
      const known = entries.get(key);
      if (known !== undefined) {
        hits += 1;
        return { ...known, fromCache: true };
      }
      misses += 1;
      const text = await encodeNow(params);
      entries.set(key, text);
      return text;
    },
    use: (): TextCacheUse => ({ entries: entries.size, capacity, hits, misses }),
  };
}

function listTokens(model: SdxlModel, { parsed }: CombinedPrompt): EncodedText['tokens'] {
  const [encoder] = model.encoders;
  if (encoder === undefined) return [];
  const windows = windowsOfPart(model, parsed);
  return partsOf(parsed)
    .flatMap((fragments) => frameFragments(encoder, fragments, windows))
    .flatMap(({ ids, weights, length }) =>
      ids
        .slice(1, length + 1)
        .map((id, i) => ({ token: encoder.tokenizer.tokenText(id), id, weight: weights[i + 1] ?? 1 })),
    );
}

/** A prompt with its weights where they act; a blend or conjunction has no such form. */
function formatPrompt(parsed: ParsedPrompt): string | null {
  if (parsed.kind !== 'prompt') return null;
  const written = parsed.fragments.map(({ text, weight }) =>
    weight === 1 ? text : `(${text.replace(/[()[\]\\]/g, '\\$&')}:${Number(weight.toFixed(3))})`,
  );
  return written.join(' ').replaceAll(' ,', ',');
}

/** What weights would do to a prompt: counts and shapes, no values (`POST /test-compel`). */
export async function describePrompt(
  model: SdxlModel,
  { prompt, weights, parseWeights }: DescribePromptParams,
): Promise<DescribePromptResult> {
  const combined = combinePrompt(model, prompt, weights, parseWeights);
  const positive = await conditionPrompt(model, combined.parsed, combined.plain);
  const embeds = [1, positive.tokens, positive.embeds.length / positive.tokens];
  const pooled = [1, positive.pooled.length];
  return {
    tokenCount: combined.tokenCount,
    weightsUsed: combined.used,
    weightsDropped: combined.dropped,
    combinedPrompt: formatPrompt(combined.parsed),
    cut: combined.cut,
    tensorShapes: {
      prompt_embeds: embeds,
      pooled_prompt_embeds: pooled,
      negative_prompt_embeds: embeds,
      negative_pooled_prompt_embeds: pooled,
    },
    tokens: listTokens(model, combined),
  };
}
