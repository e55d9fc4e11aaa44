import { decodeHTML } from 'entities';
import { LRUCache } from 'lru-cache';
import type { WanModel } from './model.js';
import { truncateIds } from '../diffusion/tokenizers.js';
import type { Values } from '../onnx/session.js';

export interface EncodedPrompt {
  /** [maxLength, width]; rows beyond the text are zeros, which the transformer attends to like any others. */
  embeds: Float32Array;
  /** Tokens with the end token, before truncation. */
  tokenCount: number;
  truncated: boolean;
  /** What was encoded, without padding. */
  ids: number[];
}

/** Texts of few different lengths let a GPU provider keep what it compiled. */
const lengthStep = 64;

/**
 * Text of a prompt as Wan conditions on it. The encoder's mask hides padding exactly, so only as much of it
 * is computed as rounds the length up.
 */
export async function encodePrompt(model: WanModel, prompt: string): Promise<EncodedPrompt> {
  const { tokenizer } = model;
  const all = tokenizer.encode(cleanPrompt(prompt));
  const ids = truncateIds(all, tokenizer.maxLength);
  const rows = Math.min(tokenizer.maxLength, Math.ceil(ids.length / lengthStep) * lengthStep);
  const padded = (values: readonly number[]) => ({
    data: [...values, ...new Array<number>(rows - ids.length).fill(0)],
    dims: [1, rows],
  });
  const { last_hidden_state: hidden } = await model.textEncoder.run(
    { input_ids: padded(ids), attention_mask: padded(ids.map(() => 1)) },
    ['last_hidden_state'],
  );
  const width = hidden.data.length / rows;
  const embeds = new Float32Array(tokenizer.maxLength * width);
  embeds.set(hidden.data.subarray(0, ids.length * width));
  return { embeds, tokenCount: all.length, truncated: all.length > ids.length, ids };
}

/**
 * The transformer's inputs for texts [B, S, width]: what of them does not depend on the time is computed here, once a
 * job.
 */
export async function textInputs(
  { textProjection }: WanModel,
  embeds: Values,
): Promise<Record<string, Values>> {
  const given = { encoder_hidden_states: embeds };
  return textProjection === null ? given : textProjection.run(given, ['text_states']);
}

export type PromptCache = ReturnType<typeof createPromptCache>;

/** Encodes a text once: the negative prompt of every job, and prompts that come again. */
export function createPromptCache(model: WanModel, capacity = 16) {
  const entries = new LRUCache<string, EncodedPrompt>({ max: capacity });
  return async (prompt: string): Promise<EncodedPrompt> => {
    const encoded = entries.get(prompt) ?? (await encodePrompt(model, prompt));
    entries.set(prompt, encoded);
    return encoded;
  };
}

/**
 * A prompt as Wan reads it: curly quotes straight, HTML entities decoded twice, runs of white space one
 * blank, trimmed; capitals stay. Source: diffusers, pipeline_wan.py (basic_clean, whitespace_clean). Of
 * ftfy.fix_text, which runs first there, only the quotes are done here: ligatures, wide letters and control
 * characters are the tokenizer's to fold, and text decoded with the wrong character set is not repaired.
 */
export function cleanPrompt(text: string): string {
  const straight = text.replace(/[\u02bc\u2018-\u201b]/gu, "'").replace(/[\u201c-\u201f]/gu, '"');
  // JavaScript's \s lacks the next-line character, which Python's has
  return decodeHTML(decodeHTML(straight))
    .replace(/[\s\u0085]+/gu, ' ')
    .trim();
}
